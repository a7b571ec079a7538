import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from openpyxl import Workbook

from cli.main import main
from pii_finetune import __version__
from pii_finetune.records import ANSWERS
from pii_finetune.score_table import ScoreReport

PROGRAM = Path(sys.executable).with_name("pii-finetune")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must end with exit code 2, and return its one message."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pii-finetune: ")
    assert "Traceback" not in error
    return error


def test_help_answers_in_under_a_second():
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        started = time.perf_counter()
        shown = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1
    assert all(command in shown.stdout for command in ("run", "validate", "score", "doctor"))


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = {"torch", "transformers", "trl", "mlflow", "prefect", "pandas", "great_expectations", "pydantic"}
    code = f"import sys, cli.main; cli.main.build_parser(); print(*{heavy!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("arguments", [[], ["trian"], ["validate"], ["score", "a.csv"], ["run", "--colour", "red"]])
def test_a_command_that_is_none_is_bad_usage(arguments: list[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_mistake_ends_the_program_with_code_2_and_one_line():
    done = subprocess.run([PROGRAM, "validate", "/none.xlsx"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("pii-finetune: /none.xlsx: there is no such file")
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_told_with_the_nearest_name(capsys: pytest.CaptureFixture[str]):
    error = refused(capsys, "run", "--set", "sft.learning_rat=1e-3")
    assert error == "pii-finetune: there is no setting 'sft.learning_rat'; the nearest is 'sft.learning_rate'\n"


def test_a_bad_value_is_told_with_its_path(capsys: pytest.CaptureFixture[str]):
    assert "sft.learning_rate = 'fast': Input should be a valid number" in refused(
        capsys, "run", "--set", "sft.learning_rate=fast"
    )


def test_an_assignment_without_a_value_is_told_with_an_example(capsys: pytest.CaptureFixture[str]):
    assert "write e.g. --set sft.learning_rate=1e-3" in refused(capsys, "run", "--set", "sft.learning_rate")


def test_an_unknown_profile_is_told_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    error = refused(capsys, "run", "--profile", "sed")
    assert "choose one of embedded, seed, fast; did you mean 'seed'?" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_the_seed_profile_without_cuda_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]):
    error = refused(capsys, "run", "--profile", "seed")
    assert "CUDA cannot be used" in error
    assert "--profile embedded" in error


def test_a_config_file_that_is_not_toml_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "run.toml").write_text("[sft\n", encoding="utf-8")
    assert "run.toml: is not TOML" in refused(capsys, "run", "--config", tmp_path / "run.toml")
    assert "none.toml: cannot be read" in refused(capsys, "run", "--config", tmp_path / "none.toml")


def test_a_setting_on_the_command_line_wins_over_the_config_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "run.toml").write_text("profile = 'embedded'\nlora.r = 'file'\n", encoding="utf-8")
    config = ("run", "--config", tmp_path / "run.toml")
    assert "lora.r = 'file'" in refused(capsys, *config)
    assert "lora.r = 'line'" in refused(capsys, *config, "--set", "lora.r=line")
    (tmp_path / "run.toml").write_text("profile = 3\n", encoding="utf-8")
    assert "profile = 3 is not a name" in refused(capsys, *config)


def write_workbook(path: Path, *bad_rows: tuple[str, str, str]) -> Path:
    book = Workbook()
    for row in [("label", "language", "sensitive"), *[(f"a {n}", "te", ANSWERS[n % 2]) for n in range(30)], *bad_rows]:
        book.worksheets[0].append(row)
    book.save(path)
    return path


def test_a_workbook_with_bad_rows_is_refused_with_their_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write_workbook(tmp_path / "book.xlsx", ("b", "Klingon", "no"))
    assert "column 'language', row 32 ('Klingon'): the language is not known" in refused(capsys, "validate", path)


def test_a_good_workbook_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write_workbook(tmp_path / "book.xlsx")
    assert main(["validate", str(path), "--docs", str(tmp_path / "docs")]) == 0
    shown = capsys.readouterr().out
    assert "valid: all" in shown
    assert "30 rows, 30 used" in shown
    assert "Telugu" in shown
    assert (tmp_path / "docs" / "index.html").is_file()


def test_a_table_that_cannot_be_scored_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert "none.csv: cannot be read" in refused(capsys, "score", tmp_path / "none.csv", "--out", tmp_path / "out.csv")
    assert "the ending must be .csv, .xlsx or .parquet" in refused(
        capsys, "score", tmp_path / "none.csv", "--out", tmp_path / "out.txt"
    )


def test_a_scored_table_is_summed_up_with_the_languages_nobody_knows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    report = ScoreReport(
        num_rows=5_000,
        num_kept=4_096,
        num_asked=70,
        answers=Counter(yes=1_200, no=3_800),
        unknown_languages=Counter({"Klingon": 12, "xx": 3}),
        note="",
    )
    monkeypatch.setattr("cli.score.score_source", lambda *_: report)
    assert main(["score", "in.csv", "--out", str(tmp_path / "out.csv")]) == 0
    shown = capsys.readouterr().out
    assert "5,000 labels, 1,200 of them sensitive (70 asked of the model)" in shown
    assert "4,096 of them were answered before the work was cut off" in shown
    assert "15 labels whose language is not known: 'Klingon' (12), 'xx' (3)" in shown


def test_a_scoring_that_is_stopped_says_that_it_can_be_gone_on_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.score.score_source", stop)
    assert main(["score", "in.csv", "--out", str(tmp_path / "out.csv")]) == 130
    assert "not written; the same command goes on where it stopped" in " ".join(capsys.readouterr().out.split())


def test_a_page_of_somebody_else_and_last_months_workbook_are_not_overwritten(tmp_path, capsys):
    new, old = write_workbook(tmp_path / "new.xlsx"), write_workbook(tmp_path / "old.xlsx")
    before = old.read_bytes()
    assert "cannot be written there" in refused(capsys, "validate", new, "--against", old, "--fixed", old)
    assert old.read_bytes() == before
    (tmp_path / "index.html").write_text("mine")
    assert "holds a page that is not ours" in refused(capsys, "validate", new, "--docs", tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_paths_that_no_system_takes_are_told_without_a_traceback(tmp_path, capsys):
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    assert "there is no such file" in refused(capsys, "validate", loop)
    assert "cannot be used (File name too long)" in refused(capsys, "validate", f"{'x' * 300}.xlsx")


def test_a_file_name_cannot_write_on_the_terminal(tmp_path, capsys):
    assert "\\u001b[31m.csv" in refused(capsys, "validate", tmp_path / "\x1b[31m.csv")


def test_one_column_cannot_be_two(tmp_path, capsys):
    book = write_workbook(tmp_path / "book.xlsx")
    told = refused(capsys, "validate", book, "--set", "data.label_column=sensitive")
    assert "must be four columns" in told


@pytest.mark.parametrize("command", ["reconcile", "automate"])
def test_a_prefect_server_that_is_not_named_or_not_there_is_one_clear_line(capsys, monkeypatch, command):
    assert "PREFECT_API_URL is not set" in refused(capsys, command)
    monkeypatch.setenv("PREFECT_API_URL", "http://someone:secret@127.0.0.1:9/api")
    said = refused(capsys, command)
    assert "no answer from there" in said
    assert "secret" not in said

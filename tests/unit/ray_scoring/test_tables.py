from pathlib import Path

import pytest

from cli.main import main
from pii_finetune.errors import BadConfigError, BadWorkbookError
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.ray_scoring.tables import list_tables, require_unchanged
from pii_finetune.score_copy import USUAL_COLUMNS
from pii_finetune.score_engine import score_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.parquet", "c.XLSX", "notes.txt", ".hidden.csv"):
        (tmp_path / name).write_text("label\nname\n")
    (tmp_path / "below.csv").mkdir()
    return tmp_path


def test_the_tables_of_a_folder_are_listed_by_name_and_what_is_left_alone_is_told(folder: Path):
    tables, notes = list_tables(str(folder))
    assert [(table.name, table.suffix) for table in tables] == [
        ("a.parquet", ".parquet"),
        ("b.csv", ".csv"),
        ("c.XLSX", ".xlsx"),
    ]
    assert notes == (
        "not read (hidden or temporary): .hidden.csv",
        "not read (of no kind that is read): below.csv/, notes.txt",
    )


def test_a_folder_at_a_url_has_the_same_tables_under_their_urls(folder: Path):
    here, there = list_tables(str(folder))[0], list_tables(folder.as_uri())[0]
    assert [table.name for table in there] == [table.name for table in here]
    assert there[0].place == f"{folder.as_uri()}/a.parquet"
    require_unchanged(there[0])


def test_one_file_is_a_source_too(folder: Path):
    for source in (str(folder / "b.csv"), (folder / "b.csv").as_uri()):
        ((table,), notes) = list_tables(source)
        assert (table.name, table.place, notes) == ("b.csv", source, ())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "there is no such file; check the path"),
        ("notes.txt", "is of no kind that can be read (.txt)"),
        ("below.csv", "holds no table (it is empty)"),
    ],
)
def test_a_source_without_tables_is_refused_in_one_line(folder: Path, name: str, told: str):
    with pytest.raises(BadWorkbookError) as refused:
        list_tables(str(folder / name))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("is_url", [False, True])
def test_a_table_that_was_written_since_is_noticed(folder: Path, is_url: bool):
    tables, _ = list_tables(folder.as_uri() if is_url else str(folder))
    (folder / "b.csv").write_text("label\nname\nname\n")
    require_unchanged(tables[0])
    with pytest.raises(BadWorkbookError, match=r"b\.csv: was written while it was scored"):
        require_unchanged(tables[1])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_workers": 0}, "--num-workers 0: must be at least 1"),
        ({"rows_per_part": 0}, "--rows-per-part 0: must be at least 1"),
        ({"object_store_mib": 79}, "--object-store-mib 79: Ray needs at least 80"),
    ],
)
def test_settings_that_ray_would_refuse_are_refused_by_name(settings: dict[str, int], told: str):
    with pytest.raises(BadConfigError, match=told):
        RaySettings(**settings)


def test_a_setting_of_ray_without_ray_is_not_passed_over(capsys: pytest.CaptureFixture[str]):
    assert main(["score", "in.csv", "--out", "out.csv", "--num-workers", "2"]) == 2
    assert "--num-workers: means something with --engine ray only" in capsys.readouterr().err


def test_the_help_tells_the_defaults_that_hold(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    shown, usual = " ".join(capsys.readouterr().out.split()), RaySettings()
    assert f"may cost (default: {usual.rows_per_part})" in shown
    assert f"(default: {usual.object_store_mib})" in shown


def test_the_local_engine_says_of_a_url_which_engine_takes_it():
    with pytest.raises(BadWorkbookError, match=r"s3://bucket/in.csv: is a URL, for which add --engine ray"):
        score_source("s3://bucket/in.csv", "out.csv", "models:/x/1", USUAL_COLUMNS, None, lambda _done, _all: None)

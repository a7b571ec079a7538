from pathlib import Path

import pytest

from cli.main import main
from pii_finetune.errors import BadConfigError
from pii_finetune.export import export_adapter, export_merged

# No test here gets as far as a model: every mistake is told before one is fetched.
MODEL = "models:/not-reached/1"


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_is(tmp_path: Path, export):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".hidden").write_text("mine", encoding="utf-8")
    with pytest.raises(BadConfigError, match=r"--out .*/out: is not empty, and nothing in it is overwritten; name"):
        export(MODEL, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", ".hidden"]


def test_a_file_or_a_link_is_no_folder(tmp_path: Path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "link"):
        with pytest.raises(BadConfigError, match=f"--out .*/{name}: is no folder"):
            export_adapter(MODEL, tmp_path / name)


def test_a_folder_in_one_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(BadConfigError, match="there is no folder .*/none; name a new folder in one you can write to"):
        export_merged(MODEL, tmp_path / "none" / "out")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_a_model_is_fetched():
    with pytest.raises(BadConfigError, match="--out /proc/out: nothing can be written to /proc"):
        export_merged(MODEL, Path("/proc/out"))


def test_the_command_tells_a_mistake_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", "--merged", "--out", str(tmp_path / "none" / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"pii-finetune: --out {tmp_path}/none/out: there is no folder")

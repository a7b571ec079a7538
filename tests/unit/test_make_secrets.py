import stat

import pytest

from cli import make_secrets
from cli.make_secrets import SECRETS, fill


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(make_secrets, "ROOT", tmp_path)
    example = make_secrets.Path(__file__).resolve().parents[2] / ".env.example"
    (tmp_path / ".env.example").write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def values(text):
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_every_secret_is_made_long_different_and_readable_to_the_owner_alone(folder, capsys):
    assert make_secrets.main() == 0
    made = values((folder / ".env").read_text(encoding="utf-8"))
    assert set(made) == set(SECRETS)
    assert len(set(made.values())) == len(SECRETS)
    assert min(map(len, made.values())) >= 40
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    shown = capsys.readouterr().out
    assert "PREFECT_PASSWORD" in shown
    assert not [value for value in made.values() if value in shown]


def test_what_is_there_stays_and_what_is_missing_is_added(folder):
    (folder / ".env").write_text(
        "# mine\nPREFECT_PASSWORD=kept=so\nPREFECT_PORT=1\nMLFLOW_SECRET_KEY=\n", encoding="utf-8"
    )
    assert make_secrets.main() == 0
    after = (folder / ".env").read_text(encoding="utf-8")
    assert after.startswith("# mine\nPREFECT_PASSWORD=kept=so\nPREFECT_PORT=1\nMLFLOW_SECRET_KEY=")
    assert set(values(after)) == {*SECRETS, "PREFECT_PORT"}
    assert make_secrets.main() == 0
    assert (folder / ".env").read_text(encoding="utf-8") == after


def test_no_secret_of_the_example_has_a_value_that_works(folder):
    _, made = fill((folder / ".env.example").read_text(encoding="utf-8"))
    assert made == list(SECRETS)


def test_a_folder_that_cannot_be_written_to_is_told_in_one_line(folder, capsys):
    (folder / ".env.new").mkdir()  # in the way of what is written
    assert make_secrets.main() == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (folder / ".env").exists()

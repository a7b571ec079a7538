import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import pytest
from mlflow import MlflowClient

from pii_finetune.errors import DamagedResultError
from pii_finetune.kept import fetch_adapter, find_kept, keep_adapter
from pii_finetune.kept_validation import fetch_validation, keep_validation
from pii_finetune.stage_keys import validation_key
from pii_finetune.tracking import open_run, stage_run
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

pytestmark = pytest.mark.slow


@pytest.fixture
def run(config, tracking):
    return open_run(config, {})


def artifacts(kept, name):
    return Path(urlparse(kept.run.info.artifact_uri).path) / name


@pytest.fixture
def kept(config, run, sft):
    with stage_run(run, "sft", config, "key"):
        keep_adapter(sft[0])
    return find_kept(run, "key")


def test_an_adapter_is_fetched_to_another_machine_as_it_was_kept(kept, sft, tmp_path):
    adapter = fetch_adapter(kept, tmp_path / "elsewhere")
    assert adapter.path == tmp_path / "elsewhere/adapter"
    for file in sft[0].path.iterdir():
        assert (adapter.path / file.name).read_bytes() == file.read_bytes()
    assert replace(adapter, path=sft[0].path, curves={}) == replace(sft[0], curves={})


DAMAGES = {
    "changed": (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x7f"), "adapter_model.safetensors"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "adapter_model.safetensors"),
    "missing": (lambda file: file.unlink(), "adapter_model.safetensors"),
    "without its list": (lambda file: shutil.rmtree(file.parents[1] / "kept"), "manifest.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_named_in_one_line_even_where_a_whole_one_lies(kept, sft, tmp_path, damage):
    shutil.copytree(sft[0].path, tmp_path / "here/adapter")
    spoil, named = DAMAGES[damage]
    spoil(artifacts(kept, "adapter") / "adapter_model.safetensors")
    with pytest.raises(DamagedResultError) as told:
        fetch_adapter(kept, tmp_path / "here")
    line = str(told.value)
    assert "\n" not in line
    assert kept.run.info.run_id in line
    assert named in line
    assert line.endswith("the stage is done again")


@pytest.fixture
def table(config):
    return read_workbook(config.data)


@pytest.fixture
def judged(config, run, table, tmp_path):
    report = validate(table, tmp_path / "docs", config.data, advice_seed=config.data.seed)
    with stage_run(run, "validate", config, "verdict"):
        keep_validation(report, tmp_path / "docs")
    return report, find_kept(run, "verdict")


def test_a_verdict_that_is_kept_is_the_one_that_was_made(judged, table, tmp_path, monkeypatch):
    report, kept = judged
    monkeypatch.setattr("pii_finetune.validation.Checkpoint", None)  # Great Expectations is not asked
    again = fetch_validation(kept, table, tmp_path / "again")
    assert replace(again, docs=None) == replace(report, docs=None)
    assert again.docs == tmp_path / "again/index.html"
    made, fetched = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "docs", tmp_path / "again")
    )
    assert made == fetched


def test_a_verdict_on_other_rows_is_not_taken_for_one_on_these(judged, table, tmp_path):
    _, kept = judged
    with pytest.raises(DamagedResultError, match="of other rows"):
        fetch_validation(kept, replace(table, rows=table.rows[:-1]), tmp_path / "again")


def test_the_key_of_a_verdict_is_of_every_cell_and_of_how_rows_are_judged(config, table):
    key = validation_key(config, table)
    assert validation_key(config, read_workbook(config.data)) == key
    other = table.rows.copy()
    other.loc[3, "label"] = f"{other.loc[3, 'label']} "
    assert validation_key(config, replace(table, rows=other)) != key
    dropping = config.model_copy(update={"data": config.data.model_copy(update={"on_bad_row": "drop"})})
    assert validation_key(dropping, table) != key
    assert validation_key(config.model_copy(update={"seed": config.seed + 1}), table) == key


def test_a_stage_that_failed_is_not_kept(config, run, sft):
    def fail():
        with stage_run(run, "sft", config, "failed"):
            keep_adapter(sft[0])
            raise RuntimeError("after all was logged")

    with pytest.raises(RuntimeError):
        fail()
    assert find_kept(run, "failed") is None
    assert MlflowClient().search_runs([run.experiment_id], "tags.stage_key = 'failed'")

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pii_finetune.calibration import IDENTITY
from pii_finetune.errors import MissingModelError
from pii_finetune.model_folder import load_model_folder, write_model_folder
from pii_finetune.registry import DPO_MODEL, fetch_model_folder, production_version, promote
from pii_finetune.score_table import score_table

pytestmark = pytest.mark.slow


def test_promotion_moves_stage_and_alias_together_and_archives_the_one_before(registered):
    first, second = registered
    assert production_version(DPO_MODEL) is None
    promote(DPO_MODEL, first)
    assert str(production_version(DPO_MODEL).version) == first
    promote(DPO_MODEL, second)
    client = MlflowClient()
    found = {str(v): client.get_model_version(DPO_MODEL, str(v)).current_stage for v in (first, second)}
    assert found == {first: "Archived", second: "Production"}
    assert str(client.get_model_version_by_alias(DPO_MODEL, "champion").version) == second


def test_a_registered_version_carries_its_tags_its_description_and_its_run(registered):
    version = MlflowClient().get_model_version(DPO_MODEL, registered[0])
    assert version.tags["profile"] == "embedded"
    assert version.description == "a *test*"
    assert MlflowClient().get_run(version.run_id).data.params["profile"] == "embedded"


def test_a_name_nobody_registered_has_no_production_version(tracking):
    mlflow.set_tracking_uri(tracking)
    assert production_version("nobody") is None


def test_the_production_model_loads_in_a_fresh_process_without_this_checkout(registered, tracking, tmp_path):
    promote(DPO_MODEL, registered[0])
    program = f"""
import sys
sys.path = [p for p in sys.path if p not in ("", {str(Path.cwd())!r})]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
import mlflow, pandas as pd, json
model = mlflow.pyfunc.load_model("models:/pii-dpo/Production")
import pii_finetune
rows = pd.DataFrame({{"label": ["prénom", "file size"], "language": ["French", None]}}, index=[7, 3])
full = model.predict(rows)
bare = model.predict(rows[["label"]])
print(json.dumps({{"from": pii_finetune.__file__, "columns": list(full.columns), "index": list(full.index),
    "answers": list(full["sensitive"]), "probability": list(full["probability"]), "bare": list(bare["sensitive"])}}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": tracking},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert not said["from"].startswith(str(Path.cwd()))  # the code came with the model
    assert said["columns"] == ["sensitive", "probability"]
    assert said["index"] == [7, 3]
    assert set(said["answers"]) | set(said["bare"]) <= {"yes", "no"}
    assert all(0 <= p <= 1 for p in said["probability"])


def test_nothing_pickled_is_among_the_artifacts(registered, tmp_path):
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".pth")]


def test_a_model_folder_refuses_another_base(config, sft, tmp_path):
    write_model_folder(tmp_path, sft[0].path, config.base, "f" * 64, IDENTITY)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"base_config_sha256": "0" * 64}))
    with pytest.raises(MissingModelError, match="is not the one the adapter was trained on"):
        load_model_folder(tmp_path, 8)


def test_scoring_a_table_keeps_its_columns_and_neutralises_formulas(registered, tracking, tmp_path):
    promote(DPO_MODEL, registered[0])
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("Label,owner\nprénom,=1+1\nfile size,team b\n", encoding="utf-8")
    report = score_table(source, target, "models:/pii-dpo/Production")
    header, first, second = target.read_text(encoding="utf-8").splitlines()
    assert header == "label,owner,sensitive,probability"
    assert first.startswith("prénom,'=1+1,")
    assert second.split(",")[2] in ("yes", "no")
    assert (report.num_rows, report.num_asked) == (2, 2)
    assert not list(tmp_path.glob(".out*"))
    assert fetch_model_folder(f"models:/{DPO_MODEL}/{registered[0]}", tmp_path / "copy").is_dir()


def test_scoring_without_a_model_says_how_to_make_one(tracking, tmp_path):
    (tmp_path / "in.csv").write_text("label\nx\n", encoding="utf-8")
    with pytest.raises(MissingModelError, match="make a model with"):
        score_table(tmp_path / "in.csv", tmp_path / "out.csv", "models:/pii-dpo/Production")
    assert not (tmp_path / "out.csv").exists()

import json
import logging
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PythonModel

from pii_finetune.calibration import Calibration
from pii_finetune.errors import MissingModelError, TamperedModelError
from pii_finetune.model_folder import load_model_folder, write_model_folder
from pii_finetune.registry import DPO_MODEL, fetch_model_folder, promote, register
from pii_finetune.score_table import score_table
from pii_finetune.scoring import Scorer
from pii_finetune.tracking import close_run, open_run, parent_run
from tasks.evaluate import load_production

pytestmark = pytest.mark.slow

QUESTIONS = [("prénom", "French"), ("file size", "English"), ("customer iban", None)]
ROWS = pd.DataFrame(QUESTIONS, columns=["label", "language"])
KINDS = {  # folder of the registered model: kinds of files in it
    "": {"MLmodel", "registered_model_meta", ".yaml", ".txt", ".py"},
    "code": {".py", ".jinja"},
    "artifacts": {".json", ".safetensors", ".jinja", ".txt"},
}


@pytest.fixture
def folder(config, sft, tmp_path):
    write_model_folder(
        tmp_path / "model", sft[0].path, config.base, "f" * 64, Calibration(method="temperature", temperature=2.0)
    )
    return tmp_path / "model"


@pytest.fixture
def register_folder(config, tracking):
    """Register a model folder; returns the URI of its version, which is in production then."""

    def register_it(folder):
        run = open_run(config, {})
        with parent_run(run):
            version = register(DPO_MODEL, folder, {}, "").version
        close_run(run, "FINISHED")
        promote(DPO_MODEL, str(version))
        return f"models:/{DPO_MODEL}/{version}"

    return register_it


@pytest.fixture
def margins(config, sft):
    return Scorer(config.base, {"sft": sft[0].path}, 8).score(QUESTIONS, "sft", check_format=False).margin


def test_every_file_of_a_registered_model_is_of_a_kind_that_is_never_unpickled(folder, register_folder, tmp_path):
    uri = register_folder(folder)
    fetched = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / "fetched")))
    files = [path.relative_to(fetched) for path in fetched.rglob("*") if path.is_file()]
    assert {path.parts[0] if len(path.parts) > 1 else "" for path in files} == set(KINDS)
    for path in files:
        assert (path.suffix or path.name) in KINDS[path.parts[0] if len(path.parts) > 1 else ""], path
        start = (fetched / path).read_bytes()[:4]
        assert not start.startswith((b"\x80", b"PK")), path  # a pickle; a zip, as torch.save writes
    flavor = mlflow.models.get_model_info(uri).flavors["python_function"]
    assert "python_model" not in flavor  # where MLflow would keep a pickle


def test_a_served_probability_is_the_calibrated_one(folder, register_folder, margins):
    uri = register_folder(folder)
    answers = mlflow.pyfunc.load_model(uri).predict(ROWS)
    assert list(answers.columns) == ["sensitive", "probability"]
    assert mlflow.models.get_model_info(uri).signature.outputs.input_names() == ["sensitive", "probability"]
    assert answers["probability"].to_numpy() == pytest.approx(1 / (1 + np.exp(-margins / 2)), abs=1e-6)
    assert answers["sensitive"].tolist() == ["yes" if margin >= 0 else "no" for margin in margins]


def test_a_review_band_adds_a_decision_to_answers_and_signature(config, sft, register_folder, margins, tmp_path):
    inside = float(1 / (1 + np.exp(-margins[0])))
    calibration = Calibration(
        review_precision=0.9, review_low=min(inside - 1e-4, 0.5), review_high=max(inside + 1e-4, 0.5)
    )
    write_model_folder(tmp_path / "model", sft[0].path, config.base, "f" * 64, calibration)
    uri = register_folder(tmp_path / "model")
    answers = mlflow.pyfunc.load_model(uri).predict(ROWS)
    assert list(answers.columns) == ["sensitive", "probability", "decision"]
    assert mlflow.models.get_model_info(uri).signature.outputs.input_names() == list(answers.columns)
    assert answers["decision"][0] == "review"
    assert answers["sensitive"][0] in ("yes", "no")
    assert set(answers["decision"]) <= {"yes", "no", "review"}


def test_a_registered_model_that_was_changed_is_not_served(folder, register_folder, tmp_path):
    uri = register_folder(folder)
    (stored,) = [path for path in tmp_path.rglob("adapter_model.safetensors") if "artifacts" in path.parts]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(Exception, match="adapter_model.safetensors: was changed: its SHA-256 is"):
        mlflow.pyfunc.load_model(uri)
    with pytest.raises(TamperedModelError, match="adapter_model.safetensors: was changed"):
        load_model_folder(fetch_model_folder(uri, tmp_path / "fetched"), 8)


def test_production_is_compared_with_through_its_own_calibration(config, folder, register_folder, margins, tmp_path):
    register_folder(folder)
    scores = load_production(config, "1", tmp_path / "fetched")(QUESTIONS)
    assert scores.margin == pytest.approx(margins / 2, abs=1e-5)


def test_a_model_of_release_0_1_in_production_is_compared_with_as_it_is(
    config, folder, register_folder, margins, tmp_path, caplog
):
    register_folder(folder)
    (stored,) = [path for path in tmp_path.rglob("manifest.json") if "artifacts" in path.parts]
    manifest = json.loads(stored.read_text(encoding="utf-8"))
    old = {name: manifest[name] for name in manifest if name not in ("schema_version", "files", "base_files")}
    stored.write_text(json.dumps(old), encoding="utf-8")
    stored.with_name("calibration.json").unlink()
    with caplog.at_level(logging.WARNING, logger="pii_finetune"):
        production = load_production(config, "1", tmp_path / "fetched")
    assert production(QUESTIONS).margin == pytest.approx(margins, abs=1e-5)
    assert "has no hashes (release 0.1)" in caplog.text


class Pickled(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input


def test_a_model_that_would_be_unpickled_is_refused(tracking, tmp_path):
    mlflow.set_tracking_uri(tracking)
    mlflow.pyfunc.log_model(
        name="pickled", python_model=Pickled(), registered_model_name="pickled", pip_requirements=["mlflow"]
    )
    (tmp_path / "in.csv").write_text("label\nx\n", encoding="utf-8")
    for use in (
        lambda: score_table(tmp_path / "in.csv", tmp_path / "out.csv", "models:/pickled/1"),
        lambda: fetch_model_folder("models:/pickled/1", tmp_path / "fetched"),
    ):
        with pytest.raises(MissingModelError, match="is no model of pii-finetune"):
            use()
    assert not (tmp_path / "out.csv").exists()


def _change(code: Path) -> str:
    with (code / "pii_finetune" / "labels.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    return "labels.py: was changed"


def _remove(code: Path) -> str:
    (code / "pii_finetune" / "gate.py").unlink()
    return "gate.py: is missing"


def _add(code: Path) -> str:
    (code / "torch.py").write_text("raise SystemExit\n", encoding="utf-8")
    return "torch.py: was added"


def _change_what_mlflow_runs(code: Path) -> str:
    with (code.parent / "production_model.py").open("a", encoding="utf-8") as file:
        file.write("\n(Path(__file__).parent / 'was-run').touch()\n")
    return "production_model.py: was changed"


@pytest.mark.parametrize("harm", [_change, _remove, _add, _change_what_mlflow_runs])
def test_code_beside_a_model_that_was_changed_is_not_served_and_never_run_by_score(
    harm, folder, register_folder, tmp_path
):
    uri = register_folder(folder)
    (code,) = [path for path in tmp_path.rglob("code") if path.parent.parent.name.startswith("m-")]
    problem = harm(code)
    (tmp_path / "in.csv").write_text("label\nprénom\n", encoding="utf-8")
    score_table(tmp_path / "in.csv", tmp_path / "out.csv", uri)
    assert not list(tmp_path.rglob("was-run"))
    with pytest.raises(Exception, match=problem):
        mlflow.pyfunc.load_model(uri)


def test_score_refuses_a_model_that_was_changed(folder, register_folder, tmp_path):
    uri = register_folder(folder)
    (stored,) = [path for path in tmp_path.rglob("calibration.json") if "artifacts" in path.parts]
    stored.write_text(stored.read_text(encoding="utf-8").replace("2.0", "0.1"), encoding="utf-8")
    (tmp_path / "in.csv").write_text("label\nprénom\n", encoding="utf-8")
    with pytest.raises(TamperedModelError, match=rf"^{uri}, artifacts/model/calibration.json: was changed"):
        score_table(tmp_path / "in.csv", tmp_path / "out.csv", uri)
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_score_gives_the_answers_of_the_served_model(folder, register_folder, tmp_path):
    uri = register_folder(folder)
    ROWS.to_csv(tmp_path / "in.csv", index=False)
    score_table(tmp_path / "in.csv", tmp_path / "out.csv", uri)
    told, served = pd.read_csv(tmp_path / "out.csv"), mlflow.pyfunc.load_model(uri).predict(ROWS)
    assert told["sensitive"].tolist() == served["sensitive"].tolist()
    assert told["probability"].to_numpy() == pytest.approx(served["probability"].to_numpy(), abs=1e-5)

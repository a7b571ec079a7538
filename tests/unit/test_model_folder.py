import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pii_finetune import model_folder
from pii_finetune.calibration import IDENTITY, Calibration
from pii_finetune.config import BaseConfig
from pii_finetune.errors import MissingModelError
from pii_finetune.manifest import read_manifest
from pii_finetune.model_folder import ServedModel, base_of, load_model_folder, verify_model_folder, write_model_folder
from pii_finetune.paths import ROOT
from pii_finetune.profiles import embedded
from pii_finetune.scores import Question, Scores

BASE = embedded().base


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path / "adapter"


@pytest.fixture
def folder(adapter: Path, tmp_path: Path) -> Path:
    write_model_folder(tmp_path / "model", adapter, BASE, "f00d", IDENTITY)
    return tmp_path / "model"


@pytest.fixture
def big_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseConfig:
    """A local base that is too big to carry."""
    monkeypatch.setattr(model_folder, "_CARRIED_BASE_BYTES", 0)
    return BASE.model_copy(update={"name": str(shutil.copytree(ROOT / BASE.name, tmp_path / "big"))})


def test_a_small_base_is_carried_with_its_weights_tokenizer_and_template(folder: Path):
    carried = {file.name for file in (folder / "base").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= carried
    weights = (ROOT / BASE.name / "model.safetensors").read_bytes()
    assert (folder / "base" / "model.safetensors").read_bytes() == weights


def test_nothing_in_a_model_folder_is_pickled(folder: Path):
    endings = {file.suffix for file in folder.rglob("*") if file.is_file()}
    assert endings <= {".json", ".safetensors", ".jinja", ".txt"}


def test_the_manifest_says_what_is_needed_to_load_the_model_anywhere(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema_version"] == 1
    assert manifest["base_name"] == "data/embedded-base"
    assert manifest["base_is_carried"] is True
    assert manifest["base_files"] == {}  # they are among the files
    assert manifest["dataset_fingerprint"] == "f00d"
    assert len(manifest["base_config_sha256"]) == 64


def test_a_folder_that_is_written_again_keeps_nothing_of_what_was_there(folder: Path, adapter: Path):
    (folder / "adapter" / "old.json").write_text("{}", encoding="utf-8")
    (folder / "model.sig").write_text("of the one before", encoding="utf-8")
    write_model_folder(folder, adapter, BASE, "f00d", IDENTITY)
    verify_model_folder(folder)
    assert not (folder / "model.sig").exists()


def test_an_adapter_is_refused_on_a_base_it_was_not_trained_on(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps(manifest | {"base_config_sha256": "0" * 64})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(MissingModelError, match=r"is not the one the adapter was trained on .*expected 000000000000"):
        load_model_folder(folder, batch_size=4)


def test_a_base_that_is_not_carried_is_known_by_its_weights_tokenizer_and_template(
    big_base: BaseConfig, adapter: Path, tmp_path: Path
):
    manifest = write_model_folder(tmp_path / "model", adapter, big_base, "f00d", IDENTITY)
    assert not (tmp_path / "model" / "base").exists()
    assert manifest.base_files.keys() == {
        "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
    }  # fmt: skip
    assert base_of(tmp_path / "model", read_manifest(tmp_path / "model"), cuda=False) == big_base


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
@pytest.mark.parametrize("change", ["changed", "missing"])
def test_a_base_with_another_file_of_equal_size_is_another_base(
    big_base: BaseConfig, adapter: Path, tmp_path: Path, name: str, change: str
):
    manifest = write_model_folder(tmp_path / "model", adapter, big_base, "f00d", IDENTITY)
    path = Path(big_base.name) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if change == "missing":
        path.unlink()
    with pytest.raises(MissingModelError, match=rf"trained on \(its {name} is another\); give the base"):
        base_of(tmp_path / "model", manifest, cuda=False)


def test_the_shards_of_a_base_are_told_apart(big_base: BaseConfig, adapter: Path, tmp_path: Path):
    big = Path(big_base.name)
    (big / "model.safetensors").rename(big / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (big / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (big / "consolidated.safetensors").write_bytes(b"which transformers does not read")
    manifest = write_model_folder(tmp_path / "model", adapter, big_base, "f00d", IDENTITY)
    assert [name for name in manifest.base_files if name.endswith("safetensors")] == [
        "model-00001-of-00001.safetensors"
    ]


def test_a_base_of_the_hub_is_pinned_to_its_commit_and_its_files(adapter: Path, tmp_path: Path):
    commit = "c0ffee" * 6 + "c0ff"
    cached = tmp_path / "hf" / "hub" / "models--owner--base"
    shutil.copytree(ROOT / BASE.name, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    program = f"""
from pathlib import Path
from pii_finetune.calibration import IDENTITY
from pii_finetune.config import BaseConfig
from pii_finetune.errors import MissingModelError
from pii_finetune.model_folder import base_of, verify_model_folder, write_model_folder
folder = Path({str(tmp_path / "model")!r})
base = BaseConfig(name="owner/base", device="cpu", dtype="float32", quantization="none")
manifest = write_model_folder(folder, Path({str(adapter)!r}), base, "f00d", IDENTITY)
print(manifest.base_revision, manifest.base_is_carried, len(manifest.base_files))
print(base_of(folder, verify_model_folder(folder), cuda=False).revision)
weights = Path({str(cached / "snapshots" / commit / "model.safetensors")!r})
weights.write_bytes(weights.read_bytes()[:-1] + b"?")
try:
    base_of(folder, manifest, cuda=False)
except MissingModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written, loaded, refused = done.stdout.splitlines()
    assert written == f"{commit} False 4"
    assert loaded == commit
    assert "(its model.safetensors is another); give the base 'owner/base', revision c0ffee" in refused


class Fixed:
    """A scorer whose margins are known."""

    def score(self, questions: list[Question], adapter: str, check_format: bool) -> Scores:
        return Scores(np.array([-1e4, -3.0, 0.0, 2.0, 1e4]), np.ones(5, dtype=bool))


@pytest.mark.parametrize(
    "calibration",
    [IDENTITY, *(Calibration(method="temperature", temperature=t) for t in (2.0, 0.1))],
)
def test_a_served_model_answers_with_calibrated_and_finite_margins(folder: Path, calibration: Calibration):
    served = ServedModel(Fixed(), calibration, read_manifest(folder))  # pyright: ignore[reportArgumentType]
    scores = served.score([("x", None)] * 5)
    expected = calibration.probability(np.array([-1e4, -3.0, 0.0, 2.0, 1e4]))
    assert np.isfinite(scores.margin).all()
    assert scores.probability == pytest.approx(expected, abs=1e-15)
    assert scores.answers.tolist() == (expected >= 0.5).tolist()

import json
from pathlib import Path

import pytest

from pii_finetune.errors import MissingModelError
from pii_finetune.model_folder import load_model_folder, write_model_folder
from pii_finetune.paths import ROOT
from pii_finetune.profiles import embedded

BASE = embedded().base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    write_model_folder(tmp_path / "model", tmp_path / "adapter", BASE, "f00d")
    return tmp_path / "model"


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
    assert manifest["base_name"] == "data/embedded-base"
    assert manifest["base_is_carried"] is True
    assert manifest["dataset_fingerprint"] == "f00d"
    assert len(manifest["base_config_sha256"]) == 64


def test_an_adapter_is_refused_on_a_base_it_was_not_trained_on(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps(manifest | {"base_config_sha256": "0" * 64})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(MissingModelError, match=r"is not the one the adapter was trained on .*expected 000000000000"):
        load_model_folder(folder, batch_size=4)

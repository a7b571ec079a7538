import json
import shutil
from pathlib import Path

import pytest
import torch

from pii_finetune.base_model import identify, load_tokenizer, local_folder, portable_name, require_device
from pii_finetune.errors import BadConfigError, MissingDeviceError, MissingModelError
from pii_finetune.paths import ROOT
from pii_finetune.profiles import embedded, seed

BASE = embedded().base


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """The embedded base without its weights, in another folder."""
    ignore = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(ROOT / BASE.name, tmp_path / "base", ignore=ignore))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_base_on_cuda_is_refused_where_there_is_none():
    with pytest.raises(MissingDeviceError, match="base.device is 'cuda' but CUDA cannot be used"):
        require_device(seed().base)
    require_device(BASE)


def test_a_folder_is_told_from_a_hub_id():
    assert local_folder(BASE) == ROOT / "data" / "embedded-base"
    assert local_folder(seed().base) is None


def test_the_name_of_a_base_in_the_project_is_true_on_every_machine(moved: Path):
    assert portable_name(BASE.model_copy(update={"name": str(ROOT / BASE.name)})) == "data/embedded-base"
    assert portable_name(seed().base) == "Qwen/Qwen2.5-1.5B-Instruct"
    assert portable_name(BASE.model_copy(update={"name": str(moved)})) == str(moved)


def test_a_base_is_the_same_wherever_it_stands(moved: Path):
    elsewhere = BASE.model_copy(update={"name": str(moved)})
    assert identify(elsewhere).config_sha256 == identify(BASE).config_sha256


def test_a_base_of_another_shape_is_another_base(moved: Path):
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    (moved / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 4}), encoding="utf-8")
    assert identify(BASE.model_copy(update={"name": str(moved)})).config_sha256 != identify(BASE).config_sha256


def test_prompts_are_padded_on_the_left():
    batch = load_tokenizer(BASE)(["a", "a longer text"], padding=True)
    assert batch["attention_mask"][0][0] == 0
    assert batch["attention_mask"][0][-1] == 1


def test_a_folder_that_is_missing_is_not_asked_of_the_hub():
    with pytest.raises(MissingModelError, match="there is no such folder in"):
        load_tokenizer(BASE.model_copy(update={"name": "data/embedded-bass"}))


def test_a_base_with_code_of_its_own_is_refused_and_its_code_not_run(moved: Path):
    ran = moved / "ran"
    (moved / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n", encoding="utf-8")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "code.C"}}
    (moved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadConfigError, match="comes with code of its own, which is never run"):
        identify(BASE.model_copy(update={"name": str(moved)}))
    assert not ran.exists()

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from cli.main import main
from pii_finetune import export as exporting
from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.calibration import Calibration
from pii_finetune.errors import MissingModelError, TamperedModelError
from pii_finetune.export import export_adapter, export_merged
from pii_finetune.model_folder import verify_model_folder, write_model_folder
from pii_finetune.paths import ROOT
from pii_finetune.prompt import render_prompt
from pii_finetune.registry import DPO_MODEL, promote, register
from pii_finetune.tracking import close_run, open_run, parent_run

pytestmark = pytest.mark.slow

MODEL = "models:/pii-dpo/Production"
QUESTIONS = [("prénom", "French"), ("file size", "English"), ("customer.iban", None), ("मोबाइल नंबर", "Hindi")]


@pytest.fixture(scope="module")
def adapter(sft, tmp_path_factory):
    """The small adapter made large, so that a merge that lost it would show."""
    folder = Path(shutil.copytree(sft[0].path, tmp_path_factory.mktemp("large") / "adapter"))
    weights = load_file(folder / "adapter_model.safetensors")
    weights = {name: 20 * weight if "lora_B" in name else weight for name, weight in weights.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def store(config, adapter, tmp_path_factory):
    """A folder with an MLflow store in which the adapter is in production."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        run = open_run(config, {})
        write_model_folder(
            folder / "model", adapter, config.base, "f" * 64, Calibration(method="temperature", temperature=1.5)
        )
        with parent_run(run):
            version = register(DPO_MODEL, folder / "model", {}, "")
        close_run(run, "FINISHED")
        promote(DPO_MODEL, str(version.version))
    shutil.rmtree(folder / "model")
    return folder


@pytest.fixture
def registered(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    return store


def logits(model, tokenizer):
    """Logits (Q, V) at the answer, of each question asked by itself."""
    said = []
    for label, language in QUESTIONS:
        ids = tokenizer(render_prompt(tokenizer, label, language), return_tensors="pt")
        with torch.no_grad():
            said.append(model(**ids).logits[0, -1].float())
    return torch.stack(said)


@pytest.fixture(scope="module")
def expected(config, adapter):
    model = PeftModel.from_pretrained(load_base(config.base), adapter).eval()
    return logits(model, load_tokenizer(config.base))


def test_a_merged_model_says_what_its_adapter_says_and_is_loaded_plainly(config, registered, expected, tmp_path):
    assert main(["export", "--merged", "--out", str(tmp_path / "out")]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert not isinstance(model, PeftModel)
    assert model.dtype == torch.float32
    assert (logits(model, tokenizer) - expected).abs().max() <= 1e-4
    base = logits(load_base(config.base), load_tokenizer(config.base))
    assert (base - expected).abs().max() > 0.1  # the adapter is in it


def test_a_merged_model_asks_with_the_tokens_of_its_base(config, registered, tmp_path):
    export_merged(MODEL, tmp_path / "out")
    ours, theirs = load_tokenizer(config.base), AutoTokenizer.from_pretrained(tmp_path / "out")
    for label, language in QUESTIONS:
        prompt = render_prompt(ours, label, language)
        assert render_prompt(theirs, label, language) == prompt
        assert theirs(prompt)["input_ids"] == ours(prompt)["input_ids"]
    assert theirs.eos_token == "<|im_end|>"


def test_an_exported_adapter_is_loaded_by_peft_alone_and_says_the_same(config, registered, expected, tmp_path):
    assert main(["export", "--out", str(tmp_path / "out"), "--model", MODEL]) == 0
    base = AutoModelForCausalLM.from_pretrained(ROOT / config.base.name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    assert torch.equal(logits(model, load_tokenizer(config.base)), expected)


def test_an_exported_folder_holds_what_it_should_and_nothing_pickled(registered, tmp_path):
    export_adapter(MODEL, tmp_path / "adapter-only")
    export_merged(MODEL, tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "adapter-only").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "calibration.json"
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == [
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (tmp_path / "merged").stat().st_mode & 0o777 == 0o755
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"
    assert "peft" not in (tmp_path / "merged" / "config.json").read_text()


def test_a_model_trained_in_bfloat16_is_merged_in_float32_and_rounded_once(config, registered, adapter, tmp_path):
    export_merged(MODEL, tmp_path / "full")
    base = config.base.model_copy(update={"dtype": "bfloat16"})
    folder = tmp_path / "bf16"
    write_model_folder(folder, adapter, base, "f" * 64, Calibration())
    (tmp_path / "out").mkdir()
    exporting._write_merged(tmp_path / "out", folder, verify_model_folder(folder), MODEL)
    rounded, full = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "full"))
    assert {weight.dtype for weight in rounded.values()} == {torch.bfloat16}
    assert all(torch.equal(rounded[name], full[name].bfloat16()) for name in full)


@pytest.mark.parametrize("merged", [False, True])
def test_the_readme_of_an_export_runs_as_it_stands(registered, tmp_path, monkeypatch, capsys, merged):
    target = tmp_path / "out"
    (export_merged if merged else export_adapter)(MODEL, target)
    readme = (target / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0].replace('"."', repr(str(target)))
    monkeypatch.chdir(ROOT)  # where the base's name, data/embedded-base, is true
    exec(code, {})
    assert capsys.readouterr().out.startswith(("tensor(0.", "tensor(1."))
    assert "not calibrated" in readme


def test_an_export_that_fails_leaves_nothing_behind(registered, tmp_path, monkeypatch):
    (tmp_path / "place").mkdir()

    def fail(*_, **__):
        raise RuntimeError("disk full")

    monkeypatch.setattr(exporting, "_write_readme", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        export_merged(MODEL, tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_an_empty_folder_is_filled(registered, tmp_path):
    (tmp_path / "out").mkdir()
    export_adapter(MODEL, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_changed_model_is_not_exported(registered, tmp_path):
    (stored,) = registered.rglob("calibration.json")
    untouched = stored.read_text(encoding="utf-8")
    stored.write_text('{"temperature": 9.0}', encoding="utf-8")
    with pytest.raises(TamperedModelError, match="calibration.json: was changed"):
        export_adapter(MODEL, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stored.write_text(untouched, encoding="utf-8")
    export_adapter(MODEL, tmp_path / "out")


def test_a_model_that_is_not_there_is_told_with_what_to_do(tracking, tmp_path):
    with pytest.raises(MissingModelError, match=r"models:/pii-dpo/Production: could not be fetched .*; make a model"):
        export_adapter(MODEL, tmp_path / "out")

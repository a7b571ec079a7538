"""A registered model for programs that know nothing of this project: as a PEFT adapter, or merged into its base."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jinja2
import torch
from peft import PeftModel

from pii_finetune.base_model import base_folder, load_base
from pii_finetune.errors import BadConfigError
from pii_finetune.manifest import ADAPTER, CALIBRATION, ModelManifest
from pii_finetune.model_check import naming, verify_model_folder
from pii_finetune.model_folder import base_of
from pii_finetune.prompt import build_messages
from pii_finetune.registry import fetch_model_folder
from pii_finetune.tracking import configure_tracking

# Copied, not saved anew: transformers reloads a tokenizer it saved beside a Qwen2 config as another class.
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def export_adapter(model_uri: str, target: Path) -> None:
    """Write the model's adapter as PEFT reads it, with its calibration and a README.

    Raises:
        BadConfigError: the target cannot be written to, or holds something already.
        MissingModelError: there is no such model.
        TamperedModelError: the model is not as it was written, or signed.
    """
    _export(model_uri, target, _write_adapter)


def export_merged(model_uri: str, target: Path) -> None:
    """Write the model merged into its base: weights, config, tokenizer, chat template and a README.

    The base is loaded and merged in float32 whatever it was trained in, never in nf4, and saved as it was trained:
    the sum is rounded once.

    Raises:
        BadConfigError: the target cannot be written to, or holds something already.
        MissingModelError: there is no such model, or its base is not to be had here.
        TamperedModelError: the model is not as it was written, or signed.
    """
    _export(model_uri, target, _write_merged)


def _write_adapter(folder: Path, source: Path, manifest: ModelManifest, model_uri: str) -> None:
    shutil.copytree(source / ADAPTER, folder, dirs_exist_ok=True)
    shutil.copy(source / CALIBRATION, folder)
    _write_readme(folder, manifest, model_uri, is_merged=False)


def _write_merged(folder: Path, source: Path, manifest: ModelManifest, model_uri: str) -> None:
    base = base_of(source, manifest, cuda=False)
    merged = PeftModel.from_pretrained(load_base(base), source / ADAPTER).merge_and_unload(safe_merge=True)
    dtype = torch.bfloat16 if manifest.dtype == "bfloat16" else torch.float32
    merged.to(dtype).save_pretrained(folder)
    files = base_folder(base)
    for name in _TOKENIZER:
        if (files / name).is_file():
            shutil.copy(files / name, folder)
    _write_readme(folder, manifest, model_uri, is_merged=True)


def _export(model_uri: str, target: Path, write: Callable[[Path, Path, ModelManifest, str], None]) -> None:
    """Have `write` fill a folder beside the target, which takes its name when it is complete."""
    target = target.absolute()
    _require_free(target)
    configure_tracking()
    with tempfile.TemporaryDirectory() as fetched:
        source = fetch_model_folder(model_uri, Path(fetched))
        with naming(model_uri, Path(fetched)):
            manifest = verify_model_folder(source)
        unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            write(unfinished, source, manifest, model_uri)
            unfinished.chmod(0o755)  # mkdtemp's are the owner's alone
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _require_free(target: Path) -> None:
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            reason = "is no folder"
        elif target.is_dir() and any(target.iterdir()):
            reason = "is not empty, and nothing in it is overwritten"
        elif not target.parent.is_dir():
            reason = f"there is no folder {target.parent}"
        else:
            with tempfile.TemporaryFile(dir=target.parent):
                return
    except OSError as error:
        reason = f"nothing can be written to {target.parent} ({error.strerror})"
    raise BadConfigError(f"--out {target}: {reason}; name a new folder in one you can write to")


def _write_readme(folder: Path, manifest: ModelManifest, model_uri: str, is_merged: bool) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701  Markdown; what is not ours is written as a JSON string
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    system, user = (turn["content"] for turn in build_messages("dateOfBirth", "English"))
    text = environment.get_template("export_readme.md.jinja").render(
        is_merged=is_merged,
        quoted=json.dumps,
        manifest=manifest,
        model_uri=model_uri,
        system=system,
        user=user,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")

"""The folder a served model is: adapter, what its base is, and the base itself where it is small enough to carry."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pii_finetune.base_model import identify, local_folder
from pii_finetune.config import BaseConfig
from pii_finetune.errors import MissingModelError
from pii_finetune.scoring import Scorer

_CARRIED_BASE_BYTES = 64 * 2**20  # a base in a local folder is carried along up to this size
_WEIGHTS_AND_CONFIG = ("*.safetensors", "*.json", "*.jinja", "*.txt")


@dataclass(frozen=True)
class ModelManifest:
    """What is needed to load the model anywhere."""

    base_name: str
    base_revision: str | None
    base_config_sha256: str
    base_is_carried: bool
    quantization: str
    dtype: str
    dataset_fingerprint: str


def write_model_folder(folder: Path, adapter: Path, base: BaseConfig, fingerprint: str) -> ModelManifest:
    """Write `adapter/`, `manifest.json` and, for a small local base, `base/`."""
    identity, source = identify(base), local_folder(base)
    files = [] if source is None else [f for pattern in _WEIGHTS_AND_CONFIG for f in sorted(source.glob(pattern))]
    carried = bool(files) and sum(f.stat().st_size for f in files) <= _CARRIED_BASE_BYTES
    manifest = ModelManifest(
        identity.name, identity.revision, identity.config_sha256, carried, base.quantization, base.dtype, fingerprint
    )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(adapter, folder / "adapter", dirs_exist_ok=True)
    if carried:
        (folder / "base").mkdir(exist_ok=True)
        for file in files:
            shutil.copy(file, folder / "base")
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


def load_model_folder(folder: Path, batch_size: int) -> Scorer:
    """Load the model on the GPU if there is one, else on the CPU; its adapter is named `served`.

    Raises:
        MissingModelError: the base is not to be had here, or is not the one the adapter was trained on.
    """
    manifest = ModelManifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    cuda = torch.cuda.is_available()
    base = BaseConfig(
        name=str((folder / "base").resolve()) if manifest.base_is_carried else manifest.base_name,
        revision=manifest.base_revision,
        device="cuda" if cuda else "cpu",
        dtype="bfloat16" if cuda and manifest.dtype == "bfloat16" else "float32",
        quantization="nf4" if cuda and manifest.quantization == "nf4" else "none",
    )
    if (found := identify(base).config_sha256) != manifest.base_config_sha256:
        raise MissingModelError(
            f"the base model at {base.name!r} is not the one the adapter was trained on (config hash {found[:12]}, "
            f"expected {manifest.base_config_sha256[:12]}); "
            f"give the base {manifest.base_name!r}, revision {manifest.base_revision}"
        )
    return Scorer(base, {"served": folder / "adapter"}, batch_size)

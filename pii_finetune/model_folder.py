"""The folder a served model is: adapter, calibration, manifest, and the base itself where it is small enough."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import logit

from pii_finetune.base_model import deciding_files, identify, local_folder
from pii_finetune.calibration import IDENTITY, Calibration
from pii_finetune.config import BaseConfig
from pii_finetune.errors import MissingModelError
from pii_finetune.manifest import (
    ADAPTER,
    CALIBRATION,
    SCHEMA_VERSION,
    UNHASHED,
    ModelManifest,
    digest,
    digest_folder,
    write_manifest,
)
from pii_finetune.model_check import verify_model_folder
from pii_finetune.model_code import digest_code
from pii_finetune.scores import Question, Scores
from pii_finetune.scoring import Scorer
from pii_finetune.signing import sign_folder

_CARRIED_BASE_BYTES = 64 * 2**20  # a base in a local folder is carried along up to this size
_WEIGHTS_AND_CONFIG = ("*.safetensors", "*.json", "*.jinja", "*.txt")
_NEVER_0_OR_1 = np.finfo(np.float64).epsneg


@dataclass(frozen=True)
class ServedModel:
    """A model as it is served: what answers, what its log-odds mean, and what it was made from."""

    scorer: Scorer  # its adapter is named `served`
    calibration: Calibration
    manifest: ModelManifest

    def score(self, questions: Sequence[Question], check_format: bool = True) -> Scores:
        """Answer N questions; margins are the log-odds of the calibrated probabilities, and finite."""
        said = self.scorer.score(questions, "served", check_format)
        probability = np.clip(self.calibration.probability(said.margin), _NEVER_0_OR_1, 1 - _NEVER_0_OR_1)
        return Scores(logit(probability), said.valid)

    @property
    def columns(self) -> tuple[str, ...]:
        """What an answer consists of; `decision` only where some answers are left to a person."""
        return ("sensitive", "probability", *(("decision",) if self.calibration.has_review_band else ()))

    def answer(self, questions: Sequence[Question]) -> pd.DataFrame:
        """Answer N questions, a row each, in `columns`."""
        probability = self.score(questions, check_format=False).probability
        answers = pd.DataFrame(
            {"sensitive": ["yes" if p >= 0.5 else "no" for p in probability], "probability": probability}
        )
        if self.calibration.has_review_band:
            answers["decision"] = self.calibration.decide(probability)
        return answers


def write_model_folder(
    folder: Path, adapter: Path, base: BaseConfig, fingerprint: str, calibration: Calibration
) -> ModelManifest:
    """Write `adapter/`, `calibration.json`, `manifest.json`, for a small local base `base/`, and sign it if asked to.

    Raises:
        TamperedModelError: the adapter's folder holds a link, or a file of a kind that no model folder has.
        BadConfigError: PII_FINETUNE_SIGNING_KEY is set and cannot be used.
    """
    identity, source = identify(base), local_folder(base)
    files = [] if source is None else [f for pattern in _WEIGHTS_AND_CONFIG for f in sorted(source.glob(pattern))]
    carried = bool(files) and sum(f.stat().st_size for f in files) <= _CARRIED_BASE_BYTES
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(adapter, folder / ADAPTER, symlinks=True)
    (folder / CALIBRATION).write_text(json.dumps(calibration.to_dict(), indent=2) + "\n", encoding="utf-8")
    if carried:
        (folder / "base").mkdir()
        for file in files:
            shutil.copy(file, folder / "base")
    pinned = base.model_copy(update={"revision": identity.revision})
    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        base_name=identity.name,
        base_revision=identity.revision,
        base_config_sha256=identity.config_sha256,
        base_is_carried=carried,
        base_files={} if carried else {name: digest(path) for name, path in deciding_files(pinned).items()},
        quantization=base.quantization,
        dtype=base.dtype,
        dataset_fingerprint=fingerprint,
        files=digest_folder(folder),
        code=digest_code(),
    )
    write_manifest(folder, manifest)
    sign_folder(folder)
    return manifest


def load_model_folder(folder: Path, batch_size: int, accept_unhashed: bool = False) -> ServedModel:
    """Verify the folder, then load the model on the GPU if there is one, else on the CPU.

    Raises:
        TamperedModelError, BadConfigError: as verify_model_folder.
        MissingModelError: the base is not to be had here, or is not the one the adapter was trained on.
    """
    manifest = verify_model_folder(folder, accept_unhashed)
    base = base_of(folder, manifest, torch.cuda.is_available())
    calibration = IDENTITY
    if manifest.schema_version != UNHASHED:
        calibration = Calibration.from_dict(json.loads((folder / CALIBRATION).read_text(encoding="utf-8")))
    return ServedModel(Scorer(base, {"served": folder / ADAPTER}, batch_size), calibration, manifest)


def base_of(folder: Path, manifest: ModelManifest, cuda: bool) -> BaseConfig:
    """Return the base of a verified folder: as it was trained on with CUDA, in full precision on a CPU.

    A base that is not carried is hashed here too, all its weights: about a second for each GB, less than loading it.

    Raises:
        MissingModelError: the base is not to be had here, or is not the one the adapter was trained on.
    """
    base = BaseConfig(
        name=str((folder / "base").resolve()) if manifest.base_is_carried else manifest.base_name,
        revision=manifest.base_revision,
        device="cuda" if cuda else "cpu",
        dtype="bfloat16" if cuda and manifest.dtype == "bfloat16" else "float32",
        quantization="nf4" if cuda and manifest.quantization == "nf4" else "none",
    )
    if (found := identify(base).config_sha256) != manifest.base_config_sha256:
        raise _another_base(base, manifest, f"config hash {found[:12]}, expected {manifest.base_config_sha256[:12]}")
    if manifest.base_files:
        files = deciding_files(base)
        for name in sorted(files.keys() | manifest.base_files.keys()):
            if name not in files or name not in manifest.base_files or digest(files[name]) != manifest.base_files[name]:
                raise _another_base(base, manifest, f"its {name} is another")
    return base


def _another_base(base: BaseConfig, manifest: ModelManifest, difference: str) -> MissingModelError:
    return MissingModelError(
        f"the base model at {base.name!r} is not the one the adapter was trained on ({difference}); "
        f"give the base {manifest.base_name!r}, revision {manifest.base_revision}"
    )

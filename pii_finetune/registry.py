"""MLflow's model registry: the only module that changes it."""

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

import pii_finetune
from pii_finetune.calibration import Calibration
from pii_finetune.errors import MissingModelError
from pii_finetune.manifest import CALIBRATION, SIGNATURE
from pii_finetune.paths import ROOT

SFT_MODEL = "pii-sft"
DPO_MODEL = "pii-dpo"
PRODUCTION = "Production"
CHAMPION = "champion"

# What a served model needs besides the code that travels with it; exact versions come from the lock.
_SERVING_PACKAGES = (
    "mlflow",
    "torch",
    "transformers",
    "peft",
    "pydantic",
    "pandas",
    "numpy",
    "safetensors",
    "scipy",
    "huggingface_hub",
    "accelerate",
)
_VERIFYING_PACKAGES = ("model-signing", "pyopenssl")  # for a signed model


def register(name: str, model_folder: Path, tags: dict[str, str]) -> ModelVersion:
    """Log the folder as a pyfunc model of the active run and register it as a new version of `name`."""
    from pii_finetune.production_model import model_signature

    calibration = Calibration.from_dict(json.loads((model_folder / CALIBRATION).read_text(encoding="utf-8")))
    is_signed = (model_folder / SIGNATURE).is_file()
    package = Path(pii_finetune.__file__).parent
    info = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(package / "production_model.py"),
        artifacts={"model": str(model_folder)},
        code_paths=[str(package)],
        pip_requirements=_pinned((*_SERVING_PACKAGES, *_VERIFYING_PACKAGES) if is_signed else _SERVING_PACKAGES),
        signature=model_signature(calibration.has_review_band),
        registered_model_name=name,
    )
    client = MlflowClient()
    version = str(info.registered_model_version)
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    return client.get_model_version(name, version)


def promote(name: str, version: str) -> None:
    """Make the version the one in production: stage, then alias. The version before is archived in the same call."""
    client = MlflowClient()
    client.transition_model_version_stage(name, version, PRODUCTION, archive_existing_versions=True)
    client.set_registered_model_alias(name, CHAMPION, version)


def production_version(name: str) -> ModelVersion | None:
    """Return the version of `name` that is in production, or None."""
    try:
        found = MlflowClient().get_latest_versions(name, stages=[PRODUCTION])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return found[0] if found else None


def fetch_model_folder(uri: str, destination: Path) -> Path:
    """Download a model and return the folder its adapter, manifest and all are in.

    Raises:
        MissingModelError: there is no such model, or it was not registered by this project.
    """
    try:
        path = require_plain_code(uri)["artifacts"]["model"]["path"]
        fetched = mlflow.artifacts.download_artifacts(f"{uri}/artifacts/{Path(path).name}", dst_path=str(destination))
    except MlflowException as error:
        raise MissingModelError(
            f"{uri}: could not be fetched from {mlflow.get_tracking_uri()} ({error.message.splitlines()[0]}); "
            "make a model with `pii-finetune run`, or point MLFLOW_TRACKING_URI to the server that has it"
        ) from None
    return Path(fetched)


def require_plain_code(uri: str) -> dict[str, Any]:
    """Return how MLflow would load the model, after checking that it would unpickle nothing.

    Raises:
        MissingModelError: the model is not one made from code with a model folder, so not of this project.
    """
    flavor = mlflow.models.get_model_info(uri).flavors.get("python_function", {})
    ours = flavor.get("loader_module") == "mlflow.pyfunc.loaders.code_model" and "model_code_path" in flavor
    if not ours or "model" not in (flavor.get("artifacts") or {}):
        raise MissingModelError(
            f"{uri}: is no model of pii-finetune (loading it could run what was pickled into it); "
            "name one that `pii-finetune run` registered, e.g. models:/pii-dpo/Production"
        )
    return flavor


def _pinned(packages: tuple[str, ...]) -> list[str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lock if line.partition("==")[0].lower() in packages]

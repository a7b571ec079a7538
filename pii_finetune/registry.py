"""MLflow's model registry: the only module that changes it."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

import pii_finetune
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
    "accelerate",
)


def register(name: str, model_folder: Path, tags: dict[str, str]) -> ModelVersion:
    """Log the folder as a pyfunc model of the active run and register it as a new version of `name`."""
    from pii_finetune.production_model import SIGNATURE

    package = Path(pii_finetune.__file__).parent
    info = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(package / "production_model.py"),
        artifacts={"model": str(model_folder)},
        code_paths=[str(package)],
        pip_requirements=_pinned(_SERVING_PACKAGES),
        signature=SIGNATURE,
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


def fetch_model_folder(name: str, version: str, destination: Path) -> Path:
    """Download a version and return the folder its model is in."""
    uri = f"models:/{name}/{version}"
    return Path(mlflow.artifacts.download_artifacts(f"{uri}/artifacts/{_folder_name(uri)}", dst_path=str(destination)))


def _folder_name(uri: str) -> str:
    info = mlflow.models.get_model_info(uri)
    return Path(info.flavors["python_function"]["artifacts"]["model"]["path"]).name


def _pinned(packages: tuple[str, ...]) -> list[str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line for line in lock if line.partition("==")[0].lower() in packages]

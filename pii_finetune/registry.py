"""MLflow's model registry: what is registered, and which version is in production."""

import contextlib
import io
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

import pii_finetune
from pii_finetune.calibration import Calibration
from pii_finetune.errors import MissingModelError, PromotionRefusedError, TrackingUnreachableError, UserError
from pii_finetune.lock import locked_versions
from pii_finetune.manifest import CALIBRATION, SIGNATURE
from pii_finetune.model_names import ModelPair, model_names, pair_of
from pii_finetune.paths import ROOT
from pii_finetune.patience import patiently
from pii_finetune.promotion_history import Kind, Promotion, history_of, next_moment, one_line
from pii_finetune.promotion_lock import Confirm, promotion_lock, user_at_host
from pii_finetune.promotion_plan import Plan, carry_out, mend
from pii_finetune.registry_state import CHAMPION, PRODUCTION, RegistryState, read_state
from pii_finetune.tracking_server import shown

PAIR = model_names(None)
DPO_MODEL, SFT_MODEL = PAIR
MODEL_KEY = "model_key"  # tag of a version: what it was made from and how
ANY = "any"  # of expected_production: whatever is in production may be replaced

_LOGGER = logging.getLogger(__name__)

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
    "huggingface-hub",
    "accelerate",
)
_VERIFYING_PACKAGES = ("model-signing", "pyopenssl")  # for a signed model


def register(name: str, folder: Path, tags: Mapping[str, str], description: str) -> ModelVersion:
    """Log the folder as a pyfunc model of the active run and register it as a new version of `name`.

    The version is never seen without its tags; the description follows.
    """
    from pii_finetune.production_model import model_signature

    calibration = Calibration.from_dict(json.loads((folder / CALIBRATION).read_text(encoding="utf-8")))
    is_signed = (folder / SIGNATURE).is_file()
    package = Path(pii_finetune.__file__).parent
    info = patiently(
        mlflow.pyfunc.log_model,
        name=name.replace(".", "-"),  # of a logged model MLflow takes no dot, of a registered one it does
        python_model=str(package / "production_model.py"),
        artifacts={"model": str(folder)},
        code_paths=[str(package)],
        pip_requirements=_pinned((*_SERVING_PACKAGES, *_VERIFYING_PACKAGES) if is_signed else _SERVING_PACKAGES),
        signature=model_signature(calibration.has_review_band),
    )
    with contextlib.redirect_stderr(io.StringIO()):  # where it tells of success, whatever the log's level
        version = patiently(_version_of, info.model_uri, name, tags)
    return patiently(MlflowClient().update_model_version, name, version, description=description)


def _version_of(uri: str, name: str, tags: Mapping[str, str]) -> str:
    """Register a logged model, or find the version if that was done and the answer got lost."""
    known = version_of_key(name, tags[MODEL_KEY]) if MODEL_KEY in tags else None
    return known or str(mlflow.register_model(uri, name, tags=dict(tags)).version)


def promote(
    name: str,
    version: str,
    *,
    reason: str = "no reason was given",
    by: str | None = None,
    expected_production: str | None = ANY,
    kind: Kind = "promotion",
) -> Promotion | None:
    """Make the version the one in production: stage and alias, under the promotion lock.

    Args:
        name: the registered model.
        version: the version to put into production.
        reason: why, kept in the history.
        by: who, kept in the history; by default user@host.
        expected_production: the version that must be in production still, e.g. the one the candidate was compared with;
            None: there must be none. By default any will do.
        kind: whether it goes forward or back.

    Returns:
        What was recorded; None if the version was in production already, which changes nothing.

    Raises:
        MissingModelError: there is no such version.
        PromotionRefusedError: another version than expected is in production, or one was put there past the lock.
        PromotionLockedError: another promotion holds the lock for too long.
    """
    return _promote({name: version}, reason, by, expected_production, kind)


def promote_pair(
    sft_version: str,
    dpo_version: str,
    *,
    reason: str = "no reason was given",
    by: str | None = None,
    expected_production: str | None = ANY,
    kind: Kind = "promotion",
    pair: ModelPair = PAIR,
) -> Promotion | None:
    """Put both models of a run into production under one lock; as `promote`, `expected_production` being DPO's."""
    return _promote({pair.dpo: dpo_version, pair.sft: sft_version}, reason, by, expected_production, kind)


def repair(name: str = DPO_MODEL) -> tuple[str, ...]:
    """Finish what a promotion left half done and make alias and stage agree; return what was done, a sentence each.

    Every promotion does this first. One of a pair is repaired together with the other.
    """
    client = MlflowClient()
    with promotion_lock() as confirm:
        return tuple(sentence for each in pair_of(name) or (name,) for sentence in mend(client, each, confirm)[1])


def _promote(
    versions: Mapping[str, str], reason: str, by: str | None, expected: str | None, kind: Kind
) -> Promotion | None:
    versions = {name: str(version) for name, version in versions.items()}
    first = next(iter(versions))
    client = MlflowClient()
    with promotion_lock() as confirm:
        # A promotion of a pair that was broken off is written down with the DPO model.
        pair = pair_of(first)
        concerned = pair if pair is not None and pair.sft in versions else versions
        states = {name: _mended(client, name, confirm) for name in concerned}
        for name, version in versions.items():
            states[name].require(version)
        previous = {name: states[name].loaded for name in versions}
        if previous == versions:
            return None
        if expected not in (ANY, previous[first]):
            raise PromotionRefusedError(
                f"{first} version {versions[first]}: not promoted, because it was compared with {_called(expected)}, "
                f"and meanwhile {_called(previous[first])} is in Production; compare it with that and try again"
            )
        at = next_moment(history_of(states[first].versions))
        plan = Plan(versions, previous, at, by or user_at_host(), one_line(reason), kind)
        carry_out(client, plan, confirm)
        _verify(client, plan)
    return Promotion(versions[first], at, previous[first], plan.by, plan.reason, kind)


def _mended(client: MlflowClient, name: str, confirm: Confirm) -> RegistryState:
    state, done = mend(client, name, confirm)
    for sentence in done:
        _LOGGER.warning("%s", sentence)
    return state


def _called(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def _verify(client: MlflowClient, plan: Plan) -> None:
    """Look at what came of it: somebody may move stages past the lock, e.g. in MLflow's own pages."""
    for name, version in plan.versions.items():
        state = read_state(client, name)
        if state.production != (version,) or state.champion != version:
            raise PromotionRefusedError(
                f"{name} version {version}: was promoted, but somebody moved stages or aliases at the same time past "
                f"the promotion lock: in {PRODUCTION} now {', '.join(state.production) or 'none'}, {CHAMPION} "
                f"{state.champion}; see what is wanted there and promote that"
            )


def production_version(name: str) -> ModelVersion | None:
    """Return the version of `name` that is in production, or None.

    Raises:
        MissingModelError: MLflow's server does not let this user see whether there is such a model.
    """
    try:
        found = patiently(MlflowClient().get_latest_versions, name, stages=[PRODUCTION])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        if error.error_code != "PERMISSION_DENIED":
            raise
        who = os.environ.get("MLFLOW_TRACKING_USERNAME", "this user")
        raise MissingModelError(
            f"{who} may not see a model {name!r}, if there is one; a variant's models are made and granted beforehand, "
            "by a deploy with MLFLOW_VARIANTS (docs/operations.md)"
        ) from None
    return found[0] if found else None


def paired_models() -> tuple[str, ...]:
    """Return the names of all that is of a pair: the common one, registered or not, and the variants there are."""
    found = patiently(mlflow.search_registered_models, filter_string="name LIKE 'pii-%'")
    return tuple(dict.fromkeys((*PAIR, *sorted(each.name for each in found if pair_of(each.name) is not None))))


def version_of_key(name: str, key: str) -> str | None:
    """Return the newest version of `name` that was registered with this key, or None."""
    found = patiently(MlflowClient().search_model_versions, f"name='{name}' and tags.{MODEL_KEY}='{key}'")
    return str(max(int(each.version) for each in found)) if found else None


def fetch_model_folder(uri: str, destination: Path) -> Path:
    """Download of a model the folder its adapter, manifest and all are in, and none of its code; return where it is.

    Raises:
        MissingModelError: there is no such model, or it was not registered by this project.
    """
    return _fetch(uri, destination, whole=False)


def fetch_model(uri: str, destination: Path) -> tuple[Path, Path]:
    """Download a model with the code that travels with it; return where it is, and where in it its folder is.

    Raises:
        MissingModelError: there is no such model, or it was not registered by this project.
    """
    folder = _fetch(uri, destination, whole=True)
    return folder.parents[1], folder


def _fetch(uri: str, destination: Path, *, whole: bool) -> Path:
    try:
        name = Path(require_plain_code(uri)["artifacts"]["model"]["path"]).name
        wanted = uri if whole else f"{uri}/artifacts/{name}"
        fetched = Path(patiently(mlflow.artifacts.download_artifacts, wanted, dst_path=str(destination)))
    except (UserError, TrackingUnreachableError):
        raise
    except Exception as error:  # noqa: BLE001  every kind of artifact store has a client, and errors, of its own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MissingModelError(
            f"{uri}: could not be fetched from {shown(mlflow.get_tracking_uri())} ({reason[:300]}); "
            "make a model with `pii-finetune run`, or point MLFLOW_TRACKING_URI to the server that has it"
        ) from None
    return fetched / "artifacts" / name if whole else fetched


def require_plain_code(uri: str) -> dict[str, Any]:
    """Return how MLflow would load the model, after checking that it would unpickle nothing.

    Raises:
        MissingModelError: the model is not one made from code with a model folder, so not of this project.
    """
    flavor = patiently(mlflow.models.get_model_info, uri).flavors.get("python_function", {})
    ours = flavor.get("loader_module") == "mlflow.pyfunc.loaders.code_model" and "model_code_path" in flavor
    if not ours or "model" not in (flavor.get("artifacts") or {}):
        raise MissingModelError(
            f"{uri}: is no model of pii-finetune (loading it could run what was pickled into it); "
            "name one that `pii-finetune run` registered, e.g. models:/pii-dpo/Production"
        )
    return flavor


def _pinned(packages: tuple[str, ...]) -> list[str]:
    return [f"{name}=={version}" for name, version in locked_versions(ROOT).items() if name in packages]

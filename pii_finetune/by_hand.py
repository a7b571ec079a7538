"""Promotion and rollback as a person asks for them: by the version alone, and always of both models of a pair (ADR 2).

What would not load is refused: a service that loads what is in production should not be the first to find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pii_finetune.errors import MissingModelError, PromotionRefusedError
from pii_finetune.model_check import verify_registered
from pii_finetune.model_names import pair_of
from pii_finetune.promotion_history import Kind, Promotion, history_of, version_before
from pii_finetune.registry import ANY, promote, promote_pair
from pii_finetune.registry_state import read_state


@dataclass(frozen=True)
class ByHand:
    """What was asked for, and what came of it."""

    versions: Mapping[str, str]
    promotion: Promotion | None  # None: it was in production already


def promote_by_hand(model: str, version: str, reason: str) -> ByHand:
    """Put the version into production, and with a version of a pair the other one of the same run.

    Raises:
        MissingModelError: there is no such version, its other half is missing, or its files are.
        TamperedModelError: it is not as it was registered, or not signed though it must be.
        PromotionRefusedError: no reason was given.
    """
    return _put(model, version, _given(reason), ANY, "promotion")


def rollback(model: str, reason: str) -> ByHand:
    """Put the version that was in production before the present one back there.

    Raises:
        MissingModelError: there is no such model, or the version or its files were deleted.
        TamperedModelError: it is not as it was registered, or not signed though it must be.
        PromotionRefusedError: history knows of none, no reason was given, or another was promoted at the same moment.
    """
    state = read_state(MlflowClient(), model)
    state.require_any()
    if state.loaded is None:
        raise MissingModelError(f"no version of {model!r} is in Production, so there is nothing to roll back")
    before = version_before(history_of(state.versions), state.loaded)
    if before is None:
        raise PromotionRefusedError(
            f"history knows of no version of {model} in Production before version {state.loaded}; promote one by hand: "
            f"pii-finetune promote VERSION --model {model} --reason TEXT"
        )
    return _put(model, before, _given(reason), state.loaded, "rollback")


def _put(model: str, version: str, reason: str, expected: str | None, kind: Kind) -> ByHand:
    chosen = read_state(MlflowClient(), model).require(version)
    pair = pair_of(model)
    if pair is None:
        verify_registered(f"models:/{model}/{version}")
        return ByHand({model: version}, promote(model, version, reason=reason, expected_production=expected, kind=kind))
    other = pair.sft if model == pair.dpo else pair.dpo
    versions = {model: version, other: _other_half(other, model, chosen)}
    for name, number in versions.items():
        verify_registered(f"models:/{name}/{number}")
    if model == pair.sft:
        expected = ANY  # what is expected is said of the DPO model
    promotion = promote_pair(
        versions[pair.sft], versions[pair.dpo], reason=reason, expected_production=expected, kind=kind, pair=pair
    )
    return ByHand({name: versions[name] for name in pair}, promotion)


def _other_half(other: str, model: str, version: ModelVersion) -> str:
    """Return the version of the other model of a pair that the same run registered; the newest if it did so twice."""
    run = version.tags.get("run")
    found = MlflowClient().search_model_versions(f"name='{other}' and tag.run='{run}'") if run else []
    if not found:
        raise MissingModelError(
            f"{model} version {version.version}: there is no version of {other} of the same run (tag run={run}), and "
            "one is not promoted without the other; promote a version that has both"
        )
    return max((str(each.version) for each in found), key=int)


def _given(reason: str) -> str:
    if not reason.strip():
        raise PromotionRefusedError(
            "the reason is empty; say why with --reason TEXT: whoever looks later will want to know"
        )
    return reason

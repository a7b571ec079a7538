"""What a promotion is about to do, written into the registry before it does it, so that the next one can finish it.

The registry moves a stage and an alias in two transactions, and the pair of models in four. The plan is kept as a tag
of the first model until all is done. The first model's change of stage decides: before it nothing anybody loads has
changed, and the plan is dropped; after it the plan is carried out to its end. So mending never changes which version of
the first model (pii-dpo of the pair) is in production.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlflow import MlflowClient

from pii_finetune.promotion_history import Kind, Promotion, record
from pii_finetune.registry_state import CHAMPION, PRODUCTION, RegistryState, read_state

_TAG = "promotion_pending"


@dataclass(frozen=True)
class Plan:
    """Versions to be in production, by the model's name; the first decides whether a broken-off plan is carried out."""

    versions: Mapping[str, str]
    previous: Mapping[str, str | None]
    at: str
    by: str
    reason: str
    kind: Kind


def pending_plan(state: RegistryState) -> Plan | None:
    """Return the plan of a promotion that is going on or was broken off."""
    written = (state.tags or {}).get(_TAG)
    return Plan(**json.loads(written)) if written else None


def carry_out(client: MlflowClient, plan: Plan, confirm: Callable[[], Any]) -> None:
    """Write the plan down, move stage and alias of each model, record it; safe to do twice.

    MLflow archives the version before and sets the new one in one transaction, so that no reader sees none or two; two
    such transactions at once could leave two, which is what the promotion lock is for.
    """
    first = next(iter(plan.versions))
    confirm()
    client.set_registered_model_tag(first, _TAG, json.dumps(asdict(plan), ensure_ascii=False))
    for name, version in plan.versions.items():
        confirm()
        client.transition_model_version_stage(name, version, PRODUCTION, archive_existing_versions=True)
        client.set_registered_model_alias(name, CHAMPION, version)
        if plan.previous[name] != version:
            record(client, name, Promotion(version, plan.at, plan.previous[name], plan.by, plan.reason, plan.kind))
    client.delete_registered_model_tag(first, _TAG)


def mend(client: MlflowClient, name: str, confirm: Callable[[], Any]) -> tuple[RegistryState, tuple[str, ...]]:
    """Finish or drop a promotion of this model that was broken off, and make its alias agree with its stage.

    Returns how the model stands then, and what was done, a sentence each.
    """
    state = read_state(client, name)
    done = []
    if (plan := pending_plan(state)) is not None:
        what = " and ".join(f"{each} version {version}" for each, version in plan.versions.items())
        if state.loaded == plan.versions[name]:
            carry_out(client, _still_possible(client, plan), confirm)
            done.append(f"finished the promotion of {what} that {plan.by} began at {plan.at}")
        else:
            client.delete_registered_model_tag(name, _TAG)
            done.append(f"dropped the promotion of {what}, which was broken off before it changed anything")
    elif state.loaded is not None:
        if len(state.production) > 1:
            confirm()
            client.transition_model_version_stage(name, state.loaded, PRODUCTION, archive_existing_versions=True)
            done.append(f"archived all versions of {name} in Production but the newest, {state.loaded}")
        if state.champion != state.loaded:
            client.set_registered_model_alias(name, CHAMPION, state.loaded)
            done.append(f"moved {name}@{CHAMPION} from version {state.champion} to {state.loaded}, as in Production")
    if not done:
        return state, ()
    state, more = mend(client, name, confirm)
    return state, (*done, *more)


def _still_possible(client: MlflowClient, plan: Plan) -> Plan:
    """Return the plan less the models whose version was deleted meanwhile."""
    left = {
        name: version
        for name, version in plan.versions.items()
        if version in {str(each.version) for each in read_state(client, name).versions}
    }
    return replace(plan, versions=left)

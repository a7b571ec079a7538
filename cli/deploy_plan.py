"""What `prefect deploy --all` and `pii-finetune automate` would change on the server.

Prefect's own code and ours do their work, on what the server holds; what they would write is kept and compared.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect.cli.deploy import _core
from prefect.cli.deploy._config import _load_deploy_configs_and_actions, _merge_with_default_deploy_config
from prefect.cli.deploy._core import _run_single_deploy as _deploy
from prefect.client.orchestration import PrefectClient
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_placeholder_flow
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.templating import find_placeholders
from rich.console import Console

from cli.deploy_changes import changes
from cli.kept_writes import KeptWrites, Write

Outcome = Literal["new", "changed", "same", "left", "failed"]
# Every one of Prefect's servers answers in a fraction of these; its client would try for minutes.
PATIENCE: dict[Any, Any] = {PREFECT_API_REQUEST_TIMEOUT: 8, PREFECT_CLIENT_MAX_RETRIES: 0}
# `version_info` says `version` again, and the owner is the deployment.
_SAID_ELSEWHERE = ("version_info", "owner_resource")
_UNKNOWN = (*_SAID_ELSEWHERE, "version", "parameter_openapi_schema", "description")  # without importing the flow


@dataclass(frozen=True)
class Planned:
    """One thing on the server, and what would become of it."""

    name: str
    outcome: Outcome
    details: tuple[str, ...] = ()


async def plan_deployments(file: Path, *, imports: bool) -> list[Planned]:
    """Return what would become of each deployment of the file, with its triggers, and what is there besides.

    Args:
        file: prefect.yaml, in the working directory.
        imports: whether to import the flows, which takes ten seconds; without, what only they know is not compared.
    """
    quiet = Console(file=io.StringIO())
    configs, actions = _load_deploy_configs_and_actions(file, console=quiet)
    # These do things: nothing is built or pushed here. What deployments take from their outputs shows as left out.
    actions |= {"build": [], "push": []}
    if not configs:
        return [Planned(file.name, "failed", ("Prefect takes no deployment from it, and makes none",))]
    planned, ids = [], set()
    with temporary_settings(PATIENCE), contextlib.nullcontext() if imports else _flows_by_their_source():
        context = AsyncClientContext()
        kept = KeptWrites(context.client)
        async with context:
            for config in configs:
                if not config.get("name"):
                    continue
                kept.writes.clear()
                bare = _merge_with_default_deploy_config(config | {"build": None, "push": None})
                try:
                    await _deploy(bare, actions, console=quiet, is_interactive=lambda: False)
                except Exception as error:  # noqa: BLE001  whatever would end `prefect deploy` is to be told
                    name = f"{config.get('entrypoint')} {config['name']}"
                    planned.append(Planned(name, "failed", (_one_line(error),)))
                    continue
                change, id_ = await _compare(context.client, kept.writes, _SAID_ELSEWHERE if imports else _UNKNOWN)
                planned.append(change)
                ids.add(id_)
            planned += await _besides(context.client, ids)
    return planned


def plan_automations() -> list[Planned]:
    """Return what would become of the automations of tasks/automations.py."""
    from tasks.automations import NAMES, RESUMER, ensure_automations

    with temporary_settings(PATIENCE):
        context = SyncClientContext()
        kept = KeptWrites(context.client)
        with context:
            try:
                ensure_automations()
            except ObjectNotFound:
                return [Planned(name, "new", (f"once there is {RESUMER}",)) for name in NAMES]
            there = {name: context.client.read_automations_by_name(name) for name in NAMES}
    written = {write.body["name"]: write for write in kept.writes}
    planned = []
    for name in NAMES:
        if name not in written:
            planned.append(Planned(name, "same"))
        elif written[name].method == "POST":
            planned.append(Planned(name, "new"))
        else:
            old = there[name][0].model_dump(mode="json")
            planned.append(Planned(name, "changed", tuple(changes(old, written[name].body))))
    return planned


@contextlib.contextmanager
def _flows_by_their_source() -> Iterator[None]:
    """Have Prefect read a flow's name off its source, as it does where a flow cannot be imported."""
    original = _core.load_flow_from_entrypoint
    _core.load_flow_from_entrypoint = lambda entrypoint: load_placeholder_flow(entrypoint, NotImplementedError())
    try:
        yield
    finally:
        _core.load_flow_from_entrypoint = original


async def _compare(client: PrefectClient, writes: list[Write], unsaid: tuple[str, ...]) -> tuple[Planned, str]:
    """Return what the kept requests of one deployment would change, but for some fields, and its id."""
    triggers = [write.body for write in writes if (write.method, write.path) == ("POST", "/automations/")]
    made = next((write for write in writes if (write.method, write.path) == ("POST", "/deployments/")), None)
    if made is not None:
        flow = next(write.body["name"] for write in writes if write.path == "/flows/")
        return Planned(f"{flow}/{made.body['name']}", "new"), ""
    update = next(write for write in writes if write.method == "PATCH")
    id_ = update.path.rpartition("/")[2]
    there = (await client.request("GET", "/deployments/{id}", path_params={"id": id_})).json()
    flow = (await client.read_flow(there["flow_id"])).name
    wanted = _said(update.body, unsaid)
    there["concurrency_limit"] = (there.get("global_concurrency_limit") or {}).get("limit")
    details = changes(there, wanted)
    if there["schedules"] and not wanted.get("schedules"):  # Prefect takes none as nothing said
        details.append(f"schedules: {len(there['schedules'])} on the server, none in the file; deploying leaves them")
    details += await _compare_triggers(client, id_, triggers)
    return Planned(f"{flow}/{there['name']}", "changed" if details else "same", tuple(details)), id_


async def _compare_triggers(client: PrefectClient, deployment: str, wanted: list[dict[str, Any]]) -> list[str]:
    """Compare a deployment's own automations, which deploying makes anew each time."""
    answer = await client.request(
        "GET", "/automations/related-to/{resource_id}", path_params={"resource_id": f"prefect.deployment.{deployment}"}
    )
    there = {each["name"]: each for each in answer.json()}
    details = []
    for trigger in wanted:
        old = there.pop(trigger["name"], None)
        lines = ["new"] if old is None else changes(old, _said(trigger, _SAID_ELSEWHERE))
        details += [f"trigger {trigger['name']}: {line}" for line in lines]
    # Others that run this deployment are somebody's own; the server does not tell who made them, but for the name.
    return details + [f"trigger {name}: removed" for name in there if re.fullmatch(r".+__automation_\d+", name)]


def _said(body: dict[str, Any], unsaid: tuple[str, ...]) -> dict[str, Any]:
    """Return what a request asks for; without a queue, a deployment keeps the one it has."""
    unsaid = (*unsaid, *(["work_queue_name"] if body.get("work_queue_name") is None else []))
    if "version" in unsaid and find_placeholders(body.get("pull_steps")):
        unsaid = (*unsaid, "pull_steps")  # where a variable is set that is not set here, its value is deployed
    return {name: value for name, value in body.items() if name not in unsaid}


async def _besides(client: PrefectClient, ids: set[str]) -> list[Planned]:
    others, offset = [], 0
    while page := await client.read_deployments(limit=200, offset=offset):
        others += [each for each in page if str(each.id) not in ids]
        offset += len(page)
    flows = {each.flow_id: (await client.read_flow(each.flow_id)).name for each in others[:20]}
    named = [Planned(f"{flows[each.flow_id]}/{each.name}", "left") for each in others[:20]]
    return named + ([Planned(f"{len(others) - 20} more", "left")] if len(others) > 20 else [])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

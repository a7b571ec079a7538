"""Many runs of the embedded profile, cut to seconds, under random kills: is the house in order afterwards?

    python -m benchmarks.soak --runs 30 --seed 1

Each run is one of pii-finetune/main on real servers and a real worker. Some repeat the data and settings of the run
before, some have changed rows. In most, something is killed with SIGKILL at a random moment: the flow's process, the
worker, both (the host), Prefect's server or MLflow's; what is no flow is started again at once. A run is over when it,
or the attempt that resumes it, has ended. The same seed makes the same plan; when a kill falls depends on the machine.

At the end: no run is stuck in Prefect or MLflow, one version of each model is in Production, no process is left over,
no slot is held, no finished stage was repeated, and each finished training has every step once. Exit code 1 if not.
Writes benchmarks/results/soak.json.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from benchmarks.servers import Servers, flow_process, running_servers, wait_for
from benchmarks.short_run import UNJUDGED
from make_data.glossary import GLOSSARY, read_glossary
from make_data.workbook import build_rows, write_workbook

RESULTS = Path(__file__).parent / "results" / "soak.json"
KILLS = ("flow", "worker", "host", "prefect", "mlflow")
_TRAINING = "pii-finetune/main"
_STEPS = {"sft": 60, "dpo": 20}
_LOGGING_STEPS = 5
_LONGEST = 900  # seconds until a run, with all its attempts, must have ended
_SETTINGS = {
    "sft.max_steps": _STEPS["sft"],
    "dpo.max_steps": _STEPS["dpo"],
    **{
        f"{stage}.{name}": value
        for stage in _STEPS
        for name, value in (("logging_steps", _LOGGING_STEPS), ("save_steps", 2 * _LOGGING_STEPS), ("eval_steps", 20))
    },
    **UNJUDGED,
}


@dataclass(frozen=True)
class Plan:
    """What is to happen in one run."""

    number: int
    data: int  # which workbook
    kill: str | None
    after: float  # seconds after the run's process is there


@dataclass
class Outcome:
    """What came of it: the run, and the attempts that went on with it."""

    plan: Plan
    states: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seconds_to_end: float | None = None  # from the kill, if it hit before the end, to the end of the last attempt
    stuck: str = ""  # what was waited for in vain


def make_plans(num_runs: int, seed: int) -> list[Plan]:
    """Return the plan of every run: two in five on changed rows, five in six with a kill."""
    draw = random.Random(seed)  # noqa: S311
    plans, data = list[Plan](), 0
    for number in range(num_runs):
        data += number > 0 and draw.random() < 0.4
        kill = draw.choice((*KILLS, None))
        plans.append(Plan(number, data, kill, round(draw.uniform(0, 25), 1)))
    return plans


class Soak:
    """Runs carried out one after the other."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._servers, self._folder = servers, folder
        self.prefect = SyncPrefectClient(servers.stack.prefect_api)
        self.mlflow = MlflowClient(servers.stack.mlflow)
        self._deployment = self.prefect.read_deployment_by_name(_TRAINING).id
        watcher = self.prefect.read_deployment_by_name("pii-watch/main").id
        self.prefect.update_deployment(watcher, DeploymentUpdate(paused=True))  # its looks would only take time
        self._rows = random.Random(0).sample(build_rows(read_glossary(GLOSSARY)), 200)  # noqa: S311

    def carry_out(self, plan: Plan) -> Outcome:
        """Start the run, kill what the plan says, and wait until it and all attempts after it have ended."""
        outcome, started = Outcome(plan), time.monotonic()
        given = {"data": str(self._workbook(plan.data)), "overrides": _SETTINGS | {"output_dir": str(self._outputs)}}
        run = self.prefect.create_flow_run_from_deployment(self._deployment, parameters=given)
        try:
            killed = self._kill(plan, run) if plan.kill else None
            while True:
                ended = self._end_of(run)
                outcome.states.append(str(ended.state and ended.state.name))
                if ended.state is None or not ended.state.is_crashed():
                    break
                (run,) = wait_for(lambda crashed=ended: self._resumed(crashed), _LONGEST, f"what resumes {ended.name}")
            outcome.seconds_to_end = None if killed is None else round(time.monotonic() - killed, 1)
        except TimeoutError as error:
            outcome.stuck = str(error)
        outcome.seconds = round(time.monotonic() - started, 1)
        return outcome

    def unfinished(self) -> list[FlowRun]:
        """Return the flow runs, of any flow, that were due and have not ended."""
        now = datetime.now(UTC)
        runs = [run for run in self.prefect.read_flow_runs() if run.state is None or not run.state.is_final()]
        return [run for run in runs if run.expected_start_time is None or run.expected_start_time < now]

    @property
    def _outputs(self) -> Path:
        return self._folder / "outputs"

    def _workbook(self, data: int) -> Path:
        path = self._folder / f"labels-{data}.xlsx"
        if not path.exists():
            write_workbook(self._rows[: len(self._rows) - data], path)
        return path

    def _kill(self, plan: Plan, run: FlowRun) -> float | None:
        """Kill as planned, and start again what a supervisor would; return when, None if the run had ended before."""
        process = wait_for(lambda: flow_process(run.id), _LONGEST, f"a process for {run.name}")
        time.sleep(plan.after)
        had_ended, killed = not process.is_running(), time.monotonic()
        if plan.kill in ("worker", "host"):
            self._servers.kill("worker")
        if plan.kill in ("flow", "host"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if plan.kill in ("prefect", "mlflow"):
            self._servers.kill(plan.kill)
            self._servers.restart(plan.kill)
        if plan.kill in ("worker", "host"):
            self._servers.restart("worker")
        return None if had_ended else killed

    def _end_of(self, run: FlowRun) -> FlowRun:
        def ended() -> FlowRun | None:
            try:
                found = self.prefect.read_flow_run(run.id)
            except (httpx.HTTPError, PrefectHTTPStatusError):  # the server was killed
                return None
            return found if found.state is not None and found.state.is_final() else None

        return wait_for(ended, _LONGEST, f"{run.name} to end; the log: {self._servers.log()[-3000:]}")

    def _resumed(self, crashed: FlowRun) -> list[FlowRun]:
        wanted = FlowRunFilter.model_validate({"idempotency_key": {"any_": [f"resume:{crashed.id}"]}})
        return self.prefect.read_flow_runs(flow_run_filter=wanted)


def find_faults(soak: Soak, outcomes: Sequence[Outcome]) -> list[str]:
    """Return what is not in order, while the servers still run."""
    faults = [
        f"run {each.plan.number} ({each.plan.kill}) ended as {each.states} {each.stuck}"
        for each in outcomes
        if each.stuck or each.states[-1] != "Completed"
    ]
    with contextlib.suppress(TimeoutError):  # what only schedules the next attempt may end last
        wait_for(lambda: not soak.unfinished(), 120, "all flow runs to end")
    faults += [f"Prefect: {run.name} is {run.state and run.state.name}" for run in soak.unfinished()]
    limit = soak.prefect.read_deployment_by_name(_TRAINING).global_concurrency_limit
    if limit is None or limit.active_slots:
        faults.append(f"Prefect: {limit.active_slots if limit else 'no'} slots of {_TRAINING} are held")
    runs = _all_runs(soak.mlflow)
    faults += [f"MLflow: {r.info.run_id} is {r.info.status}" for r in runs if r.info.status in ("RUNNING", "SCHEDULED")]
    for name in ("pii-dpo", "pii-sft"):
        versions = soak.mlflow.search_model_versions(f"name='{name}'")
        production = [each.version for each in versions if each.current_stage == "Production"]
        if len(production) != 1 or soak.mlflow.get_model_version_by_alias(name, "champion").version != production[0]:
            faults.append(f"{name}: versions {production} are in Production")
    return faults + _faults_of_stages(soak.mlflow, runs)


def _faults_of_stages(client: MlflowClient, runs: Sequence[Run]) -> list[str]:
    faults = []
    done = Counter()
    for run in runs:
        stage = run.data.tags.get("stage")
        if stage not in _STEPS or run.info.status != "FINISHED" or "kept_from" in run.data.tags:
            continue
        done[stage, run.data.tags["stage_key"]] += 1
        points = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
        if points != [1, *range(_LOGGING_STEPS, _STEPS[stage] + 1, _LOGGING_STEPS)]:
            faults.append(f"MLflow: {stage} {run.info.run_id} has its loss at steps {points}")
    return faults + [
        f"{stage} was trained {count} times on the same" for (stage, _), count in done.items() if count > 1
    ]


def _all_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("pii-finetune")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    runs = list(found)
    while found.token:
        found = client.search_runs([experiment.experiment_id], max_results=1000, page_token=found.token)
        runs += found
    return runs


def main() -> int:
    """Carry out all runs, look at what is left, print and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as name, running_servers(Path(name)) as servers:
        soak = Soak(servers, Path(name))
        for plan in make_plans(flags.runs, flags.seed):
            outcomes.append(soak.carry_out(plan))
            print(_line(outcomes[-1], time.monotonic() - started), flush=True)
            if outcomes[-1].stuck:  # what comes after would only wait behind it
                break
        faults = find_faults(soak, outcomes)
        faults += [f"left over: {command}" for command in servers.stop()]
    result = _result(flags, outcomes, faults, time.monotonic() - started)
    flags.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for fault in faults:
        print(f"NOT IN ORDER: {fault}")
    print(f"{len(outcomes)} runs, {result['kills']}, {len(faults)} faults, {result['seconds']} s")
    return 1 if faults else 0


def _line(outcome: Outcome, seconds: float) -> str:
    plan = outcome.plan
    what = f"{plan.kill} killed after {plan.after} s" if plan.kill else "nothing killed"
    how = " -> ".join(outcome.states) + outcome.stuck
    return f"{seconds:6.0f} s  run {plan.number}, data {plan.data}, {what}: {how}, {outcome.seconds} s"


def _result(
    flags: argparse.Namespace, outcomes: Sequence[Outcome], faults: Sequence[str], seconds: float
) -> dict[str, Any]:
    return {
        "runs": len(outcomes),
        "seed": flags.seed,
        "seconds": round(seconds),
        "kills": dict(Counter(each.plan.kill or "none" for each in outcomes)),
        "attempts": sum(len(each.states) for each in outcomes),
        "faults": list(faults),
        "outcomes": [asdict(each) for each in outcomes],
        "packages": {name: version(name) for name in ("torch", "transformers", "trl", "mlflow", "prefect")},
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
        },
    }


if __name__ == "__main__":
    sys.exit(main())

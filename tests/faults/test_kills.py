"""A run that dies in each stage after SFT, one after the other, and one that is stopped where nothing trains."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]
HOLD_LOCK = Path(__file__).parents[1] / "integration/hold_promotion_lock.py"


def wait_for(runs, what, happened):
    process, deadline = runs.started[-1], time.monotonic() + 400
    while time.monotonic() < deadline:
        if found := happened():
            return found
        assert process.poll() is None, runs.said()[-4000:]
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come: {runs.said()[-3000:]}")


def wait_for_stage(runs, stage):
    return wait_for(runs, stage, lambda: next((r for r in runs.runs(stage) if r.info.status == "RUNNING"), None))


def versions(runs, name):
    return runs.client.search_model_versions(f"name='{name}'")


def is_promoting(folder):
    with sqlite3.connect(f"file:{folder / 'prefect/prefect.db'}?mode=ro", uri=True) as database:
        return database.execute("select 1 from task_run where name like 'promote models%'").fetchone()


@pytest.fixture
def promotion_lock(runs, tmp_path):
    """A way to hold the lock of promotions, so that a run waits between registering and promoting."""
    held = []

    def hold():
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        process = subprocess.Popen([sys.executable, str(HOLD_LOCK), uri, "0"], stdout=subprocess.PIPE, text=True)
        held.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return lambda: (process.kill(), process.wait())

    yield hold
    for process in held:
        process.kill()
        process.wait()


def test_killed_in_dpo_then_in_evaluate_then_before_promoting_a_rerun_repeats_nothing(runs, promotion_lock, tmp_path):
    process = runs.start()
    dpo = runs.wait_for_step("dpo", 10)
    runs.kill_all(process)

    process = runs.start()
    evaluate = wait_for_stage(runs, "evaluate")
    runs.kill_all(process)
    said = runs.said()
    assert "validate: kept from run" in said
    assert "SFT: kept from run" in said
    assert "going on from checkpoint-" in said
    assert runs.steps(runs.runs("dpo")[0]) == [1, *range(5, 61, 5)]

    process = runs.start()
    wait_for_stage(runs, "evaluate")
    release = promotion_lock()
    wait_for(runs, "a registered version", lambda: versions(runs, "pii-dpo"))
    # Both are registered, and it waits for the lock: where it is comes to be known by that it is not done yet.
    wait_for(runs, "both models", lambda: versions(runs, "pii-sft") and is_promoting(tmp_path))
    runs.kill_all(process)
    assert not [v for v in versions(runs, "pii-dpo") if v.current_stage == "Production"]
    assert [run.info.status for run in runs.runs()] == ["RUNNING"]

    release()
    shutil.rmtree(tmp_path / "outputs")  # what is finished is in MLflow
    said = runs.finish()
    for stage in ("validate", "SFT", "DPO", "evaluation"):
        assert f"{stage}: kept from run" in said
    assert "the same model is version 1 already" in said
    assert [len(runs.runs(stage)) for stage in (None, "validate", "sft", "dpo", "evaluate")] == [1] * 5
    assert {r.info.status for stage in (None, "sft", "dpo", "evaluate") for r in runs.runs(stage)} == {"FINISHED"}
    assert runs.runs("dpo")[0].info.run_id == dpo.info.run_id
    assert runs.runs("evaluate")[0].info.run_id == evaluate.info.run_id
    for name in ("pii-sft", "pii-dpo"):
        assert [v.current_stage for v in versions(runs, name)] == ["Production"]


@pytest.mark.parametrize("stage", ["validate", "evaluate"])
def test_sigterm_where_nothing_trains_ends_cancelled_and_killed_and_a_rerun_goes_on(runs, stage):
    short = ["--set", "sft.max_steps=10", "--set", "dpo.max_steps=5"]
    process = runs.start(*short)
    begun = wait_for_stage(runs, stage)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1
    said = runs.said()
    assert "Cancelled" in said
    assert "Traceback" not in said
    assert [run.info.status for run in (*runs.runs(), *runs.runs(stage))] == ["KILLED"] * 2
    runs.finish(*short)
    assert [run.info.status for run in (*runs.runs(), *runs.runs(stage))] == ["FINISHED"] * 2
    assert runs.runs(stage)[0].info.run_id == begun.info.run_id

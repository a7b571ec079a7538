"""Deaths of flow processes, workers and whole hosts under a deployment, with what brings the runs back."""

import logging
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def _worker(deployed):
    """Whatever the test before killed, there is a worker."""
    deployed.ensure_worker()


def now():
    return datetime.now(UTC)


def tell(what, seconds):
    """Have a time in the report of a run with -rP."""
    logging.getLogger("measured").warning("%s: %.1f s", what, seconds)


def assert_whole(deployed, runs):
    """One parent and one SFT run in MLflow for all attempts, no step missing or twice, one model, no slot held."""
    [parent], [sft] = deployed.runs(runs[-1]), deployed.runs(runs[-1], "sft")
    assert (parent.info.status, sft.info.status) == ("FINISHED", "FINISHED")
    steps = deployed.steps(sft)
    assert steps == [1, *range(5, max(steps) + 1, 5)]
    assert len(deployed.production()) == 1
    assert deployed.slots() == 0
    return parent, sft


def test_a_run_outlives_its_worker_and_a_new_worker_starts_the_next(deployed):
    # Fault 2.
    run = deployed.run(seed=2)
    deployed.wait_for_step(run, 20)
    deployed.servers.kill("worker")
    killed = time.monotonic()
    flow = deployed.process(run)
    deployed.wait_for_state(run, "Completed")
    tell("worker killed, run completed", time.monotonic() - killed)
    assert_whole(deployed, [run])
    flow.wait(60)

    deployed.ensure_worker()
    after = deployed.run(seed=2)
    deployed.wait_for_state(after, "Running", "Completed")
    deployed.wait_for_state(after, "Completed")
    assert deployed.slots() == 0


def test_a_run_outlives_a_worker_that_dies_while_the_run_is_about_to_begin(deployed):
    begun = len(deployed.log())
    run = deployed.run(seed=12)
    deployed.wait(lambda: "deployment steps completed" in deployed.log()[begun:], "its steps were not taken", 120)
    assert deployed.client.read_flow_run(run).state.is_pending()
    deployed.servers.kill("worker")
    deployed.wait_for_state(run, "Completed")
    assert_whole(deployed, [run])
    deployed.ensure_worker()


def test_a_killed_training_is_resumed_by_itself_after_growing_delays_and_promoted_once(deployed):
    # Fault 1.
    first = deployed.run(seed=1)
    sft = deployed.wait_for_step(first, 20)
    deployed.process(first).kill()
    killed = time.monotonic()
    deployed.wait_for_state(first, "Crashed")
    tell("flow process killed, run Crashed", time.monotonic() - killed)
    second = deployed.wait_for_next(first)
    tell("flow process killed, next attempt scheduled", time.monotonic() - killed)

    deployed.wait_for_state(second.id, "Running")
    tell("flow process killed, next attempt runs", time.monotonic() - killed)
    deployed.wait_for_step(second.id, max(deployed.steps(sft)) + 5)
    tell("flow process killed, trains past where it was", time.monotonic() - killed)
    deployed.process(second.id).kill()
    third = deployed.wait_for_next(second.id)
    deployed.wait_for_state(third.id, "Completed")

    for crashed, attempt, delay in ((first, second, 1), (second.id, third, 2)):
        told = [run for run in deployed.flow_runs("pii-resume/main") if run.parameters == {"flow_run_id": str(crashed)}]
        told = [deployed.wait_for_state(run.id, "Completed") for run in told]
        asked = attempt.expected_start_time - timedelta(seconds=delay)
        assert any(run.start_time <= asked <= run.end_time for run in told), (attempt, told)
    _, same = assert_whole(deployed, [first, second.id, third.id])
    assert same.info.run_id == sft.info.run_id


def test_no_attempt_follows_the_last_nor_a_run_that_failed_or_was_cancelled(deployed):
    began, asked = now(), len(deployed.flow_runs("pii-resume/main"))
    failed = deployed.run(**{"data.label_column": "no such column"})
    deployed.wait_for_state(failed, "Failed")

    cancelled = deployed.run(seed=3)
    deployed.wait_for_state(cancelled, "Running")
    deployed.cancel(cancelled)
    deployed.wait_for_state(cancelled, "Cancelled")

    last = deployed.run(tags=["resume-attempt:3"], seed=4)
    deployed.wait_for_state(last, "Running")
    deployed.process(last).kill()
    deployed.wait_for_state(last, "Crashed")
    deployed.wait(lambda: len(deployed.flow_runs("pii-resume/main")) > asked, "pii-resume did not start", 120)
    # Not about the other two; more than once about this one where the server repeats what it could not write down.
    for told in deployed.flow_runs("pii-resume/main")[asked:]:
        assert told.parameters == {"flow_run_id": str(last)}
        deployed.wait_for_state(told.id, "Completed")
    assert {run.id for run in deployed.flow_runs() if run.created > began} == {failed, cancelled, last}
    assert deployed.slots() == 0


def test_a_dead_host_is_noticed_by_silence_or_by_its_next_worker_and_the_runs_go_on(deployed):
    # Fault 3, without a worker: heartbeats, which Prefect sends every 30 s and no faster, end.
    deployed.crash_after_silence_of(40)
    first = deployed.run(seed=5)
    sft = deployed.wait_for_step(first, 20)
    deployed.servers.kill("worker")
    deployed.process(first).kill()
    killed = time.monotonic()
    deployed.wait_for_state(first, "Crashed", seconds=200)
    tell("host died, Crashed by silence of 40 s", time.monotonic() - killed)
    assert deployed.slots() == 0
    assert [run.info.status for run in (*deployed.runs(first), *deployed.runs(first, "sft"))] == ["RUNNING"] * 2

    deployed.crash_after_silence_of(180)

    # A new worker ends what MLflow has of it, and resumes it.
    deployed.ensure_worker()
    deployed.wait(lambda: "now KILLED" in deployed.log(), "the reconciler did not close the MLflow run", 120)
    second = deployed.wait_for_next(first)
    deployed.wait_for_step(second.id, max(deployed.steps(sft)) + 5)

    # The host dies again and is back at once.
    deployed.servers.kill("worker")
    deployed.process(second.id).kill()
    deployed.ensure_worker()
    started = time.monotonic()
    deployed.wait_for_state(second.id, "Crashed", seconds=120)
    tell("worker started after a death, Crashed by the reconciler", time.monotonic() - started)
    assert "nobody saw it end" in deployed.client.read_flow_run(second.id).state.message
    third = deployed.wait_for_next(second.id)
    deployed.wait_for_state(third.id, "Completed")
    _, same = assert_whole(deployed, [first, second.id, third.id])
    assert same.info.run_id == sft.info.run_id


def test_a_death_before_the_first_heartbeat_is_closed_by_the_next_worker(deployed):
    run = deployed.run(seed=6)
    starting = deployed.wait(lambda: deployed.process(run), "no process", 120)
    deployed.servers.kill("worker")
    starting.kill()
    assert deployed.client.read_flow_run(run).state.is_pending()
    assert deployed.slots() == 1
    deployed.ensure_worker()
    started = time.monotonic()
    deployed.wait_for_state(run, "Crashed", seconds=120)
    tell("worker started, Pending run Crashed", time.monotonic() - started)
    second = deployed.wait_for_next(run)
    deployed.wait_for_state(second.id, "Running")
    deployed.cancel(second.id)
    deployed.wait_for_state(second.id, "Cancelled")
    assert deployed.slots() == 0


def test_a_death_before_the_run_begins_is_noticed_without_any_worker(deployed):
    deployed.crash_after_silence_of(20)
    run = deployed.run(seed=14)
    starting = deployed.wait(lambda: deployed.process(run), "no process", 120)
    deployed.servers.kill("worker")
    starting.kill()
    killed = time.monotonic()
    assert deployed.client.read_flow_run(run).state.is_pending()
    deployed.wait_for_state(run, "Crashed", seconds=200)
    tell("host died with a Pending run, Crashed after 20 s without a beginning", time.monotonic() - killed)
    assert deployed.slots() == 0
    deployed.crash_after_silence_of(180)
    deployed.ensure_worker()
    second = deployed.wait_for_next(run)
    deployed.wait_for_state(second.id, "Running")
    deployed.cancel(second.id)
    deployed.wait_for_state(second.id, "Cancelled")


def test_a_run_that_is_called_crashed_while_it_lives_is_stopped_with_a_checkpoint_and_resumed(deployed):
    # What the automation on silence does when Prefect was away from the run for too long.
    first = deployed.run(seed=7)
    sft = deployed.wait_for_step(first, 20)
    flow = deployed.process(first)
    deployed.call_crashed(first)
    flow.wait(120)
    reached = max(deployed.steps(sft))
    second = deployed.wait_for_next(first)
    deployed.wait_for_state(second.id, "Completed")
    assert reached < 150
    _, same = assert_whole(deployed, [first, second.id])
    assert same.info.run_id == sft.info.run_id


def test_sigterm_to_the_worker_ends_its_run_as_cancelled_within_the_grace_period(deployed):
    # Fault 4.
    run = deployed.run(seed=8)
    sft = deployed.wait_for_step(run, 20)
    flow = deployed.process(run)
    worker = deployed.part("worker")
    os.kill(worker.pid, signal.SIGTERM)
    asked = time.monotonic()
    deployed.wait_for_state(run, "Cancelled", seconds=60)
    tell("SIGTERM to the worker, run Cancelled", time.monotonic() - asked)
    assert worker.wait(90) == 0
    tell("SIGTERM to the worker, worker gone", time.monotonic() - asked)
    assert not flow.is_running()
    assert [r.info.status for r in (*deployed.runs(run), *deployed.runs(run, "sft"))] == ["KILLED", "KILLED"]
    assert deployed.slots() == 0

    deployed.ensure_worker()
    again = deployed.run(seed=8)
    deployed.wait_for_state(again, "Completed")
    _, same = assert_whole(deployed, [run, again])
    assert same.info.run_id == sft.info.run_id


def test_a_run_outlives_the_death_of_prefects_server(deployed):
    # Fault 5. A slot is renewed 225 s after the start: the training must take longer, on a fast machine too.
    long = {"sft.save_steps": 250, "sft.logging_steps": 10}
    trial = deployed.run(seed=9, **long, **{"sft.max_steps": 5000})
    begun = deployed.wait_for_step(trial, 40)
    points = deployed.mlflow.get_metric_history(begun.info.run_id, "loss")
    seconds_per_step = (points[-1].timestamp - points[1].timestamp) / 1000 / (points[-1].step - points[1].step)
    deployed.process(trial).terminate()
    deployed.wait_for_state(trial, "Cancelled")
    num_steps = 10 * round(35 / seconds_per_step)
    long |= {"sft.max_steps": num_steps}
    run = deployed.run(seed=9, **long)
    deployed.wait_for_step(run, 20)
    killed = time.monotonic()
    deployed.servers.kill("prefect")
    time.sleep(30)  # the fault itself: half a minute without a server
    deployed.servers.restart("prefect")
    tell("Prefect's server killed, answers again", time.monotonic() - killed)
    assert deployed.slots() == 1
    ended = deployed.wait_for_state(run, "Completed", seconds=1500)
    assert ended.total_run_time > timedelta(seconds=240)
    [sft] = deployed.runs(run, "sft")
    assert deployed.steps(sft) == [1, *range(10, num_steps + 1, 10)]
    assert len(deployed.production()) == 1
    assert deployed.slots() == 0
    deployed.wait_for_state(deployed.run(seed=9, **long), "Completed")  # the worker is as before


def test_ctrl_c_of_make_up_ends_the_run_as_cancelled_too(deployed):
    # The last one: all ends.
    run = deployed.run(seed=10)
    deployed.wait_for_step(run, 20)
    flow = deployed.process(run)
    asked = time.monotonic()
    deployed.servers.stack.stop()
    tell("ctrl-C of make up, all ended", time.monotonic() - asked)
    assert not flow.is_running()
    assert deployed.state_on_disk(run) == "Cancelled"
    assert [r.info.status for r in (*deployed.runs(run), *deployed.runs(run, "sft"))] == ["KILLED", "KILLED"]

import signal

import pytest

pytestmark = pytest.mark.slow


def test_killed_in_sft_then_stopped_in_dpo_a_rerun_goes_on_in_the_same_runs_and_repeats_no_stage(runs):
    # Faults 1, 3 and 7: a host dies in SFT.
    process = runs.start()
    sft = runs.wait_for_step("sft", 20)
    runs.kill_all(process)
    before = runs.steps(sft)
    assert [run.info.status for run in (*runs.runs(), *runs.runs("sft"))] == ["RUNNING", "RUNNING"]

    # Fault 4: the rerun goes on with SFT and gets SIGTERM in DPO.
    process = runs.start()
    dpo = runs.wait_for_step("dpo", 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    said = runs.said()
    assert "going on from checkpoint-" in said
    assert "Cancelled" in said
    assert "Traceback" not in said
    [parent], [finished], [stopped] = runs.runs(), runs.runs("sft"), runs.runs("dpo")
    assert (parent.info.status, finished.info.status, stopped.info.status) == ("KILLED", "FINISHED", "KILLED")
    assert finished.info.run_id == sft.info.run_id
    steps = runs.steps(finished)
    assert steps[: len(before)] == before
    # Trainer logs the first step, then every fifth; none twice.
    assert steps == [1, *range(5, 151, 5)]

    # The next one repeats nothing of SFT and ends DPO where it was.
    said = runs.finish()
    assert "SFT: kept from run" in said
    assert "going on from checkpoint-" in said
    [parent], [kept], [resumed] = runs.runs(), runs.runs("sft"), runs.runs("dpo")
    assert [run.info.status for run in (parent, kept, resumed)] == ["FINISHED"] * 3
    assert (kept.info.run_id, resumed.info.run_id) == (sft.info.run_id, dpo.info.run_id)
    assert runs.steps(resumed) == [1, *range(5, 61, 5)]
    assert len(runs.client.search_model_versions("name='pii-dpo'")) == 1

    # And once more: everything but the comparison with what is now in production was made before.
    said = runs.finish()
    assert "DPO: kept from run" in said
    assert len(runs.client.search_model_versions("name='pii-dpo'")) == 1
    assert {run.info.status for run in (*runs.runs(), *runs.runs("sft"), *runs.runs("dpo"))} == {"FINISHED"}


@pytest.mark.parametrize("other", [[], ["--set", "tracking.log_system_metrics=false"]], ids=["the run", "the stage"])
def test_a_second_trainer_of_the_same_is_told_who_is_at_it(runs, other):
    # Fault 17.
    long = ["--set", "sft.max_steps=5000"]
    first = runs.start(*long)
    runs.wait_for_step("sft", 5)
    second = runs.start(*long, *other)
    assert second.wait(300) == 2
    said = runs.said()
    assert f"process {first.pid}" in said
    assert "Traceback" not in said
    assert first.poll() is None

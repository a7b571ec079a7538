import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_a_loss_that_is_no_number_fails_the_run_by_step_and_learning_rate_and_registers_nothing(runs):
    # Fault 10.
    process = runs.start("--set", "sft.learning_rate=1e30", "--set", "sft.max_steps=20")
    assert process.wait(400) == 1
    said = runs.said()
    last = said.strip().splitlines()
    assert any("nan at step" in line or "inf at step" in line for line in last), said[-3000:]
    assert "learning rate" in said
    assert "Use a lower learning_rate or max_grad_norm" in said.replace("\n", " ")
    assert "Traceback" not in said
    assert [run.info.status for run in (*runs.runs(), *runs.runs("sft"))] == ["FAILED"] * 2
    assert not runs.runs("dpo")
    assert not runs.client.search_registered_models()

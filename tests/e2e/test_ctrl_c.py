"""Ctrl-C in a terminal reaches every process of the foreground group at once; the run must end at once and cleanly."""

import os
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine, text

pytestmark = pytest.mark.slow


def test_ctrl_c_ends_a_run_in_training_with_one_line_and_leaves_no_process(tmp_path, small_workbook):
    log = tmp_path / "log.txt"
    command = [sys.executable, "-m", "cli.main", "run", "--data", str(small_workbook), "--set", "sft.max_steps=2000"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--set", f"output_dir={tmp_path / 'outputs'}", "--set", "data.unseen=null"],
            stdout=file,
            stderr=file,
            env={name: value for name, value in environment.items() if name != "PREFECT_API_URL"},
            start_new_session=True,
            # Tests that a shell runs in the background have SIGINT ignored, and so would this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 # it takes no lock
        )
    try:
        deadline = time.monotonic() + 180
        while "step 10 of" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=90) == 130, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    shown = log.read_text()
    assert "pii-finetune: stopped" in shown
    assert "Traceback" not in shown
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    with create_engine(f"sqlite:///{tmp_path / 'mlflow.db'}").connect() as database:
        statuses = {row[0] for row in database.execute(text("select status from runs"))}
    assert "RUNNING" not in statuses

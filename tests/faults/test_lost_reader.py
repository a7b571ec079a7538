import os
import subprocess
import sys

import pytest

WRITER = """
import sys, time
from pathlib import Path

if sys.argv[2] == "outlive":
    from pii_finetune.lost_reader import outlive_readers
    outlive_readers()
print("begun", flush=True)
sys.stdin.read()
time.sleep(0.5)
for _ in range(1000):
    print("a line of MLflow's", flush=True)
    print("a line of a log", file=sys.stderr, flush=True)
Path(sys.argv[1]).touch()
"""


def write_to_a_reader_that_dies(end, how):
    return end_without_reader([sys.executable, "-c", WRITER, str(end), how], None)


def end_without_reader(command, environment):
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        process.stdout.close()
        process.stderr.close()
        process.stdin.close()
        return process.wait(60)
    finally:
        process.kill()
        process.wait(60)


def test_a_process_whose_reader_died_goes_on_to_its_end(tmp_path):
    assert write_to_a_reader_that_dies(tmp_path / "ended", "outlive") == 0
    assert (tmp_path / "ended").exists()


def test_without_that_it_would_die_of_its_next_line(tmp_path):
    assert write_to_a_reader_that_dies(tmp_path / "ended", "as Python does") != 0
    assert not (tmp_path / "ended").exists()


LOGGER = """
import sys
from pathlib import Path

from prefect.logging import get_logger
from prefect.logging.configuration import setup_logging

setup_logging()
print("begun", flush=True)
sys.stdin.read()
for _ in range(100):
    get_logger("engine").info("a line of Prefect's")
Path(sys.argv[1]).touch()
"""


@pytest.mark.parametrize(("handler", "goes_on"), [("cli.enduring_console.EnduringConsoleHandler", True), (None, False)])
def test_prefects_log_ends_no_run_whose_worker_died_as_it_would_by_itself(handler, goes_on, tmp_path):
    named = {} if handler is None else {"PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": handler}
    end = tmp_path / "ended"
    code = end_without_reader([sys.executable, "-c", LOGGER, str(end)], os.environ | named)
    assert (code == 0, end.exists()) == (goes_on, goes_on)

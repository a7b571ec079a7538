import subprocess
import sys

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
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(end), how],
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

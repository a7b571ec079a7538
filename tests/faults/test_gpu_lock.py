import signal
import subprocess
import sys
import time
import uuid

import pytest

TRAINER = """
import sys, time
from pii_finetune.output_lock import gpu_lock

with gpu_lock(sys.argv[1], lambda line: print(line, flush=True)):
    print("trains", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def start():
    started = []

    def trainer(gpu):
        command = [sys.executable, "-c", TRAINER, gpu]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield trainer
    for process in started:
        process.kill()
        process.wait(60)
        process.stdout.close()


def test_a_second_trainer_on_a_gpu_is_told_who_has_it_and_waits_until_that_one_dies(start):
    gpu = f"test-{uuid.uuid4()}"
    first = start(gpu)
    assert first.stdout.readline() == "trains\n"
    second = start(gpu)
    said = second.stdout.readline()
    assert f"process {first.pid} on" in said
    assert "waiting" in said
    first.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert second.stdout.readline() == "trains\n"
    assert time.monotonic() - killed < 60


def test_trainers_on_two_gpus_do_not_wait_for_each_other(start):
    for _ in range(2):
        assert start(f"test-{uuid.uuid4()}").stdout.readline() == "trains\n"


def test_on_a_cpu_there_is_nothing_to_wait_for():
    from pii_finetune.base_model import gpus_of
    from pii_finetune.profiles import embedded

    assert gpus_of(embedded().base) == []

import os
import subprocess
import sys
import uuid

import psutil
import pytest

from pii_finetune.own_process import is_alive


def test_a_killed_process_is_not_alive_nor_is_another_of_its_number():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(process.pid).create_time()
    try:
        assert is_alive(process.pid, started)
        assert not is_alive(os.getpid(), started - 3600)
    finally:
        process.kill()
    psutil.wait_procs([psutil.Process(process.pid)] if psutil.pid_exists(process.pid) else [], timeout=1)
    assert not is_alive(process.pid, started)  # a zombie, until its parent asks
    process.wait()
    assert not is_alive(process.pid, started)


STRANGER = """
import os, sys
from pii_finetune.own_process import is_alive
from tasks.flow_processes import find_flow_processes

os.setuid(65534)
pid, started = int(sys.argv[1]), float(sys.argv[2])
found = find_flow_processes()
print(is_alive(pid, started), found.is_complete, str(pid) in {str(each.pid) for each in found.by_run.values()})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_flow_of_another_user_counts_as_alive_though_it_does_not_tell_what_it_runs():
    command = [sys.executable, "-c", "import time; time.sleep(60)", "prefect.engine"]
    process = subprocess.Popen(command, env=os.environ | {"PREFECT__FLOW_RUN_ID": str(uuid.uuid4())})
    try:
        started = psutil.Process(process.pid).create_time()
        said = subprocess.run(
            [sys.executable, "-c", STRANGER, str(process.pid), str(started)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        process.kill()
        process.wait(60)
    alive, is_complete, is_told = said.stdout.split()
    assert (alive, is_complete, is_told) == ("True", "False", "False")

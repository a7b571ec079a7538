import os
import subprocess
import sys

import psutil

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

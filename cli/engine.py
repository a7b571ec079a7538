"""Prefect's engine in a process that outlives its worker: `python -m cli.engine`, which prefect.yaml names.

A worker reads what its runs print. Prefect's own command dies of the first line that nobody reads; a flow could guard
itself against that only once it has begun, some seconds after its process.
"""

import os
import runpy

from pii_finetune.lost_reader import outlive_readers

if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        os.setsid()  # what is sent to the worker's group is not meant for this; Prefect isolates its own command alone
    outlive_readers()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)

import json
import logging
import socket
import subprocess
import sys
import time
from io import StringIO

import pytest

from pii_finetune.code_version import code_parts
from pii_finetune.distributed.job import Job, write_job
from pii_finetune.distributed.launch import _Training
from pii_finetune.distributed.messages import understand
from pii_finetune.distributed.nodes import next_job, refused, serve_job
from pii_finetune.errors import MissingServerError, OtherCodeError
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.splits import Splits

RECORDS = (Record("Straße", "German", sensitive=True, row=2, category="address"), Record("沿革", "Chinese", False, 3))


@pytest.fixture
def rendezvous():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def job(rendezvous, tmp_path):
    shared = {"runtime.num_processes": 2, "runtime.num_nodes": 2, "runtime.rendezvous": rendezvous}
    return Job("sft", apply_overrides(embedded(), shared), Splits(RECORDS, RECORDS[:1], ()), tmp_path / "first")


def serve_as_of(job, rendezvous, **parts):
    """Serve the job as a machine would on which some of the code is other than here."""
    store = serve_job(job, rendezvous)
    store.set("pii-finetune/code", json.dumps({**code_parts(), **parts}))
    return store


def test_a_machine_of_the_same_code_gets_the_job_at_once(job, rendezvous, tmp_path):
    store = serve_job(job, rendezvous)
    got, identity = next_job(rendezvous, tmp_path / "second", None, patience_seconds=30)
    assert (got.splits, got.config, identity) == (job.splits, job.config, job.identity)
    assert refused(store) is None


def test_a_machine_of_other_code_is_told_at_once_what_differs_and_the_first_one_is_told_too(job, rendezvous, tmp_path):
    store = serve_as_of(job, rendezvous, pii_finetune="0123456789ab", torch="1.0")
    begun = time.monotonic()
    with pytest.raises(OtherCodeError) as told:
        next_job(rendezvous, tmp_path / "second", None, patience_seconds=60)
    assert time.monotonic() - begun < 20
    here, name = code_parts(), socket.gethostname()
    assert f"pii_finetune is {here['pii_finetune']} on {name} and 0123456789ab on {rendezvous}" in str(told.value)
    assert f"torch is {here['torch']} on {name} and 1.0 on {rendezvous}" in str(told.value)
    assert "transformers" not in str(told.value)  # is the same
    assert "install the same revision" in str(told.value)
    assert not (tmp_path / "second").exists()  # nothing of the job was taken
    assert refused(store) == str(told.value)
    assert refused(store) is None  # it is said once


def test_a_first_machine_too_old_to_say_its_code_has_other_code(job, rendezvous, tmp_path):
    store = serve_job(job, rendezvous)
    store.delete_key("pii-finetune/code")
    with pytest.raises(OtherCodeError, match=f"not known on {rendezvous}"):
        next_job(rendezvous, tmp_path / "second", None, patience_seconds=60)


def test_where_nobody_serves_a_machine_waits_as_long_as_it_was_told(rendezvous, tmp_path):
    with pytest.raises(MissingServerError, match="no training waits there"):
        next_job(rendezvous, tmp_path, None, patience_seconds=1.5)


def lines(*messages):
    return StringIO("".join(f'{{"pii-finetune": {json.dumps(message)}}}\n' for message in messages))


ADAPTER = {"path": "adapter", "num_steps": 1, "train_loss": 0.5, "seconds": 1.0, "curves": {}}


def test_a_run_that_waits_for_its_machines_ends_when_one_has_other_code(job):
    with pytest.raises(OtherCodeError, match="host-b has other code"):
        _Training(job.config.runtime, lambda _: None).follow(lines(["refused", "host-b has other code"]))


def test_a_run_that_trains_is_not_ended_by_a_machine_of_other_code(job, caplog):
    training = _Training(job.config.runtime, lambda _: None)
    with caplog.at_level(logging.WARNING, logger="pii_finetune"):
        adapter = training.follow(lines(["started", 0], ["refused", "host-b has other code"], ["adapter", ADAPTER]))
    assert adapter.num_steps == 1
    assert "host-b has other code" in caplog.text


WAIT_BRIEFLY = """
import sys
from pathlib import Path
from pii_finetune.distributed import launcher
launcher._JOIN_SECONDS = 2
sys.exit(launcher.launch(Path(sys.argv[1])))
"""


def test_a_run_to_which_no_other_machine_comes_is_told_so(job, rendezvous):
    command = [sys.executable, "-c", WAIT_BRIEFLY, str(write_job(job))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    messages = filter(None, map(understand, done.stdout.splitlines(keepends=True)))
    told = dict(each for each in messages if each[0] != "log")
    assert done.returncode == 1
    assert told["error"][0] == "LostProcessError"
    assert f"fewer than runtime.num_nodes = 2 machines came to {rendezvous} within 2 s" in told["error"][1]

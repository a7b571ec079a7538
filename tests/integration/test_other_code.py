"""A machine with another version of this package that wants to train along: two real processes over loopback."""

import os
import shutil
import socket
import subprocess
import sys

import psutil
import pytest

from pii_finetune.errors import OtherCodeError
from pii_finetune.overrides import apply_overrides
from pii_finetune.paths import ROOT
from pii_finetune.sft import train_sft

pytestmark = pytest.mark.slow


@pytest.fixture
def other_version(tmp_path):
    """A copy of the package and its command line with one more line in a source."""
    folder = tmp_path / "other"
    for name in ("pii_finetune", "cli"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "pii_finetune/distributed/share.py").open("a") as source:
        source.write("# a line more\n")
    return folder


def test_a_machine_of_another_version_ends_with_2_and_the_run_does_not_wait_for_it(
    config, splits, tmp_path, other_version
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rendezvous = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"runtime.num_processes": 2, "runtime.num_nodes": 2, "runtime.rendezvous": rendezvous}
    second = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "join", rendezvous, "--patience-minutes", "2"],
        cwd=other_version,
        env=os.environ | {"PYTHONPATH": str(other_version)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with pytest.raises(OtherCodeError, match=f"cannot join the training of {rendezvous}.*pii_finetune is") as told:
            train_sft(splits, apply_overrides(config, shared), tmp_path / "sft", lambda _: None)
        _, said = second.communicate(timeout=60)
    finally:
        second.kill()
    assert second.returncode == 2
    assert str(told.value) in said
    assert "Traceback" not in said
    assert not psutil.Process().children(recursive=True)

"""Two machines that see each other and nothing else: network namespaces with a cable between them."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.sft import train_sft

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1200)]

RENDEZVOUS = "10.77.0.1:29411"
TRAIN = """
import pickle, sys
from pathlib import Path
from pii_finetune.dpo import train_dpo
from pii_finetune.sft import train_sft
splits, config, folder = pickle.load(open(sys.argv[1], "rb"))
say = lambda update: print(update.step, flush=True)
sft = train_sft(splits, config, folder / "sft", say)
print("sft is done", flush=True)
dpo = train_dpo(splits, sft, config, folder / "dpo", say)
"""


@pytest.fixture
def machines():
    """Names of two network namespaces, 10.77.0.1 and 10.77.0.2."""
    names = [f"pii-{uuid.uuid4().hex[:6]}-{side}" for side in "ab"]
    cables = [name[-8:] for name in names]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    commands = [
        *(["netns", "add", name] for name in names),
        ["link", "add", cables[0], "type", "veth", "peer", "name", cables[1]],
        *(["link", "set", cable, "netns", name] for cable, name in zip(cables, names, strict=True)),
        *(["-n", name, "link", "set", "lo", "up"] for name in names),
        *(
            ["-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", cable]
            for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1)
        ),
        *(["-n", name, "link", "set", cable, "up"] for cable, name in zip(cables, names, strict=True)),
    ]
    try:
        for command in commands:
            made = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def start(machine, log, *command):
    with Path(log).open("w") as out:
        return subprocess.Popen(
            ["ip", "netns", "exec", machine, sys.executable, "-u", *command], stdout=out, stderr=subprocess.STDOUT
        )


def workers_below(process):
    below = psutil.Process(process.pid).children(recursive=True)
    return [each for each in below if "pii_finetune.distributed.worker" in each.cmdline()]


@pytest.mark.parametrize("is_killed", [False, True])
def test_two_machines_learn_what_one_does_also_when_a_process_of_the_second_dies(
    machines, config, splits, tmp_path, is_killed
):
    settings = {"max_steps": 8, "save_steps": 2, "logging_steps": 1, "eval_steps": 4}
    recipe = apply_overrides(
        config,
        {
            "trainer": "fused",
            **{f"{stage}.{key}": value for stage in ("sft", "dpo") for key, value in settings.items()},
        },
    )
    sft = train_sft(splits, recipe, tmp_path / "alone/sft", lambda _: None)
    dpo = train_dpo(splits, sft, recipe, tmp_path / "alone/dpo", lambda _: None)
    shared = {"runtime.num_processes": 2, "runtime.num_nodes": 2, "runtime.rendezvous": RENDEZVOUS}
    given = (splits, apply_overrides(recipe, shared), tmp_path / "together")
    (tmp_path / "given").write_bytes(pickle.dumps(given))
    first_log, second_log = tmp_path / "first.log", tmp_path / "second.log"
    second = start(machines[1], second_log, "-m", "cli.main", "join", RENDEZVOUS, "--patience-minutes", "0.5")
    first = start(machines[0], first_log, "-c", TRAIN, str(tmp_path / "given"))
    try:
        if is_killed:
            deadline = time.monotonic() + 300
            while "\n5\n" not in first_log.read_text() and first.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            (victim,) = workers_below(second)
            victim.send_signal(signal.SIGKILL)
        assert first.wait(600) == 0, first_log.read_text() + second_log.read_text()
        assert second.wait(200) == 0, second_log.read_text()
    finally:
        for process in (first, second):
            process.kill()
    said = second_log.read_text()
    assert "SFT: done" in said
    assert "DPO: done" in said
    assert "took part in 2 trainings" in said
    for stage, alone in (("sft", sft), ("dpo", dpo)):
        here = load_file(alone.path / "adapter_model.safetensors")
        there = load_file(tmp_path / "together" / stage / "adapter/adapter_model.safetensors")
        for name in here:
            torch.testing.assert_close(there[name], here[name], rtol=0, atol=2e-4)

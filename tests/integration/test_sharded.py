"""A base shared out between processes by FSDP2: on CPUs, over gloo; what is of GPUs alone is nf4."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from pii_finetune.distributed.share import share_of_batch
from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.paths import ROOT
from pii_finetune.sft import train_sft

pytestmark = pytest.mark.slow

TOGETHER = 2


@pytest.fixture
def recipe(config):
    settings = {"max_steps": 8, "save_steps": 2, "eval_steps": 4, "logging_steps": 1}
    both = {f"{stage}.{key}": value for stage in ("sft", "dpo") for key, value in settings.items()}
    return apply_overrides(config, {"trainer": "trl", **both})


def train_sharded(stage, splits, recipe, start, folder):
    """Train in two processes that share the base out; return adapter, updates, and which weights were shared out."""
    share = share_of_batch(stage, getattr(recipe, stage), TOGETHER)
    runtime = recipe.runtime.model_copy(update={"num_processes": TOGETHER, "sharding": "fsdp2"})
    config = recipe.model_copy(update={stage: share, "runtime": runtime})  # unchecked: settings ask for GPUs here
    folder.mkdir(exist_ok=True)
    (folder / "given").write_bytes(pickle.dumps((stage, splits, config, start, folder)))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={TOGETHER}")
    script = Path(__file__).with_name("train_sharded.py")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder / "given")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return pickle.loads((folder / "told").read_bytes())


@pytest.mark.parametrize("stage", ["dpo", pytest.param("sft", marks=pytest.mark.faults)])
def test_a_base_that_is_shared_out_learns_what_a_whole_one_does_and_goes_on_from_a_checkpoint(
    recipe, splits, sft, tmp_path, stage
):
    start, alone = sft[0].path, []
    if stage == "sft":
        whole = train_sft(splits, recipe, tmp_path / "whole", alone.append)
    else:
        whole = train_dpo(splits, sft[0], recipe, tmp_path / "whole", alone.append)
    adapter, together, shared_out = train_sharded(stage, splits, recipe, start, tmp_path / "shared")

    assert all(shared_out.values())  # base, adapter and, in DPO, its reference
    assert any(".ref." in name for name in shared_out) == (stage == "dpo")
    assert [update.step for update in together] == [update.step for update in alone]
    for here, there in zip(alone, together, strict=True):
        for name in ("loss", "eval_loss", "grad_norm", "learning_rate", "rewards/margins"):
            assert there.metrics.get(name, 0) == pytest.approx(here.metrics.get(name, 0), rel=2e-4, abs=2e-6), name
    first, second = (load_file(each.path / "adapter_model.safetensors") for each in (whole, adapter))
    assert first.keys() == second.keys()  # of the adapter alone, none of `ref`
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=2e-4)

    checkpoints = tmp_path / "shared/checkpoints"
    newest, before = checkpoints / "checkpoint-8", checkpoints / "checkpoint-6"
    kept = FileSystemReader(before / "pytorch_model_fsdp_0").read_metadata().state_dict_metadata
    assert len(kept) == len(first)  # the reference is made anew, from the adapter that DPO starts from
    shutil.rmtree(newest)
    again, resumed, _ = train_sharded(stage, splits, recipe, start, tmp_path / "shared")
    assert min(update.step for update in resumed) == 7
    assert again.curves == adapter.curves
    third = load_file(again.path / "adapter_model.safetensors")
    assert all(torch.equal(second[name], third[name]) for name in second)

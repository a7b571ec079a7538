"""One of the processes of a training with FSDP2, on a CPU: python -m torch.distributed.run ... GIVEN.

Accelerate shares weights out between accelerators only, so it is told that these CPUs are some. All else is as on GPUs,
but for nf4.
"""

import pickle
import sys
from pathlib import Path

import torch.distributed
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from pii_finetune.distributed.ranks import rank
from pii_finetune.dpo import dpo_trainer
from pii_finetune.sft import sft_trainer
from pii_finetune.training import finish

_begin = AcceleratorState.__init__


def _as_on_gpus(self, *args, **kwargs):
    if PartialState._shared_state.get("distributed_type") is DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    _begin(self, *args, **kwargs)


def main(given: Path) -> None:
    AcceleratorState.__init__ = _as_on_gpus
    stage, splits, config, start, folder = pickle.loads(given.read_bytes())
    updates = []
    if stage == "sft":
        trainer, fallback = sft_trainer(splits, config, folder, updates.append)
    else:
        trainer, fallback = dpo_trainer(splits, start, config, folder, updates.append)
    adapter = finish(trainer, config, folder, fallback)
    kinds = {name: isinstance(weight, DTensor) for name, weight in trainer.model.named_parameters()}
    if rank() == 0:
        (folder / "told").write_bytes(pickle.dumps((adapter, updates, kinds)))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

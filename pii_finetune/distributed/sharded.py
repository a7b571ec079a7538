"""A base, and the adapters on it, shared out between GPUs instead of copied to each: PyTorch's FSDP2."""

from typing import Any

from peft import get_peft_model_state_dict
from torch.distributed.tensor import DTensor

from pii_finetune.config import RuntimeConfig


def sharding_arguments(runtime: RuntimeConfig) -> dict[str, Any]:
    """Return what TRL's configurations are to be told of it."""
    if runtime.sharding == "none":
        return {}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",  # layer by layer: one is whole at a time
            "reshard_after_forward": True,
            "state_dict_type": "SHARDED_STATE_DICT",  # each process writes, and reads, its own part of a checkpoint
            "cpu_ram_efficient_loading": False,  # quantised weights are read by every process
        },
    }


def adapter_weights(model: Any) -> dict[str, Any] | None:
    """Return the adapter's weights whole, for which all processes must ask; None where every process has them."""
    weights = get_peft_model_state_dict(model, adapter_name="default")
    if not any(isinstance(weight, DTensor) for weight in weights.values()):
        return None
    return {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in weights.items()}

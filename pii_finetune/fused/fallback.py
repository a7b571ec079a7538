"""When the fused trainers cannot run, and why."""

from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from transformers import Qwen2ForCausalLM

from pii_finetune.config import RunConfig, TrainingSection
from pii_finetune.fused.flat_parameters import MIN_8BIT_SIZE

# Optimizers that treat each weight by itself, or blocks of 256: only these give the same over one flat tensor.
_IN_32_BITS = ("sgd", "adamw_torch", "adamw_torch_fused", "paged_adamw_32bit")
_IN_8_BITS = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")


def why_not_fused(model: Any, section: TrainingSection, config: RunConfig) -> str | None:
    """Return in one sentence why TRL's own trainer must run, or None.

    Args:
        model: the base, on which config.lora will be put, or a PeftModel.
        section: the settings of the stage.
        config: the run's.
    """
    if config.runtime.sharding != "none":
        return f"runtime.sharding = {config.runtime.sharding!r}: the fused pass reads whole weights"
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, Qwen2ForCausalLM):
        return (
            f"base.name = {config.base.name!r} is a {type(base).__name__}; the fused pass knows Qwen2ForCausalLM only"
        )
    if section.optim not in (*_IN_32_BITS, *_IN_8_BITS):
        known = ", ".join((*_IN_32_BITS, *_IN_8_BITS))
        return f"optim = {section.optim!r} may treat weights by matrix; the fused step runs {known}"
    if section.optim in _IN_8_BITS and (smallest := min(_adapter_sizes(model, config))) < MIN_8BIT_SIZE:
        return (
            f"an adapter matrix has {smallest} weights, and {section.optim} keeps in 32 bits what has fewer than "
            f"{MIN_8BIT_SIZE}; a larger lora.r lets the fused step run"
        )
    return None


def _adapter_sizes(model: Any, config: RunConfig) -> list[int]:
    if isinstance(model, PeftModel):
        return [weight.numel() for weight in model.parameters() if weight.requires_grad]
    wanted = LoraConfig(target_modules=config.lora.target_modules)
    return [
        config.lora.r * min(layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if hasattr(layer, "in_features") and name != "lm_head" and check_target_module_exists(wanted, name)
    ]

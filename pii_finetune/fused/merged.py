"""Adapters added to the base's weights for as long as they answer: one matrix product in place of three.

In float32 this moves answers by no more than the order of sums does. In bfloat16 it would move them more, for a sum of
weight and adapter is rounded to 8 bits; and nf4 is never added to.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch import nn


class MergedAdapters:
    """A PeftModel of float32 weights that holds, at any time, the base plus one of its adapters, or plus none."""

    def __init__(self, model: Any) -> None:
        """Keep a copy of the weights that adapters are added to, from which each sum is made."""
        self._layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
        self._plain = [_weight(layer).clone() for layer in self._layers]
        self._added: str | None = None
        model.base_model.disable_adapter_layers()  # they are in the weights instead

    @torch.no_grad()
    def use(self, adapter: str | None) -> None:
        """Answer with this adapter, or with the base alone if None."""
        if adapter == self._added:
            return
        for layer, plain in zip(self._layers, self._plain, strict=True):
            _weight(layer).copy_(plain if adapter is None else plain + layer.get_delta_weight(adapter))
        self._added = adapter


def can_be_merged(model: nn.Module) -> bool:
    """Return whether all adapters are plain LoRA on plain linear layers in float32."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return all(
        isinstance(layer, Linear) and not layer.lora_variant and _weight(layer).dtype == torch.float32
        for layer in layers
    )


def _weight(layer: Any) -> torch.Tensor:
    return layer.get_base_layer().weight.data

"""nf4 weights turned into bfloat16 once, instead of in every pass."""

from typing import Any

import torch
from torch import nn

_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for activations


def dequantize_once(model: nn.Module) -> bool:
    """Replace each 4-bit linear layer by a plain one that holds the same values; return whether there was room for it.

    bitsandbytes 0.50 multiplies by 4-bit weights in either of two ways: for many tokens it writes the weights out in
    full and calls the same matrix product as a plain layer, in every pass anew. Writing them out once changes no value:
    they stay what nf4 could hold. Adapters stay adapters; nothing is merged, nothing quantised again.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return True
    import bitsandbytes as bnb
    from bitsandbytes.functional import dequantize_4bit

    quantized = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, bnb.nn.Linear4bit)
    ]
    device = quantized[0][2].weight.device
    needed = sum(2 * layer.in_features * layer.out_features for _, _, layer in quantized)
    if needed > _SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]:
        return False
    for parent, name, layer in quantized:
        packed: Any = layer.weight  # bitsandbytes' Params4bit
        weight = dequantize_4bit(packed.data, packed.quant_state).to(layer.compute_dtype)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
        setattr(parent, name, plain)
    return True

"""A Qwen2 decoder's pass, without gradient, over many prompts that start alike: the start once, and no padding.

All of a transformer but attention looks at one token at a time, so the tokens of all prompts stand in one row, and only
attention sees them as (sequence, place). What the prompts start with is a sequence of its own; the others look at it as
if it stood before them. Of a batch of labels a third would else be padding, and half of the rest the same start.

Nothing is kept for a gradient, so that sums and products are written over their operands: on a CPU, where a batch's
states fill the caches, that is an eighth of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

# CUDA's attention kernels want the rows of a mask to begin at multiples of 16 bytes, and copy it otherwise.
_MULTIPLE_OF = 8


@dataclass(frozen=True)
class Packing:
    """N tokens of G sequences: the P that prompts share, if any, then what each of B prompts adds, up to S."""

    tokens: torch.Tensor  # (N,) int64
    positions: torch.Tensor  # (N,) int64, in the prompt
    slots: torch.Tensor  # (N,) int64: where each stands among (G * S)
    held: torch.Tensor  # (G, S) int64: which of the N stands there; any, where none does
    visible: torch.Tensor  # (G, S, P + S) bool: what each may look at
    asked: torch.Tensor  # (B, Q) int64: the places, of S, whose last hidden state is wanted
    num_shared: int  # P


def pack(prompts: Sequence[Sequence[int]], num_shared: int, leaves: Sequence[int], device: torch.device) -> Packing:
    """Pack prompts whose first `num_shared` tokens are the same, and ask about the last token of each.

    Args:
        prompts: as tokens, each longer than what they share.
        num_shared: P.
        leaves: tokens of which each is to follow every prompt, as if the others were not there; asked about as well.
        device: where the pass runs; a GPU fetches the tokens while the CPU goes on.
    """
    sequences = [(*prompt[num_shared:], *leaves) for prompt in prompts]
    if num_shared:
        sequences.insert(0, tuple(prompts[0][:num_shared]))
    lengths = np.array([len(each) for each in sequences])
    sequence = np.repeat(np.arange(len(sequences)), lengths)
    place = np.arange(len(sequence)) - (lengths.cumsum() - lengths)[sequence]
    # A leaf stands where the first leaf does. The start has none, and nothing before it.
    leaf = np.maximum(place - (lengths - len(leaves))[sequence], 0)
    before = np.where((sequence == 0) & (num_shared > 0), 0, num_shared - leaf)
    size = int(lengths.max())
    if device.type == "cuda":
        size += -(num_shared + size) % _MULTIPLE_OF
    tokens = np.array([token for each in sequences for token in each])
    moved = _on(device, np.stack([tokens, before + place, sequence * size + place]))
    last = _on(device, lengths[-len(prompts) :])[:, None] - 1  # (B, 1)
    held = torch.zeros(len(sequences) * size, dtype=torch.int64, device=device)
    held[moved[2]] = torch.arange(len(tokens), device=device)
    return Packing(
        tokens=moved[0],
        positions=moved[1],
        slots=moved[2],
        held=held.view(-1, size),
        visible=_visible(last, size, num_shared, len(leaves)),
        asked=last + torch.arange(-len(leaves), 1, device=device),
        num_shared=num_shared,
    )


def hidden_where_asked(decoder: Qwen2Model, packing: Packing) -> torch.Tensor:
    """Return the last hidden states (B, Q, H) at the places asked about.

    Qwen2Model.forward on other shapes. Of the last layer, places that are not asked about need only their keys and
    values.
    """
    hidden = decoder.embed_tokens(packing.tokens)
    cos, sin = (each[0] for each in decoder.rotary_emb(hidden[None], packing.positions[None]))
    first: Any = decoder.layers[0]
    groups = first.self_attn.num_key_value_groups
    mask = _mask(packing.visible, groups, hidden.dtype)
    for layer in decoder.layers[:-1]:
        hidden = _layer(layer, hidden, (cos, sin), packing, packing.held, mask, packing.slots)
    rows = torch.arange(len(packing.asked), device=hidden.device)[:, None]
    held, visible = packing.held[-len(rows) :], packing.visible[-len(rows) :]
    mask = _mask(visible[rows, packing.asked], groups, hidden.dtype)
    hidden = _layer(decoder.layers[-1], hidden, (cos, sin), packing, held[rows, packing.asked], mask, None)
    return _normed(decoder.norm, hidden).view(*packing.asked.shape, -1)


def _layer(
    layer: Any,
    hidden: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    packing: Packing,
    asking: torch.Tensor,
    mask: torch.Tensor,
    kept: torch.Tensor | None,
) -> torch.Tensor:
    """Qwen2DecoderLayer.forward on (N, H).

    `asking` says which tokens look around, for all sequences (G, S) or for the prompts alone (B, Q), `mask` at what;
    of what they find `kept` picks those for which the layer goes on, or all if None.
    """
    attention = layer.self_attn
    normed = _normed(layer.input_layernorm, hidden)
    heads = (-1, attention.head_dim)
    key, value = (project(normed).unflatten(-1, heads) for project in (attention.k_proj, attention.v_proj))
    key = _rotated(key, *rotary)
    if kept is None:
        asked = asking.flatten()
        hidden, normed, rotary = hidden[asked], normed[asked], (rotary[0][asked], rotary[1][asked])
    query = _rotated(attention.q_proj(normed).unflatten(-1, heads), *rotary)
    query = query[asking] if kept is not None else query.unflatten(0, asking.shape)
    key, value = (_by_sequence(each, packing, len(asking)) for each in (key, value))
    mixed = _attend(query, key, value, mask, attention.scaling).flatten(0, 1)
    hidden = attention.o_proj(mixed if kept is None else mixed[kept]).add_(hidden)
    normed = _normed(layer.post_attention_layernorm, hidden)
    gate, up, down = layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj
    return hidden.add_(down(layer.mlp.act_fn(gate(normed)).mul_(up(normed))))


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """apply_rotary_pos_emb of (N, heads, D), whose `rotate_half` would copy and negate half of it first."""
    half = states.shape[-1] // 2
    cos, sin = cos[:, None], sin[:, None]
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned


def _by_sequence(states: torch.Tensor, packing: Packing, num_sequences: int) -> torch.Tensor:
    """Return for each of the last sequences what it may look at, (G or B, heads, P + S, D), of (N, heads, D)."""
    own = states[packing.held[-num_sequences:]]
    if packing.num_shared:
        own = torch.cat([states[None, : packing.num_shared].expand(num_sequences, -1, -1, -1), own], 1)
    return own.transpose(1, 2)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Return (G, A, heads * D) of a query (G, A, heads, D).

    Query heads that share a key head stand below one another as further queries of that one, so that no key is copied.
    """
    num_sequences, num_asking, num_heads, dim = query.shape
    groups = num_heads // key.shape[1]
    query = query.view(num_sequences, num_asking, -1, groups, dim).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask = mask.expand(-1, key.shape[1], -1, -1)
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return mixed.unflatten(2, (groups, -1)).permute(0, 3, 1, 2, 4).flatten(2)


def _visible(last: torch.Tensor, size: int, num_shared: int, num_leaves: int) -> torch.Tensor:
    """Return (G, S, P + S) for prompts whose last places are (B, 1)."""
    at = torch.arange(size, device=last.device)
    earlier = at <= at[:, None]  # what no token stands in comes last, and nothing looks at it
    is_leaf = at > last - num_leaves  # (B, S)
    visible = earlier & ~(is_leaf[:, :, None] & is_leaf[:, None, :] & (at != at[:, None]))
    if not num_shared:
        return visible
    start = torch.nn.functional.pad(earlier[None], (num_shared, 0), value=False)
    return torch.cat([start, torch.nn.functional.pad(visible, (num_shared, 0), value=True)])


def _mask(visible: torch.Tensor, groups: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to scores, (G, 1, groups * A, P + S), where (G, A, P + S) is visible."""
    seen = visible[:, None, None].expand(-1, -1, groups, -1, -1).flatten(2, 3)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))


def _normed(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Qwen2RMSNorm.forward in one kernel, rounded once where that rounds twice."""
    return rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _on(device: torch.device, numbers: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(numbers)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

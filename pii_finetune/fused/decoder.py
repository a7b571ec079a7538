"""A Qwen2 decoder's pass over a layout, in which the last layer computes only the positions that are asked.

Of the last layer, other positions need their keys and values and nothing more: their queries, outputs and
feed-forward would feed no later layer and no loss. What is left out is what autograd would find to have no gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model, apply_rotary_pos_emb

from pii_finetune.fused.layout import Layout, visible


@dataclass(frozen=True)
class FrozenStart:
    """What the lowest layers give for each token, where no adapter ever changes it.

    Training then begins above them: the forward pass looks their output up as it would an embedding, and the backward
    pass would have ended there anyway.
    """

    num_layers: int
    table: torch.Tensor  # (tokens, H)


def hidden_where_asked(decoder: Qwen2Model, layout: Layout, start: FrozenStart | None = None) -> torch.Tensor:
    """Return the last hidden states (G * Q, H) at the positions the layout asks about."""
    if start is None:
        hidden, layers = decoder.embed_tokens(layout.tokens), decoder.layers
    else:
        hidden, layers = embedding(layout.source, start.table), decoder.layers[start.num_layers :]
    rotary = decoder.rotary_emb(hidden, layout.positions)
    mask, mask_asked = _masks(layout, hidden.dtype)
    for layer in layers[:-1]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=layout.positions)
    hidden = _last_layer(layers[-1], hidden, layout.asked, mask_asked, rotary)
    return decoder.norm(hidden).flatten(0, 1)


def states_after(decoder: Qwen2Model, num_layers: int, layout: Layout) -> torch.Tensor:
    """Return the hidden states (G, S, H) after the lowest layers."""
    hidden = decoder.embed_tokens(layout.tokens)
    rotary = decoder.rotary_emb(hidden, layout.positions)
    mask, _ = _masks(layout, hidden.dtype)
    for layer in decoder.layers[:num_layers]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=layout.positions)
    return hidden


def num_frozen_layers(decoder: Qwen2Model) -> int:
    """Return how many of the lowest layers have nothing to train; the last layer is never one of them."""
    trained = [any(weight.requires_grad for weight in layer.parameters()) for layer in decoder.layers]
    return min(trained.index(True), len(trained) - 1) if any(trained) else 0


def _last_layer(
    layer: Any,
    hidden: torch.Tensor,
    asked: torch.Tensor,
    mask: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Qwen2DecoderLayer.forward, in which keys and values cover (G, S) and all else the asked (G, Q)."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    hidden, normed_asked = _at(hidden, asked), _at(normed, asked)
    query, key, value = (
        projection(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for projection, states in (
            (attention.q_proj, normed_asked),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    cos, sin = rotary
    query, _ = apply_rotary_pos_emb(query, query, _at(cos, asked), _at(sin, asked))
    _, key = apply_rotary_pos_emb(key, key, cos, sin)
    attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]  # noqa: SLF001 # as Qwen2Attention does
    mixed, _ = attend(attention, query, key, value, mask, dropout=0.0, scaling=attention.scaling)
    hidden = hidden + attention.o_proj(mixed.flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _masks(layout: Layout, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return what is added to attention scores, (G, 1, S, S) and (G, 1, Q, S); None means plainly causal.

    Where it is, padding stands last and no earlier position sees it.
    """
    if layout.plainly_causal:
        places = torch.arange(layout.tokens.shape[1], device=layout.tokens.device)
        return None, _additive(places <= layout.asked[:, :, None], dtype)
    seen = visible(layout)
    return _additive(seen, dtype), _additive(_at(seen, layout.asked), dtype)


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))[:, None]


def _at(states: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Pick positions: (G, S, X) at (G, Q) gives (G, Q, X)."""
    return states.gather(1, asked[:, :, None].expand(-1, -1, states.shape[-1]))

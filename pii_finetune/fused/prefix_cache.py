"""What the tokens that many prompts start with leave behind, so that they are run once and not once a prompt."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model


class PrefixCache:
    """Keys and values of the first P tokens of many prompts; Qwen2's layers take it for one of transformers' caches.

    Those grow with whatever is run after them. This one stays as it is and serves one batch after the other.
    """

    def __init__(self, decoder: Qwen2Model, tokens: Sequence[int]) -> None:
        """Run the tokens, of which there may be none, through the decoder."""
        self.tokens = tuple(tokens)
        if tokens:
            asked = torch.tensor([self.tokens], device=decoder.device)
            layers = decoder(asked, use_cache=True).past_key_values.layers
            self._kept = [(layer.keys, layer.values) for layer in layers]  # (1, heads, P, head_dim)

    def __len__(self) -> int:
        """Return P."""
        return len(self.tokens)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the start's keys and values before those of what follows: (B, heads, S, D) gives (B, heads, P + S, D)."""
        if not self.tokens:
            return key, value
        first_key, first_value = (each.expand(len(key), -1, -1, -1) for each in self._kept[layer_idx])
        return torch.cat([first_key, key], 2), torch.cat([first_value, value], 2)

"""Forward passes that compute the tokens with which all prompts of a batch start once, not once a prompt."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import takewhile
from typing import Any

import torch


class SharedStart:
    """Keys and values of the last shared tokens, kept for as long as batches start with the same ones.

    They depend on the adapter that is active, so an object of this class serves one adapter and is then thrown away.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._tokens: list[int] = []
        self._cache: Any = None

    def last_logits(self, batch: Sequence[list[int]]) -> torch.Tensor:
        """Return the logits (B, V) that follow each of B prompts, given as tokens."""
        shared = _shared_start(batch)
        if shared != self._tokens:
            self._tokens, self._cache = shared, self._keys_and_values(shared)
        length = max(map(len, batch)) - len(shared)
        # Padding stands between the shared tokens and the rest, so that the last position is the answer's in every row.
        rest, mask = torch.zeros(2, len(batch), length, dtype=torch.long)
        for at, tokens in enumerate(batch):
            own = torch.tensor(tokens[len(shared) :])
            rest[at, -len(own) :], mask[at, -len(own) :] = own, 1
        rest, mask = rest.to(self._model.device), mask.to(self._model.device)
        cache = None
        if shared:
            cache = deepcopy(self._cache)  # a forward pass adds to the cache it is given
            cache.batch_repeat_interleave(len(batch))
        return self._model(
            input_ids=rest,
            attention_mask=torch.cat([mask.new_ones(len(batch), len(shared)), mask], dim=1),
            position_ids=len(shared) + (mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,  # only the answer's position is projected on the vocabulary
        ).logits[:, -1]

    def _keys_and_values(self, tokens: list[int]) -> Any:
        if not tokens:
            return None
        ids = torch.tensor([tokens], device=self._model.device)
        return self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values


def _shared_start(batch: Sequence[list[int]]) -> list[int]:
    """Return the tokens with which all rows start, and leave each row at least one token to be asked with."""
    if len(batch) == 1:
        return []  # nothing is shared, and a pass of its own would only cost
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*batch, strict=False))
    return [tokens[0] for tokens in same][: min(map(len, batch)) - 1]

"""How rows lie in a batch: each prompt once, its answers as branches, and what all prompts start with once a sequence.

A row of SFT is a prompt and its answer; a row of DPO a prompt and two answers, which TRL runs as two whole sequences.
Here both answers follow one copy of the prompt, each at the position it would have alone and blind to the other:

    tokens      p0 p1 p2 p3 yes no          what "no" may look at: p0 p1 p2 p3 and itself
    positions    0  1  2  3   4  4

The same holds one level up for prompts that start alike. Attention, the only part of a transformer that looks at other
positions, sees what it would have seen; so every loss and gradient is what it was, up to the order of sums. Dropout is
the exception: it would draw one mask for what is shared, so where there is dropout nothing is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import takewhile

import torch


@dataclass(frozen=True)
class Row:
    """A prompt and the answers after it, as tokens; each answer ends with the token that ends a turn."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    first: int = 0  # where the row's own tokens begin in the table of a FrozenStart, if there is one

    @property
    def num_tokens(self) -> int:
        """Tokens of the row as TRL counts them: the prompt once for every answer."""
        return sum(len(self.prompt) + len(answer) for answer in self.answers)


@dataclass(frozen=True)
class Layout:
    """A batch on its way to the model. G sequences of S positions hold B rows with A answers of up to T tokens."""

    tokens: torch.Tensor  # (G, S) int64
    positions: torch.Tensor  # (G, S) int64
    source: torch.Tensor  # (G, S) int64: where each position's state is in the table of a FrozenStart
    row: torch.Tensor  # (G, S) int64; 0: what all rows share, n: the n-th row of its sequence, -1: padding
    branch: torch.Tensor  # (G, S) int64; 0: the prompt, n: the row's n-th answer
    asked: torch.Tensor  # (G, Q) int64: the positions of each sequence at which a token is predicted
    looked_up: torch.Tensor  # (B, A, T) int64: where in the flattened (G * Q) each answer token is predicted
    targets: torch.Tensor  # (B, A, T) int64: the token to be predicted there
    counts: (
        torch.Tensor
    )  # (B, A, T) float32: 1, or 0 where a shorter answer, or a row that fills up the batch, has none

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return all of it, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Return what two layouts must have in common to be run by one CUDA graph."""
        return tuple(each.shape for each in self.tensors)

    @property
    def plainly_causal(self) -> bool:
        """Whether each sequence is one row with one answer, so that ordinary causal attention is right."""
        return self.counts.shape[:2] == (self.tokens.shape[0], 1)

    def to(self, device: torch.device) -> "Layout":
        """Return the same on another device; a GPU fetches it while the CPU goes on."""
        laid_out = self.pin_memory() if device.type == "cuda" and not self.tokens.is_pinned() else self
        return Layout(*(each.to(device, non_blocking=True) for each in laid_out.tensors))

    def pin_memory(self) -> "Layout":
        """Return the same in memory from which a GPU copies by itself; DataLoader calls this by its name."""
        return Layout(*(each.pin_memory() for each in self.tensors))


def lay_out(
    rows: Sequence[Row], num_shared: int, rows_per_sequence: int, num_rows: int = 0, multiple_of: int = 1
) -> Layout:
    """Lay rows out in sequences that each begin with the `num_shared` tokens all prompts start with.

    Args:
        rows: the rows, in the order in which results come back.
        num_shared: leading tokens that are the same in all prompts and fewer than any prompt has; 0 shares nothing.
        rows_per_sequence: how many rows follow one copy of them.
        num_rows: B is at least this, and a multiple of rows_per_sequence; it is filled up with rows that count for
            nothing, so that the last batch of an epoch has the shape of the others.
        multiple_of: S is rounded up to a multiple of it, so that few different shapes occur.
    """
    num_rows = -(-max(len(rows), num_rows) // rows_per_sequence) * rows_per_sequence
    rows, num_real = [*rows, *[rows[-1]] * (num_rows - len(rows))], len(rows)
    sequences = _deal(rows, rows_per_sequence)
    start = rows[0].prompt[:num_shared]
    longest = max(sum(own_tokens(rows[at], num_shared) for at in sequence) for sequence in sequences)
    size = -(-(num_shared + longest) // multiple_of) * multiple_of
    num_predicted = max(len(answer) for row in rows for answer in row.answers)
    num_asked = rows_per_sequence * max(1 + sum(len(answer) - 1 for answer in row.answers) for row in rows)

    laid: dict[str, list[list[int]]] = {field.name: [] for field in fields(Layout)[:6]}  # those of a sequence
    predicted: list[list[list[list[int]]]] = [[] for _ in rows]  # of each row and answer: looked_up, targets, counts
    for g, sequence in enumerate(sequences):
        tokens, positions, source = list(start), list(range(num_shared)), list(range(num_shared))
        of_row, of_branch, asked = [0] * num_shared, [0] * num_shared, list[int]()
        for number, at in enumerate(sequence, start=1):
            prompt = rows[at].prompt
            tokens += prompt[num_shared:]
            positions += range(num_shared, len(prompt))
            of_branch += [0] * (len(prompt) - num_shared)
            num_own = own_tokens(rows[at], num_shared)
            source += range(rows[at].first, rows[at].first + num_own)
            of_row += [number] * num_own
            last = g * num_asked + len(asked)
            asked.append(len(tokens) - 1)  # after the prompt's last token each answer begins
            for a, answer in enumerate(rows[at].answers, start=1):
                follow = range(g * num_asked + len(asked), g * num_asked + len(asked) + len(answer) - 1)
                gap = [0] * (num_predicted - len(answer))
                predicted[at].append([[last, *follow, *gap], [*answer, *gap], [int(at < num_real)] * len(answer) + gap])
                asked += range(len(tokens), len(tokens) + len(answer) - 1)
                tokens += answer[:-1]  # nothing is predicted after the last token, so it need not be read
                positions += range(len(prompt), len(prompt) + len(answer) - 1)
                of_branch += [a] * (len(answer) - 1)
        for name, values, length, fill in (
            ("tokens", tokens, size, 0),
            ("positions", positions, size, 0),
            ("source", source, size, 0),
            ("row", of_row, size, -1),
            ("branch", of_branch, size, 0),
            ("asked", asked, num_asked, 0),
        ):
            laid[name].append(values + [fill] * (length - len(values)))
    looked_up, targets, counts = torch.tensor(predicted).unbind(2)
    return Layout(
        **{name: torch.tensor(values) for name, values in laid.items()},
        looked_up=looked_up.contiguous(),
        targets=targets.contiguous(),
        counts=counts.float(),
    )


def visible(layout: Layout) -> torch.Tensor:
    """Return which positions each position may look at, (G, S, S) bool.

    Earlier ones that belong to all rows or to its own, and there to the prompt or to its own answer. Padding sees
    itself, for a softmax over nothing is not a number.
    """
    row_i, row_j = layout.row[:, :, None], layout.row[:, None, :]
    branch_i, branch_j = layout.branch[:, :, None], layout.branch[:, None, :]
    size = layout.tokens.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=row_i.device).tril()
    return earlier & ((row_j == 0) | (row_j == row_i)) & ((branch_j == 0) | (branch_j == branch_i))


def shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all prompts begin alike, at least one fewer than the shortest has."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in same), min(map(len, prompts)) - 1)


def own_tokens(row: Row, num_shared: int) -> int:
    """Return how many positions a row takes besides those it shares."""
    return len(row.prompt) - num_shared + sum(len(answer) - 1 for answer in row.answers)


def _deal(rows: Sequence[Row], rows_per_sequence: int) -> list[list[int]]:
    """Deal rows to sequences of even length: the longest rows first, forwards then backwards over the sequences."""
    if rows_per_sequence == 1:
        return [[at] for at in range(len(rows))]
    num_sequences = len(rows) // rows_per_sequence
    sequences: list[list[int]] = [[] for _ in range(num_sequences)]
    for turn, at in enumerate(sorted(range(len(rows)), key=lambda at: -len(rows[at].prompt))):
        lap, place = divmod(turn, num_sequences)
        sequences[place if lap % 2 == 0 else num_sequences - 1 - place].append(at)
    return sequences

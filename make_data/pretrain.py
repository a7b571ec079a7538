"""Pretrains the embedded base from text of our own and saves it to data/embedded-base. Run by `make base`.

Minutes on a data-centre GPU, hours on a CPU; torch.compile needs a C++ compiler. The same seed gives the same text in
the same order; weights differ in the last digits between kinds of processor.
"""

import argparse
import hashlib
import itertools
import json
import math
import random
import re
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from make_data.glossary import DATA
from make_data.pretraining_text import SHARES, TextGenerator, read_entries
from make_data.tokenizer import train_tokenizer

FOLDER = DATA / "embedded-base"
_LINES_FOR_TOKENIZER = 60_000
_NUM_WORKERS = 6  # part of the recipe: each worker draws text of its own
_BATCHES_SORTED = 4  # lines are drawn for this many batches at a time and sorted by length, so that little is padding
_PIECES = re.compile(r"(?<=user\n)")  # a line's tokens break here anyway; pieces that come up again are encoded once
_ALIGNED_LAYER = 3  # of 6: the layers above it are left to turn what is meant into answers
_TEMPERATURE = 0.1
_STEPS_BETWEEN_REPORTS = 100
_LENGTHS = (56, 72, 96)  # batches are padded to one of these, so that each is compiled once
_LONGEST_HALF = 72  # tokens; the few pairs with a longer half are drawn again


class Batch(NamedTuple):
    """Lines and pairs side by side: B lines, then the first halves of P pairs, then the second halves."""

    input_ids: torch.Tensor  # (B + 2P, L)
    positions: torch.Tensor  # (N,), in (B + 2P) * L: those that learn the token after them
    next_ids: torch.Tensor  # (N,)
    last: torch.Tensor  # (2P,), in (B + 2P) * L: the last token of each half
    same: torch.Tensor  # (P, P): whether two pairs are about one thing


class Batches(IterableDataset[Batch]):
    """Endless batches of text."""

    def __init__(
        self, tokenizer: Qwen2Tokenizer, num_lines: int, num_pairs: int, seed: int, shares: Mapping[str, float]
    ) -> None:
        self._tokenizer = tokenizer
        self._num_lines = num_lines
        self._num_pairs = num_pairs
        self._seed = seed
        self._shares = shares
        self._padding = tokenizer.get_vocab()["<|endoftext|>"]

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        seed = self._seed * 1000 + (worker.id if worker else 0)
        text, order = TextGenerator(read_entries(), seed, self._shares), random.Random(seed)
        encode_piece = lru_cache(maxsize=300_000)(lambda piece: self._tokenizer.backend_tokenizer.encode(piece).ids)

        def encode(given: str) -> list[int]:
            return [token for piece in _PIECES.split(given) for token in encode_piece(piece)]

        def draw_pairs() -> Iterator[tuple[str, list[int], list[int]]]:
            while True:
                pair = text.draw_pair()
                first, second = encode(pair.first), encode(pair.second)
                if max(len(first), len(second)) <= _LONGEST_HALF:
                    yield pair.thing, first, second

        while True:
            drawn = itertools.islice(text, self._num_lines * _BATCHES_SORTED)
            rows = [(encode(line.given), encode_piece(line.learned)) for line in drawn]
            rows = [row for row in rows if len(row[0]) + len(row[1]) <= _LENGTHS[-1]]  # all but one in a million
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            batches = [rows[start : start + self._num_lines] for start in range(0, len(rows), self._num_lines)]
            order.shuffle(batches)
            for lines in batches:
                pairs = list(itertools.islice(draw_pairs(), self._num_pairs))
                halves = [first for _, first, _ in pairs] + [second for _, _, second in pairs]
                things = np.array([thing for thing, _, _ in pairs])
                yield self._pad(lines, halves, things)

    def _pad(self, lines: list[tuple[list[int], list[int]]], halves: list[list[int]], things: np.ndarray) -> Batch:
        rows = [given + learned for given, learned in lines] + halves
        longest = max(len(row) for row in rows)
        length = next(length for length in _LENGTHS if length >= longest)
        ids = np.full((len(rows), length), self._padding)
        positions, next_ids = [], []
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
        for at, (given, learned) in enumerate(lines):
            learning = learned if given else learned[1:]  # nothing stands before a line's first token
            end = at * length + len(given) + len(learned)
            positions.extend(range(end - len(learning) - 1, end - 1))
            next_ids.extend(learning)
        last = [at * length + len(half) - 1 for at, half in enumerate(halves, start=len(lines))]
        same = torch.from_numpy(things[:, None] == things[None, :])
        return Batch(
            torch.from_numpy(ids),
            torch.tensor(positions),
            torch.tensor(next_ids),
            torch.tensor(last, dtype=torch.long),
            same,
        )


def alignment_loss(hidden: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Return how far each of (2P, H) is from finding its other half among the P of the other side, in nats.

    The contrastive loss of InfoXLM (Chi et al., 2021) on translation pairs, in both directions. Pairs about one thing
    are not told apart.
    """
    first, second = normalize(hidden.float(), dim=-1).chunk(2)
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    likeness = (first @ second.T / _TEMPERATURE).masked_fill(others, -torch.inf)
    wanted = torch.arange(len(same), device=same.device)
    return (cross_entropy(likeness, wanted) + cross_entropy(likeness.T, wanted)) / 2


def build_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """Return an untrained Qwen2 of 5.2M parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=6,
        intermediate_size=640,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        eos_token_id=tokenizer.get_vocab()["<|im_end|>"],
        pad_token_id=tokenizer.get_vocab()["<|endoftext|>"],
        bos_token_id=None,
        use_cache=True,
    )
    return Qwen2ForCausalLM(config)


def pretrain(
    folder: Path,
    *,
    start_from: Path | None,
    num_steps: int,
    num_lines: int,
    num_pairs: int,
    alignment_weight: float,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    shares: Mapping[str, float],
) -> None:
    """Train a model, from nothing or from the one in `start_from`, and save it with the figures of the training."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if start_from is None:
        text = itertools.islice(TextGenerator(read_entries(), seed, shares), _LINES_FOR_TOKENIZER)
        tokenizer = train_tokenizer(line.given + line.learned for line in text)
        model = build_model(tokenizer)
    else:
        tokenizer = Qwen2Tokenizer.from_pretrained(start_from)
        model = Qwen2ForCausalLM.from_pretrained(start_from, dtype=torch.float32)
    model.to(device)  # pyright: ignore[reportArgumentType]
    for layer in model.model.layers:  # all layers share what is compiled for one
        layer.forward = torch.compile(layer.forward, dynamic=False)
    aligned: list[torch.Tensor] = []
    model.model.layers[_ALIGNED_LAYER - 1].register_forward_hook(lambda *call: aligned.append(call[-1]))
    loader = DataLoader(
        Batches(tokenizer, num_lines, num_pairs, seed, shares),
        batch_size=None,
        num_workers=_NUM_WORKERS,
        prefetch_factor=16,
        pin_memory=device == "cuda",
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=device == "cuda")
    warmup = max(1, num_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / num_steps)))
    )
    started, losses, recent, num_tokens = time.monotonic(), {}, [], 0
    for step, drawn in enumerate(itertools.islice(loader, num_steps), start=1):
        batch = Batch(*(part.to(device, non_blocking=True) for part in drawn))
        with torch.autocast(device, dtype=torch.bfloat16):
            out = model.model(input_ids=batch.input_ids, use_cache=False)
            # only what is learned is projected on the vocabulary
            logits = model.lm_head(out.last_hidden_state.flatten(0, 1)[batch.positions])
        told = cross_entropy(logits.float(), batch.next_ids)
        halves = aligned.pop().flatten(0, 1)[batch.last]
        meant = alignment_loss(halves, batch.same) if num_pairs else told.new_zeros(())
        loss = told + alignment_weight * meant
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(torch.stack([told.detach(), meant.detach()]))
        num_tokens += batch.input_ids.numel()
        if step % _STEPS_BETWEEN_REPORTS == 0 or step == num_steps:
            losses[step] = [round(mean, 4) for mean in torch.stack(recent).mean(0).tolist()]
            recent.clear()
            spent = time.monotonic() - started
            print(f"step {step:,}/{num_steps:,}  losses {losses[step]}  {spent:.0f} s", flush=True)
    seconds = time.monotonic() - started
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it is written readable to its owner alone
    before = [] if start_from is None else json.loads((start_from / "pretraining.json").read_text(encoding="utf-8"))
    figures = {
        "num_steps": num_steps,
        "batch_size_lines": num_lines,
        "batch_size_pairs": num_pairs,
        "alignment_weight": alignment_weight,
        "shares": dict(shares),
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "seed": seed,
        "num_tokens_with_padding": num_tokens,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "mean_losses_since_the_report_before": {"of": ["text", "alignment"], **losses},
    }
    (folder / "pretraining.json").write_text(json.dumps([*before, figures], indent=2) + "\n", encoding="utf-8")
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """Write the digests of the base's files, as `sha256sum --check SHA256SUMS` and `doctor` read them."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".jinja", ".safetensors"))
    digests = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(digests), encoding="utf-8")


def main() -> None:
    """Pretrain; data/embedded-base/README.md says with which flags the shipped base was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--start-from", type=Path, metavar="FOLDER", help="train the model there further")
    parser.add_argument("--num-steps", type=int, default=24_000)
    parser.add_argument("--num-lines", type=int, default=512, help="in a batch")
    parser.add_argument("--num-pairs", type=int, default=192, help="in a batch; 0: no alignment")
    parser.add_argument("--alignment-weight", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs=len(SHARES), default=list(SHARES.values()), metavar=tuple(SHARES))
    flags = vars(parser.parse_args())
    flags["shares"] = dict(zip(SHARES, flags["shares"], strict=True))
    pretrain(flags.pop("out"), **flags)


if __name__ == "__main__":
    main()

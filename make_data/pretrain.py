"""Pretrains the embedded base from text of our own and saves it to data/embedded-base. Run by `make base`.

Minutes on a data-centre GPU, hours on a CPU; torch.compile needs a C++ compiler. The same seed gives the same text in
the same order; weights differ in the last digits between kinds of processor.
"""

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from make_data.glossary import DATA
from make_data.pretraining_text import TextGenerator, read_entries
from make_data.tokenizer import train_tokenizer

FOLDER = DATA / "embedded-base"
_LINES_FOR_TOKENIZER = 60_000
_NUM_WORKERS = 12  # part of the recipe: each worker draws text of its own
_BATCHES_SORTED = 4  # lines are drawn for this many batches at a time and sorted by length, so that little is padding
_IGNORED = -100
_STEPS_BETWEEN_REPORTS = 100
_LENGTHS = (40, 48, 64, 112)  # batches are padded to one of these, so that each is compiled once


class LineBatches(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Endless batches of lines: input_ids (B, L) and labels (B, L), -100 where nothing is learned."""

    def __init__(self, tokenizer: Qwen2Tokenizer, batch_size: int, seed: int) -> None:
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._seed = seed
        self._padding = tokenizer.get_vocab()["<|endoftext|>"]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        seed = self._seed * 1000 + (worker.id if worker else 0)
        lines, order = iter(TextGenerator(read_entries(), seed)), random.Random(seed)
        while True:
            drawn = list(itertools.islice(lines, self._batch_size * _BATCHES_SORTED))
            given, learned = (self._encode([getattr(line, part) for line in drawn]) for part in ("given", "learned"))
            rows = sorted(zip(given, learned, strict=True), key=lambda row: len(row[0]) + len(row[1]))
            batches = [rows[start : start + self._batch_size] for start in range(0, len(rows), self._batch_size)]
            order.shuffle(batches)
            yield from map(self._pad, batches)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.backend_tokenizer.encode_batch_fast(texts)]

    def _pad(self, rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(given) + len(learned) for given, learned in rows)
        length = next(length for length in _LENGTHS if length >= longest)
        ids = torch.full((len(rows), length), self._padding)
        labels = torch.full((len(rows), length), _IGNORED)
        for at, (given, learned) in enumerate(rows):
            ids[at, : len(given) + len(learned)] = torch.tensor(given + learned)
            labels[at, len(given) : len(given) + len(learned)] = torch.tensor(learned)
        return ids, labels


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
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> None:
    """Train a model, from nothing or from the one in `start_from`, and save it with the figures of the training."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if start_from is None:
        text = itertools.islice(TextGenerator(read_entries(), seed), _LINES_FOR_TOKENIZER)
        tokenizer = train_tokenizer(line.given + line.learned for line in text)
        model = build_model(tokenizer)
    else:
        tokenizer = Qwen2Tokenizer.from_pretrained(start_from)
        model = Qwen2ForCausalLM.from_pretrained(start_from, dtype=torch.float32)
    model.to(device)  # pyright: ignore[reportArgumentType]
    decoder = torch.compile(model.model, dynamic=False)
    loader = DataLoader(
        LineBatches(tokenizer, batch_size, seed), batch_size=None, num_workers=_NUM_WORKERS, prefetch_factor=16
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
    for step, (ids, labels) in enumerate(itertools.islice(loader, num_steps), start=1):
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = decoder(input_ids=ids.to(device), use_cache=False).last_hidden_state[:, :-1]
            next_ids = labels[:, 1:].to(device)
            is_learned = next_ids != _IGNORED  # only these positions are projected on the vocabulary
            loss = cross_entropy(model.lm_head(hidden[is_learned]).float(), next_ids[is_learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.detach())
        num_tokens += ids.numel()
        if step % _STEPS_BETWEEN_REPORTS == 0 or step == num_steps:
            losses[step] = round(torch.stack(recent).mean().item(), 4)
            recent.clear()
            print(
                f"step {step:,}/{num_steps:,}  loss {losses[step]:.4f}  {time.monotonic() - started:.0f} s", flush=True
            )
    seconds = time.monotonic() - started
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it is written readable to its owner alone
    before = [] if start_from is None else json.loads((start_from / "pretraining.json").read_text(encoding="utf-8"))
    figures = {
        "num_steps": num_steps,
        "batch_size_lines": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "seed": seed,
        "num_tokens_with_padding": num_tokens,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "mean_loss_since_the_report_before": losses,
    }
    (folder / "pretraining.json").write_text(json.dumps([*before, figures], indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Pretrain; data/embedded-base/README.md says with which flags the shipped base was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--start-from", type=Path, metavar="FOLDER", help="train the model there further")
    parser.add_argument("--num-steps", type=int, default=24_000)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    flags = vars(parser.parse_args())
    pretrain(flags.pop("out"), **flags)


if __name__ == "__main__":
    main()

"""Ways to ask a model about labels: generate() at two batch sizes, a plain forward pass, and the pass of `score`.

    python -m benchmarks.scoring                                           # embedded base, two cores
    python -m benchmarks.scoring --profile seed --shape-only TOKENIZER     # a GPU, Qwen2.5-1.5B's shape, random weights
    python -m benchmarks.scoring --profile seed --base data/embedded-base  # a GPU, trained weights, in bfloat16

In turns, in one process; generate() gets fewer rows, for it is slow. Beside the speed stand the largest difference of
P(yes) from the plain pass, and that of the plain pass from itself at half the batch size: what arithmetic alone does.
Writes benchmarks/results/scoring_PROFILE.json, with --base scoring_PROFILE_BASE.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.random_base import random_base
from benchmarks.training import RESULTS, environment, print_nothing, read_records
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import PROFILES
from pii_finetune.prompt import render_prompt
from pii_finetune.quiet import quiet_libraries
from pii_finetune.scores import Question
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import split


def ask_plainly(scorer: Scorer, questions: Sequence[Question], batch_size: int) -> np.ndarray:
    """Return P(yes) by the model's own forward pass over whole prompts, padded, neighbours of like length together."""
    tokenizer, model = scorer._tokenizer, scorer._model  # noqa: SLF001
    prompts = [render_prompt(tokenizer, *question) for question in questions]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    found = np.zeros(len(prompts))
    model.set_adapter("sft")
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer([prompts[at] for at in rows], padding=True, return_tensors="pt").to(model.device)
            logits = model(**batch, logits_to_keep=1).logits[:, -1].float()
            margin = logits[:, scorer._yes] - logits[:, scorer._no]  # noqa: SLF001
            found[rows] = margin.sigmoid().double().cpu().numpy()
    return found


def generate(scorer: Scorer, some: Sequence[Question], batch_size: int) -> np.ndarray:
    """Return P(yes) as found by transformers, neighbours of like length together."""
    scorer._is_qwen2, scorer._batch_size = False, batch_size  # noqa: SLF001 # as for another architecture
    return scorer.score(some, "sft").probability


def generate_as_rows_come(scorer: Scorer, some: Sequence[Question], batch_size: int) -> np.ndarray:
    """Return P(yes) by generate() in the order of the workbook: the loop that most scripts have."""
    tokenizer = scorer._tokenizer  # noqa: SLF001
    scorer._model.set_adapter("sft")  # noqa: SLF001
    found = []
    with torch.inference_mode():
        for start in range(0, len(some), batch_size):
            prompts = [render_prompt(tokenizer, *question) for question in some[start : start + batch_size]]
            margin, _ = scorer._generate(tokenizer(prompts)["input_ids"])  # noqa: SLF001
            found.append(margin.sigmoid().double().cpu().numpy())
    return np.concatenate(found)


def unmerged(scorer: Scorer) -> Scorer:
    """Return the scorer with its adapters beside the weights, as PEFT runs them."""
    if scorer._merged is not None:  # noqa: SLF001
        scorer._merged = None  # noqa: SLF001
        scorer._model.base_model.enable_adapter_layers()  # noqa: SLF001
    return scorer


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=list(PROFILES), default="embedded")
    parser.add_argument("--base", help="a folder or hub id in place of the profile's")
    parser.add_argument("--shape-only", metavar="TOKENIZER", help="random weights of Qwen2.5-1.5B's shape")
    parser.add_argument("--records", type=Path, help="rows as JSON in place of the workbook's")
    parser.add_argument("--steps", type=int, default=60, help="of SFT, before anything is asked")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="ask about each label so often, under another name")
    parser.add_argument("--generated", type=int, default=512, help="rows that generate() is given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Train a few steps, ask in turns, print and write the figures."""
    flags = arguments()
    quiet_libraries()
    config = apply_overrides(PROFILES[flags.profile](), {"sft.max_steps": flags.steps, "sft.save_strategy": "no"})
    name = flags.profile
    if flags.shape_only or flags.base:
        base = flags.base or random_base(flags.shape_only, Path(tempfile.mkdtemp()) / "base")
        config = apply_overrides(config, {"base.name": base})
        name += f"_{Path(flags.base).name}" if flags.base else ""
    records = read_records(flags.records, config)
    questions = [(f"{r.label} {n}" if n else r.label, r.language) for n in range(flags.repeat) for r in records]
    adapter = train_sft(split(records, config.data), config, Path(tempfile.mkdtemp()), print_nothing)
    size = config.evaluation.batch_size
    ours = Scorer(config.base, {"sft": adapter.path}, size)
    reference = unmerged(Scorer(config.base, {"sft": adapter.path}, size))
    few, some = questions[: flags.generated // 8], questions[: flags.generated]
    ways: dict[str, tuple[Callable[[], np.ndarray], Sequence[Question]]] = {
        "generate(), batch 4, as rows come": (lambda: generate_as_rows_come(reference, few, 4), few),
        "generate(), batch 4": (lambda: generate(reference, few, 4), few),
        f"generate(), batch {size}": (lambda: generate(reference, some, size), some),
        f"plain forward, batch {size}": (lambda: ask_plainly(reference, questions, size), questions),
        "score, with the answer's form": (lambda: ours.score(questions, "sft").probability, questions),
        "score": (lambda: ours.score(questions, "sft", check_format=False).probability, questions),
    }
    plain = ask_plainly(reference, questions, size)
    results: dict[str, Any] = {
        "what": f"profile {flags.profile}, {config.base.quantization}, {config.base.dtype}, batch {size}",
        **environment(),
        "num_questions": len(questions),
        "plain_from_itself_at_half_the_batch": float(
            np.abs(ask_plainly(reference, questions, size // 2) - plain).max()
        ),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    apart: dict[str, float] = {}
    for turn in range(flags.rounds + 1):
        for way, (ask, asked) in ways.items():
            begun = time.perf_counter()
            found = ask()
            if turn:  # the first passes cost more
                seconds[way].append((time.perf_counter() - begun) / len(asked))
            apart[way] = float(np.abs(found - plain[: len(asked)]).max())
            print(f"round {turn}: {way}, {len(asked) / (time.perf_counter() - begun):,.0f} rows/s", flush=True)
    results["ways"] = {
        way: {
            "rows_per_second": [round(1 / each) for each in seconds[way]],
            "median_rows_per_second": round(1 / statistics.median(seconds[way])),
            "largest_difference_from_plain": apart[way],
        }
        for way in ways
    }
    text = json.dumps(results, indent=1)
    print(text)
    flags.out.mkdir(parents=True, exist_ok=True)
    (flags.out / f"scoring_{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

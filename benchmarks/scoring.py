"""Ways to ask a model about labels: generate() at two batch sizes, a plain forward pass, and the pass of `score`.

    python -m benchmarks.scoring                                        # embedded base, two cores
    python -m benchmarks.scoring --profile seed --shape-only TOKENIZER  # a GPU, random weights of Qwen2.5-1.5B's shape

In turns, in one process; generate() gets fewer rows, for it is slow. Beside the speed stand the largest difference of
P(yes) from the plain pass, and that of the plain pass from itself at half the batch size: what arithmetic alone does.
Writes benchmarks/results/scoring_PROFILE.json.
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

from benchmarks.training import RESULTS, environment, print_nothing, random_base, read_records
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


def main() -> None:
    """Train a few steps, ask in turns, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=list(PROFILES), default="embedded")
    parser.add_argument("--base", help="a folder or hub id in place of the profile's")
    parser.add_argument("--shape-only", metavar="TOKENIZER", help="random weights of Qwen2.5-1.5B's shape")
    parser.add_argument("--records", type=Path, help="rows as JSON in place of the workbook's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="ask about each label so often, under another name")
    parser.add_argument("--generated", type=int, default=512, help="rows that generate() is given")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    quiet_libraries()
    config = apply_overrides(PROFILES[flags.profile](), {"sft.max_steps": 60, "sft.save_strategy": "no"})
    if flags.shape_only or flags.base:
        base = flags.base or random_base(flags.shape_only, Path(tempfile.mkdtemp()) / "base")
        config = apply_overrides(config, {"base.name": base})
    records = read_records(flags.records, config)
    questions = [(f"{r.label} {n}" if n else r.label, r.language) for n in range(flags.repeat) for r in records]
    adapter = train_sft(split(records, config.data), config, Path(tempfile.mkdtemp()), print_nothing)
    scorers = {size: Scorer(config.base, {"sft": adapter.path}, size) for size in (4, config.evaluation.batch_size)}
    wide, narrow = scorers[config.evaluation.batch_size], scorers[4]

    def generate(scorer: Scorer, some: Sequence[Question]) -> np.ndarray:
        scorer._is_qwen2 = False  # noqa: SLF001 # as for a base of another architecture: generate() answers
        try:
            return scorer.score(some, "sft").probability
        finally:
            scorer._is_qwen2 = True  # noqa: SLF001

    half = config.evaluation.batch_size // 2
    few = questions[: flags.generated // 8]
    some = questions[: flags.generated]
    ways: dict[str, tuple[Callable[[], np.ndarray], Sequence[Question]]] = {
        "generate(), batch 4": (lambda: generate(narrow, few), few),
        f"generate(), batch {2 * half}": (lambda: generate(wide, some), some),
        f"plain forward, batch {2 * half}": (lambda: ask_plainly(wide, questions, 2 * half), questions),
        "score, with the answer's form": (lambda: wide.score(questions, "sft").probability, questions),
        "score": (lambda: wide.score(questions, "sft", check_format=False).probability, questions),
    }
    plain = ask_plainly(wide, questions, 2 * half)
    results: dict[str, Any] = {
        "what": f"profile {flags.profile}, {config.base.quantization}, {config.base.dtype}, batch {2 * half}",
        **environment(),
        "num_questions": len(questions),
        "plain_from_itself_at_half_the_batch": float(np.abs(ask_plainly(wide, questions, half) - plain).max()),
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
    (flags.out / f"scoring_{flags.profile}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

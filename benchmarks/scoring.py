"""Three ways to ask the embedded base about labels: generate(), a pass a prompt, a pass over what is not shared.

    python -m benchmarks.scoring

In turns, in one process. Seconds of processor time stand beside those of the clock, for a machine is seldom ours alone.
Writes benchmarks/results/scoring.json.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from pii_finetune import shared_start
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.quiet import quiet_libraries
from pii_finetune.scores import Question
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

RESULTS = Path(__file__).parent / "results" / "scoring.json"


def measure(scorer: Scorer, questions: list[Question], way: str) -> dict[str, Any]:
    """Ask once; return seconds and P(yes)."""
    share_nothing = patch.object(shared_start, "_shared_start", lambda _: [])
    context: AbstractContextManager[Any] = share_nothing if way == "plain" else nullcontext()
    wall, processor = time.perf_counter(), time.process_time()
    with context:
        scores = scorer.score(questions, "sft", check_format=way == "generate")
    return {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "probability": scores.probability,
        "valid": scores.valid,
    }


def main() -> None:
    """Train a few steps, ask in turns, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64])
    flags = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(2)
    config = apply_overrides(embedded(), {"sft.max_steps": 60, "sft.eval_steps": 10_000})
    records = validate(read_workbook(config.data), None).require_valid().records
    questions: list[Question] = [(record.label, record.language) for record in records[: flags.rows]]
    results: dict[str, Any] = {"num_questions": len(questions), "rounds": flags.rounds, "batch_sizes": {}}
    with tempfile.TemporaryDirectory() as folder:
        adapter = train_sft(split(records, config.data), config, Path(folder), lambda _: None)
        for batch_size in flags.batch_sizes:
            scorer = Scorer(config.base, {"sft": adapter.path}, batch_size)
            results["batch_sizes"][batch_size] = _compare(scorer, questions, flags.rounds)
    results["packages"] = {name: version(name) for name in ("torch", "transformers", "peft")}
    results["hardware"] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    text = json.dumps(results, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def _compare(scorer: Scorer, questions: list[Question], rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ("generate", "plain", "shared")}
    for way in runs:  # the first passes cost more
        scorer.score(questions[:64], "sft", check_format=way == "generate")
    for _ in range(rounds):
        for way, done in runs.items():
            done.append(measure(scorer, questions, way))
    plain = runs["plain"][0]
    return {
        way: {
            "rows_per_second": [round(len(questions) / run["wall"]) for run in done],
            "rows_per_processor_second": [round(len(questions) / run["processor"]) for run in done],
            "largest_difference_from_plain": float(np.abs(done[0]["probability"] - plain["probability"]).max()),
            "share_valid": float(done[0]["valid"].mean()),
            "answers_that_differ_from_plain": int(
                ((done[0]["probability"] >= 0.5) != (plain["probability"] >= 0.5)).sum()
            ),
        }
        for way, done in runs.items()
    }


if __name__ == "__main__":
    main()

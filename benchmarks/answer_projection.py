"""Projecting only the answers' positions on the vocabulary, beside TRL as it is on a CPU: seconds, losses, adapters.

    python -m benchmarks.answer_projection

Both train the embedded profile on the same rows in the same order, in turns.
Writes benchmarks/results/answer_projection.json.
"""

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from pii_finetune import training
from pii_finetune.config import RunConfig
from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.sft import train_sft
from pii_finetune.splits import Splits, split
from pii_finetune.training import Adapter, TrainingUpdate
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

RESULTS = Path(__file__).parent / "results" / "answer_projection.json"
WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "trl": nullcontext,
    "answers_only": training.projecting_answers_only,
}


def train_both_stages(config: RunConfig, splits: Splits, way: str, folder: Path) -> dict[str, Any]:
    """Return losses, seconds and adapter weights of SFT and of DPO from it."""
    found: dict[str, Any] = {}
    adapter: Adapter | None = None
    for stage in ("sft", "dpo"):
        losses: list[float] = []

        def keep(update: TrainingUpdate, losses: list[float] = losses) -> None:
            losses.extend(value for name, value in update.metrics.items() if name == "loss")

        with patch.object(training, "projecting_answers_only", WAYS[way]):
            if adapter is None:
                adapter = train_sft(splits, config, folder / stage, keep)
            else:
                adapter = train_dpo(splits, adapter, config, folder / stage, keep)
        weights = load_file(adapter.path / "adapter_model.safetensors")
        found[stage] = {
            "losses": losses,
            "seconds": adapter.seconds,
            "weights": torch.cat([weights[name].flatten() for name in sorted(weights)]),
        }
    return found


def main() -> None:
    """Measure in turns, print and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    settings = {"max_steps": flags.steps, "eval_steps": 10_000, "logging_steps": 1}
    config = apply_overrides(
        embedded(),
        {
            "trainer": "trl",
            **{f"{stage}.{name}": value for stage in ("sft", "dpo") for name, value in settings.items()},
        },
    )
    splits = split(validate(read_workbook(config.data), None).require_valid().records, config.data)
    splits = Splits(splits.train, splits.validation[: config.sft.per_device_eval_batch_size], splits.test)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(flags.rounds):
            for way in WAYS:
                runs[way].append(train_both_stages(config, splits, way, Path(folder) / f"{way}-{turn}"))
    results: dict[str, Any] = {}
    for stage in ("sft", "dpo"):
        trl, ours = ([run[stage] for run in runs[way]] for way in WAYS)
        results[stage] = {
            "steps": flags.steps,
            "seconds": {way: [round(run[stage]["seconds"], 2) for run in runs[way]] for way in WAYS},
            "speed_up": round(
                statistics.median(a["seconds"] / b["seconds"] for a, b in zip(trl, ours, strict=True)), 2
            ),
            "largest_loss_difference": max(
                abs(a - b) for a, b in zip(trl[0]["losses"], ours[0]["losses"], strict=True)
            ),
            "adapter_relative_l2_difference": (
                (trl[0]["weights"] - ours[0]["weights"]).norm() / trl[0]["weights"].norm()
            ).item(),
        }
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    hardware = {"machine": platform.machine(), "threads": torch.get_num_threads(), "device": "cpu"}
    text = json.dumps({**results, "packages": packages, "hardware": hardware}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

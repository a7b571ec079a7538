"""What a training step costs, and that it is the same step: TRL's trainers, TRL's tuned by hand, and the fused ones.

    python -m benchmarks.training                                        # embedded profile, two cores
    python -m benchmarks.training --profile seed                         # a GPU, the hub's weights
    python -m benchmarks.training --profile seed --shape-only TOKENIZER  # random weights of Qwen2.5-1.5B's shape

All in one process, in turns, `--rounds` times; a step's time is that between two log entries, over the steps between
them, without the first two entries. Then the same batches at dropout 0: the losses of TRL's trainer, of TRL's with the
rows of each batch the other way round (how far arithmetic alone carries it), and of the fused one. Writes
benchmarks/results/training_PROFILE.json and .png.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from transformers import PrinterCallback

from benchmarks.random_base import random_base
from pii_finetune.config import RunConfig
from pii_finetune.dpo import dpo_trainer, train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import PROFILES
from pii_finetune.quiet import quiet_libraries
from pii_finetune.records import Record
from pii_finetune.sft import sft_trainer, train_sft
from pii_finetune.splits import Splits, split
from pii_finetune.training import TrainingUpdate, projecting_answers_only

RESULTS = Path(__file__).parent / "results"
STAGES = ("sft", "dpo")
LOG_EVERY = 5  # steps
OVERLAY_STEPS = 50
GROWTH_STEPS = 60
PARTS = ("steps", "overlay", "growth", "rows", "whole")  # measured anew; what else the results file holds stays in it
COLOURS = {"TRL": "#b0b7c3", "TRL, tuned": "#7c8798", "fused": "#2563a8", "fused, compiled": "#123c69"}


def stage_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the overrides for both stages."""
    return {f"{stage}.{name}": value for stage in STAGES for name, value in settings.items()}


def contenders(config: RunConfig) -> dict[str, RunConfig]:
    """Return what is compared: the recipe by TRL, with what its users know to switch off, and by the fused trainer."""
    plain = apply_overrides(
        config, stage_settings({"save_strategy": "no", "eval_steps": 1_000_000, "logging_steps": LOG_EVERY})
    )
    ways = {
        "TRL": apply_overrides(plain, {"trainer": "trl"}),
        "TRL, tuned": apply_overrides(plain, {"trainer": "trl", **stage_settings({"gradient_checkpointing": False})}),
        "fused": apply_overrides(plain, {"trainer": "fused"}),
    }
    if config.base.device == "cuda":
        ways["fused, compiled"] = apply_overrides(ways["fused"], {"fused.compile_layers": True})
    return ways


def make_trainer(stage: str, name: str, config: RunConfig, splits: Splits, start: Path, log: Callable) -> Any:
    """Return a trainer of the stage; the tuned DPO computes its reference before training, as TRL can."""
    folder = Path(tempfile.mkdtemp())
    few = Splits(splits.train, splits.validation[:8], splits.test)  # Trainer evaluates once more at its end
    if stage == "sft":
        trainer: Any = sft_trainer(few, config, folder, log)[0]
    else:
        trainer = dpo_trainer(few, start, config, folder, log)[0]
    trainer.remove_callback(PrinterCallback)
    if stage == "dpo" and name == "TRL, tuned":
        trainer.precompute_ref_logps, trainer._precompute_model_hash = True, "benchmark"  # noqa: SLF001
        for side in ("train", "eval"):
            rows = trainer._precompute_ref_logps(getattr(trainer, f"{side}_dataset"), side, 32)  # noqa: SLF001
            setattr(trainer, f"{side}_dataset", rows)
    return trainer


def time_steps(stage: str, ways: dict[str, RunConfig], splits: Splits, start: Path, flags: Any) -> dict[str, Any]:
    """Train in turns; return milliseconds per step and what else there is to know of each way."""
    results: dict[str, Any] = {}
    trainers, times = {}, {name: [] for name in ways}
    for _ in range(flags.rounds):
        for name, config in ways.items():
            stamps: list[tuple[float, int]] = []

            def stamp(update: TrainingUpdate, stamps: list[tuple[float, int]] = stamps) -> None:
                if "loss" in update.metrics:
                    stamps.append((time.perf_counter(), update.step))

            num_steps = flags.steps if config.trainer == "trl" else flags.fused_steps
            limited = apply_overrides(config, stage_settings({"max_steps": num_steps}))
            made = time.perf_counter()
            if name not in trainers:
                trainers[name] = make_trainer(stage, name, limited, splits, start, lambda _: None)
            trainer = trainers[name]
            for callback in trainer.callback_handler.callbacks:
                if hasattr(callback, "_on_update"):
                    callback._on_update = stamp  # noqa: SLF001
            reset_peak()
            begun = time.perf_counter()
            with nullcontext() if name == "TRL" else projecting_answers_only():
                trainer.train()
            times[name].append(seconds_per_step(stamps))
            first = results.setdefault(name, {"setup_seconds": round(begun - made, 1)})
            first.setdefault("first_steps_seconds", round(stamps[1][0] - begun, 1))
            first["peak_memory_mib"] = peak_memory()
    for name, config in ways.items():
        batch = getattr(config, stage).per_device_train_batch_size
        milliseconds = [1e3 * seconds for seconds in times[name]]
        results[name] |= {
            "ms_per_step": [round(each, 2) for each in milliseconds],
            "median_ms_per_step": round(statistics.median(milliseconds), 2),
            "rows_per_second": round(1e3 * batch / statistics.median(milliseconds), 1),
            "times_as_fast_as_TRL": round(statistics.median(times["TRL"]) / statistics.median(times[name]), 1),
        }
        print(stage, name, results[name], flush=True)
    del trainers
    forget()
    return results


def seconds_per_step(stamps: Sequence[tuple[float, int]]) -> float:
    """Return the median time of a step between log entries (when, step), without those before the second."""
    return statistics.median((b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(stamps[1:]))


def overlay(stage: str, ways: dict[str, RunConfig], splits: Splits, start: Path) -> dict[str, Any]:
    """Return the losses of 50 steps at dropout 0 by TRL, TRL with each batch reversed, and the fused trainer."""
    exact = {"lora.lora_dropout": 0.0, **stage_settings({"max_steps": OVERLAY_STEPS, "logging_steps": 1})}
    losses: dict[str, list[float]] = {}
    for name, way in (("TRL", "TRL, tuned"), ("TRL, rows reversed", "TRL, tuned"), ("fused", "fused")):
        seen = losses.setdefault(name, [])

        def keep(update: TrainingUpdate, seen: list[float] = seen) -> None:
            seen.extend([update.metrics["loss"]] if "loss" in update.metrics else [])

        trainer = make_trainer(stage, "", apply_overrides(ways[way], exact), splits, start, keep)
        if name == "TRL, rows reversed":
            collate = trainer.data_collator
            trainer.data_collator = lambda rows, collate=collate: collate(rows[::-1])
        with projecting_answers_only():
            trainer.train()
        del trainer
        forget()
    apart = {
        name: max(abs(a - b) for a, b in zip(losses["TRL"], losses[name], strict=True))
        for name in ("TRL, rows reversed", "fused")
    }
    print(stage, "largest loss difference from TRL", apart, flush=True)
    return {"losses": losses, "largest_difference_from_TRL": apart}


def whole_recipe(config: RunConfig, splits: Splits) -> dict[str, Any]:
    """Return the seconds of SFT, DPO and evaluation of the recipe as it stands, loading and warm-up included."""
    from pii_finetune.scoring import Scorer

    seconds, folder = {}, Path(tempfile.mkdtemp())
    begun = time.perf_counter()
    sft = train_sft(splits, config, folder / "sft", lambda _: None)
    seconds["sft"] = time.perf_counter() - begun
    dpo = train_dpo(splits, sft, config, folder / "dpo", lambda _: None)
    seconds["dpo"] = time.perf_counter() - begun - seconds["sft"]
    forget()
    scorer = Scorer(config.base, {"sft": sft.path, "dpo": dpo.path}, config.evaluation.batch_size)
    for adapter in (None, "sft", "dpo"):
        scorer.score([(record.label, record.language) for record in splits.test], adapter)
    seconds["whole"] = time.perf_counter() - begun
    seconds["evaluate"] = seconds["whole"] - seconds["sft"] - seconds["dpo"]
    print("whole recipe", seconds, flush=True)
    return {
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "num_train": len(splits.train),
        "num_evaluated": 3 * len(splits.test),
        "steps": {"sft": sft.num_steps, "dpo": dpo.num_steps},
    }


def growth(config: RunConfig, splits: Splits, start: Path, batch_sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows per second of the fused trainers by batch size, with what rows share computed once."""
    figures = []
    for batch in batch_sizes:
        for stage in STAGES:
            stamps: list[tuple[float, int]] = []
            at = {"per_device_train_batch_size": batch, "max_steps": GROWTH_STEPS, "logging_steps": LOG_EVERY}
            wide = {"lora.lora_dropout": 0.0, "fused.rows_per_sequence": 16, **stage_settings(at)}

            def note(update: TrainingUpdate, stamps: list[tuple[float, int]] = stamps) -> None:
                stamps.extend([(time.perf_counter(), update.step)] if "loss" in update.metrics else [])

            reset_peak()
            seen = Splits((splits.train * 10)[: batch * GROWTH_STEPS], splits.validation, splits.test)
            make_trainer(stage, "", apply_overrides(config, wide), seen, start, note).train()
            seconds = seconds_per_step(stamps)
            figures.append(
                {
                    "stage": stage,
                    "batch_size": batch,
                    "ms_per_step": round(1e3 * seconds, 1),
                    "rows_per_second": round(batch / seconds),
                    "peak_memory_mib": peak_memory(),
                }
            )
            print(figures[-1], flush=True)
            forget()
    return figures


def growth_with_rows(splits: Splits, counts: Sequence[int], base: str) -> list[dict[str, Any]]:
    """Return the seconds of one epoch of `fast` and of scoring, all included, by the number of rows."""
    from pii_finetune.scoring import Scorer

    config = apply_overrides(
        PROFILES["fast"](),
        {"base.name": base, **stage_settings({"num_train_epochs": 1, "eval_steps": 1_000_000, "save_strategy": "no"})},
    )
    figures = []
    for count in counts:
        laps = range(1 + count // len(splits.train))
        many = [replace(r, label=f"{r.label} {lap}" if lap else r.label) for lap in laps for r in splits.train][:count]
        some, folder = Splits(tuple(many), splits.validation[:64], splits.test), Path(tempfile.mkdtemp())
        moments = [time.perf_counter()]
        reset_peak()
        sft = train_sft(some, config, folder / "sft", print_nothing)
        moments.append(time.perf_counter())
        train_dpo(some, sft, config, folder / "dpo", print_nothing)
        moments.append(time.perf_counter())
        forget()
        scorer = Scorer(config.base, {"sft": sft.path}, config.evaluation.batch_size)
        scorer.score([(record.label, record.language) for record in many], "sft")
        moments.append(time.perf_counter())
        seconds = [round(after - before, 1) for before, after in pairwise(moments)]
        figures.append(
            {
                "rows": count,
                "seconds": dict(zip(("sft", "dpo", "score"), seconds, strict=True)),
                "peak_memory_mib": peak_memory(),
            }
        )
        print(figures[-1], flush=True)
        forget()
    return figures


def reset_peak() -> None:
    """Forget the largest use of GPU memory so far."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int | None:
    """Return the largest use of GPU memory in MiB, or None on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else None


def forget() -> None:
    """Give memory back between contenders."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw what a step takes beside the losses that lie on one another."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.5), width_ratios=[1, 1.25], layout="constrained")
    for (bars, lines), stage in zip(axes, STAGES, strict=True):
        steps = results["steps"][stage]
        names = list(steps)
        values = [steps[name]["median_ms_per_step"] for name in names]
        bars.barh(names, values, color=[COLOURS[name] for name in names], height=0.65)
        bars.invert_yaxis()
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            times = steps[name]["times_as_fast_as_TRL"]
            text = f" {value:,.1f} ms" + (f", {times:g} times as fast" if times > 1.05 else "")
            inside = value > 0.6 * max(values)
            bars.text(value, place, text + " ", va="center", ha="right" if inside else "left", fontsize=9)
        bars.set_title(f"{stage.upper()}: one step of {results['batch_size'][stage]} rows", loc="left", fontsize=10)
        bars.set_xlabel("milliseconds")
        bars.spines[["top", "right"]].set_visible(False)
        losses = results["overlay"][stage]["losses"]
        lines.plot(losses["TRL"], color="#b0b7c3", linewidth=5, label="TRL", solid_capstyle="round")
        lines.plot(
            losses["TRL, rows reversed"], color="#d97706", linewidth=1.6, label="TRL, rows of each batch reversed"
        )
        lines.plot(losses["fused"], color="#123c69", linewidth=1.2, linestyle=(0, (4, 2)), label="fused")
        apart = results["overlay"][stage]["largest_difference_from_TRL"]
        lines.set_title(
            f"{stage.upper()}: loss; furthest from TRL: fused {apart['fused']:.1g}, "
            f"TRL reversed {apart['TRL, rows reversed']:.1g}",
            loc="left",
            fontsize=10,
        )
        lines.set_xlabel("step")
        lines.legend(fontsize=9, framealpha=0.9, edgecolor="none")
        lines.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=list(PROFILES), default="embedded")
    parser.add_argument("--base", help="a folder or hub id in place of the profile's")
    parser.add_argument("--shape-only", metavar="TOKENIZER", help="random weights of Qwen2.5-1.5B's shape")
    parser.add_argument("--records", type=Path, help="rows as JSON in place of the workbook's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25, help="of TRL's trainers, a round")
    parser.add_argument("--fused-steps", type=int, default=25)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["steps", "overlay"], help="what to measure")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[2, 8, 32, 64, 128, 256], help="for `growth`")
    parser.add_argument("--row-counts", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="for `rows`")
    parser.add_argument("--rows", type=int, default=2_000, help="for `whole`: rows of the recipe")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    quiet_libraries()
    config = PROFILES[flags.profile]()
    if flags.shape_only or flags.base:
        base = flags.base or random_base(flags.shape_only, Path(tempfile.mkdtemp()) / "base")
        config = apply_overrides(config, {"base.name": base})
    splits = split(read_records(flags.records, config), config.data)
    target = flags.out / f"training_{flags.profile}.json"
    results: dict[str, Any] = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    results |= {"what": description(config, flags), **environment()}
    results["batch_size"] = {stage: getattr(config, stage).per_device_train_batch_size for stage in STAGES}
    few = apply_overrides(config, {"sft.max_steps": 30, "sft.save_strategy": "no"})
    start = train_sft(splits, few, Path(tempfile.mkdtemp()), print_nothing).path
    ways = contenders(config)
    if "steps" in flags.parts:
        results["steps"] = {stage: time_steps(stage, ways, splits, start, flags) for stage in STAGES}
    if "overlay" in flags.parts:
        results["overlay"] = {stage: overlay(stage, ways, splits, start) for stage in STAGES}
    if "growth" in flags.parts:
        results["growth"] = growth(ways["fused"], splits, start, flags.batch_sizes)
    if "rows" in flags.parts:
        results["growth_with_rows"] = growth_with_rows(splits, flags.row_counts, config.base.name)
    if "whole" in flags.parts:
        some = Splits(splits.train[: flags.rows], splits.validation[: flags.rows // 10], splits.test)
        results["whole_recipe"] = whole_recipe(config, some)
    flags.out.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if {"steps", "overlay"} <= results.keys():
        draw(results, target.with_suffix(".png"))


def print_nothing(_: TrainingUpdate) -> None:
    """Take an update and leave it."""


def read_records(path: Path | None, config: RunConfig) -> list[Record]:
    """Return the rows to train on."""
    if path is not None:
        return [Record(**record) for record in json.loads(path.read_text(encoding="utf-8"))]
    from pii_finetune.validation import validate
    from pii_finetune.workbook import read_workbook

    return list(validate(read_workbook(config.data), None).require_valid().records)


def description(config: RunConfig, flags: Any) -> str:
    """Return in one line what was trained."""
    weights = "random weights of Qwen2.5-1.5B's shape" if flags.shape_only else config.base.name
    return f"profile {config.profile}, {weights}, {config.base.quantization}, {config.base.dtype}"


def environment() -> dict[str, Any]:
    """Return hardware and versions."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "hardware": gpu or f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "load_average": round(os.getloadavg()[0], 1),
        "packages": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }


if __name__ == "__main__":
    main()

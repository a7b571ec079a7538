"""What more GPUs bring: rows per second of the same step shared by 1, 2, ... processes, and that it is the same step.

    python -m benchmarks.several_gpus                                          # embedded profile on a CPU, over gloo
    python -m benchmarks.several_gpus --profile fast --shape-only TOKENIZER    # GPUs, weights of Qwen2.5-1.5B's shape
    python -m benchmarks.several_gpus --parts sharded --shape-only TOKENIZER --sizes 7B 14B    # SFT, then DPO from it

Every number of processes trains on the same rows in the same order with the same rows in a step. A step's time is that
between two log entries. Beside it, how far the losses are from those of one process, and how far those of one process
are from themselves when it takes its batch in two halves: sums of other order. Writes
benchmarks/results/several_gpus_PROFILE.json.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.random_base import SHAPES, random_base
from benchmarks.training import RESULTS, STAGES, environment, read_records, stage_settings
from pii_finetune.config import RunConfig
from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import PROFILES
from pii_finetune.quiet import quiet_libraries
from pii_finetune.sft import train_sft
from pii_finetune.splits import Splits, split
from pii_finetune.training import Adapter, TrainingUpdate

LOG_EVERY = 5


def train(stage: str, config: RunConfig, splits: Splits, start: Adapter | None, folder: Path) -> dict[str, Any]:
    """Train, and return what a step takes and the losses by step."""
    stamps: list[tuple[float, int]] = []

    def stamp(update: TrainingUpdate) -> None:
        if "loss" in update.metrics:
            stamps.append((time.perf_counter(), update.step))

    begun = time.perf_counter()
    if start is None:
        adapter = train_sft(splits, config, folder, stamp)
    else:
        adapter = train_dpo(splits, start, config, folder, stamp)
    # From half-way on: CUDA graphs of all shapes are recorded by then.
    steps = [(later - earlier) / (to - since) for (earlier, since), (later, to) in pairwise(stamps[len(stamps) // 2 :])]
    section = getattr(config, stage)
    rows = section.per_device_train_batch_size * section.gradient_accumulation_steps
    return {
        "milliseconds_per_step": round(1e3 * statistics.median(steps), 2),
        "rows_per_second": round(rows / statistics.median(steps), 1),
        "seconds_until_first_step": round(stamps[0][0] - begun, 1),
        "first_logged_step": stamps[0][1],
        "losses": [loss for _, loss in adapter.curves["loss"]],
        "adapter": adapter,
    }


def speed(results: dict[str, Any], config: RunConfig, splits: Splits, start: Adapter, flags: Any) -> Iterator[None]:
    """Add for each stage and trainer what each number of processes takes, and how far its losses are from one's."""
    processes, steps = flags.processes, flags.steps
    for stage in flags.stages:
        few = Splits(splits.train, splits.validation[:64], ())
        size = getattr(config, stage).per_device_train_batch_size
        for trainer in flags.trainers:
            settings = {"max_steps": steps, "save_strategy": "no", "eval_steps": 1_000_000, "logging_steps": LOG_EVERY}
            ways = {str(number): {"runtime.num_processes": number} for number in processes}
            halves = {"per_device_train_batch_size": size // 2, "gradient_accumulation_steps": 2}
            ways["1, in halves"] = {"runtime.num_processes": 1, **stage_settings(halves)}
            larger = {"per_device_train_batch_size": size * processes[-1]}
            ways["a whole batch each"] = {"runtime.num_processes": processes[-1], **stage_settings(larger)}
            found: dict[str, Any] = {}
            for name, way in ways.items():
                if flags.ways and name not in flags.ways:
                    continue
                recipe = apply_overrides(config, {"trainer": trainer, **stage_settings(settings), **way})
                with tempfile.TemporaryDirectory() as folder:
                    found[name] = train(stage, recipe, few, start if stage == "dpo" else None, Path(folder))
                found[name].pop("adapter")
                print(stage, trainer, name, {k: v for k, v in found[name].items() if k != "losses"}, flush=True)
            alone = found[str(processes[0])]
            for name, each in found.items():
                times = each["rows_per_second"] / alone["rows_per_second"]
                each["times_as_fast"] = round(times, 2)
                if name != "1, in halves":
                    each["efficiency"] = round(times / (int(name) if name.isdigit() else processes[-1]), 2)
                if name == "a whole batch each":
                    continue  # other steps, other losses
                apart = [abs(one - other) for one, other in zip(alone["losses"], each["losses"], strict=True)]
                each["largest_loss_difference"] = float(f"{max(apart):.2g}")
                each["root_mean_square_loss_difference"] = float(f"{statistics.fmean(d * d for d in apart) ** 0.5:.2g}")
            results.setdefault(stage, {}).setdefault(trainer, {}).update(found)
            yield


def sharded(results: dict[str, Any], size: str, splits: Splits, flags: Any) -> Iterator[None]:
    """Add for each stage what a base of that size takes that is shared out between the GPUs; DPO goes on from SFT."""
    processes, steps = flags.processes[-1], flags.sharded_steps
    settings = {
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 16,
        "optim": "adamw_torch_fused",
        "save_strategy": "steps",
        "save_steps": steps // 2,
        "eval_steps": 1_000_000,
        "logging_steps": 1,
        "max_steps": steps,
    }
    with tempfile.TemporaryDirectory() as folder:
        config = apply_overrides(
            PROFILES["seed"](),
            {
                "base.name": random_base(flags.shape_only, Path(folder) / "base", size),
                "trainer": "trl",
                "runtime.num_processes": processes,
                "runtime.sharding": "fsdp2" if processes > 1 else "none",
                **stage_settings(settings),
            },
        )
        few = Splits(splits.train[: 16 * steps], splits.validation[:32], ())
        start = None
        for stage in STAGES[: 1 + max(map(STAGES.index, flags.stages))]:
            results[stage] = stopped_and_gone_on(stage, config, few, start, Path(folder) / stage)
            start = results[stage].pop("adapter")
            print("sharded", size, stage, results[stage], flush=True)
            yield


def stopped_and_gone_on(
    stage: str, config: RunConfig, splits: Splits, start: Adapter | None, folder: Path
) -> dict[str, Any]:
    """Train, then once more from the checkpoint half-way; return memory, times and how far the two are apart."""
    with fullest_gpu() as used:
        found = train(stage, config, splits, start, folder)
    found["mib_on_the_fullest_gpu"] = max(used)
    found["adapter_bytes"] = sum(path.stat().st_size for path in found["adapter"].path.iterdir())
    newest = folder / f"checkpoints/checkpoint-{getattr(config, stage).max_steps}"
    newest.rename(newest.with_name("put-away"))
    resumed = train(stage, config, splits, start, folder)
    found["first_logged_step_after_resume"] = resumed["first_logged_step"]
    found["resumed_losses_apart"] = max(
        abs(one - other) for one, other in zip(found["losses"], resumed["losses"], strict=True)
    )
    return found


@contextmanager
def fullest_gpu() -> Iterator[list[int]]:
    """Collect, from within, how many MiB are in use on the GPU of which most is, twice a second."""
    import pynvml

    pynvml.nvmlInit()
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    used, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            used.append(round(max(int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in gpus) / 2**20))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield used
    finally:
        ended.set()
        watcher.join()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=list(PROFILES), default="embedded")
    parser.add_argument("--shape-only", metavar="TOKENIZER", help="random weights of Qwen2.5's shape")
    parser.add_argument("--records", type=Path, help="rows as JSON in place of the workbook's")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--ways", nargs="+", help="of `speed`, by their names in the results; all by default")
    parser.add_argument("--trainers", nargs="+", default=["fused", "trl"])
    parser.add_argument("--steps", type=int, default=200, help="of `speed`: several epochs, as a recipe has")
    parser.add_argument("--sharded-steps", type=int, default=50)
    parser.add_argument("--parts", nargs="+", choices=("speed", "sharded"), default=["speed"])
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=["7B"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    quiet_libraries()
    config = PROFILES[flags.profile]()
    if flags.shape_only and "speed" in flags.parts:
        base = random_base(flags.shape_only, Path(tempfile.mkdtemp()) / "base")
        config = apply_overrides(config, {"base.name": base})
    splits = split(read_records(flags.records, config), config.data)
    target = flags.out / f"several_gpus_{flags.profile}.json"
    results: dict[str, Any] = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    results |= environment()
    flags.out.mkdir(parents=True, exist_ok=True)
    for _ in parts(results, config, splits, flags):  # what was measured is kept when what follows fails
        target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parts(results: dict[str, Any], config: RunConfig, splits: Splits, flags: Any) -> Iterator[None]:
    """Add to the results what was asked for, one measurement after the other."""
    if "speed" in flags.parts:
        few = apply_overrides(config, {"sft.max_steps": 20, "sft.save_strategy": "no", "sft.eval_steps": 1_000_000})
        start = train_sft(splits, few, Path(tempfile.mkdtemp()), lambda _: None)
        yield from speed(results.setdefault("speed", {}), config, splits, start, flags)
    if "sharded" in flags.parts:
        for size in flags.sizes:
            yield from sharded(results.setdefault("sharded", {}).setdefault(size, {}), size, splits, flags)


if __name__ == "__main__":
    main()

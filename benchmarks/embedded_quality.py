"""What the embedded profile reaches, over seeds: original, SFT and DPO on the test split and on unseen concepts.

    python -m benchmarks.embedded_quality --seeds 11 12 13

Each seed splits the workbook anew and initialises LoRA anew. Writes benchmarks/results/embedded_quality.json.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pii_finetune.config import RunConfig
from pii_finetune.dpo import train_dpo
from pii_finetune.evaluation import evaluate
from pii_finetune.overrides import apply_overrides, parse_assignments
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

RESULTS = Path(__file__).parent / "results" / "embedded_quality.json"


def measure_seed(config: RunConfig, records: Sequence[Record], unseen: Sequence[Record]) -> dict[str, Any]:
    """Train and evaluate once."""
    splits = split(records, config.data)
    with tempfile.TemporaryDirectory() as folder:
        sft = train_sft(splits, config, Path(folder) / "sft", lambda _: None)
        dpo = train_dpo(splits, sft, config, Path(folder) / "dpo", lambda _: None)
        scorer = Scorer(config.base, {"sft": sft.path, "dpo": dpo.path}, config.evaluation.batch_size)
        started = time.monotonic()
        models = {
            name: partial(scorer.score, adapter=adapter)
            for name, adapter in (("original", None), ("sft", "sft"), ("dpo", "dpo"))
        }
        report = evaluate(models, splits.test, unseen, lambda _: None)
    seconds = {"sft": sft.seconds, "dpo": dpo.seconds, "evaluate": time.monotonic() - started}
    return {
        "seed": config.seed,
        "num_train": len(splits.train),
        "num_test": len(splits.test),
        "num_unseen": len(unseen),
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "models": report.summary_rows(),
        "sft_f1_by_language": {language: round(m.f1, 3) for language, m in report.by_language["sft"].items()},
    }


def main() -> None:
    """Measure all seeds, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="PATH=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    overrides = parse_assignments(flags.assignments)
    config = apply_overrides(embedded(), overrides)
    records = validate(read_workbook(config.data), None).require_valid().records
    unseen_config = config.data.model_copy(update={"workbook": config.data.unseen})
    unseen = validate(read_workbook(unseen_config), None).require_valid().records
    runs = []
    for seed in flags.seeds:
        runs.append(measure_seed(apply_overrides(config, {"seed": seed, "data.seed": seed}), records, unseen))
        print(json.dumps(runs[-1], ensure_ascii=False), flush=True)
    means = {
        name: {
            key: round(statistics.mean(run["models"][at][key] for run in runs), 4)
            for key in ("f1", "accuracy", "format_validity", "unseen_accuracy")
        }
        for at, name in enumerate(("original", "sft", "dpo"))
    }
    print(json.dumps(means, indent=2))
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    hardware = {"machine": platform.machine(), "device": config.base.device}
    flags.out.write_text(
        json.dumps(
            {"means": means, "runs": runs, "overrides": overrides, "packages": packages, "hardware": hardware}, indent=2
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()

"""Whether `fast` learns as well as `seed`: both recipes on the embedded base, on a GPU, over seeds.

    python -m benchmarks.fast_quality --seeds 11 12 13

Both start from the learning rate of `seed` times --times: what suits 1.5 billion parameters is little for 5 million.
Writes benchmarks/results/fast_quality.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sklearn.metrics import f1_score

from benchmarks.training import RESULTS, environment, print_nothing, read_records
from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import PROFILES
from pii_finetune.quiet import quiet_libraries
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import split


def main() -> None:
    """Train both recipes on each split, print and write F1 on the test side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--times", type=float, nargs="+", default=[5.0])
    parser.add_argument("--records", type=Path, help="rows as JSON in place of the workbook's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    quiet_libraries()
    runs: list[dict[str, Any]] = []
    for times in flags.times:
        for seed in flags.seeds:
            for profile in ("seed", "fast"):
                recipe = PROFILES[profile]()
                changes: dict[str, Any] = {"base.name": "data/embedded-base", "seed": seed, "data.seed": seed}
                for stage in ("sft", "dpo"):
                    changes[f"{stage}.save_strategy"] = "no"
                    changes[f"{stage}.learning_rate"] = getattr(recipe, stage).learning_rate * times
                    changes[f"{stage}.eval_steps"] = 1_000_000
                    changes[f"{stage}.optim"] = "adamw_torch"  # its small matrices would be kept in 32 bits anyway
                config = apply_overrides(recipe, changes)
                splits = split(read_records(flags.records, config), config.data)
                folder, begun = Path(tempfile.mkdtemp()), time.perf_counter()
                sft = train_sft(splits, config, folder / "sft", print_nothing)
                dpo = train_dpo(splits, sft, config, folder / "dpo", print_nothing)
                scorer = Scorer(config.base, {"sft": sft.path, "dpo": dpo.path}, config.evaluation.batch_size)
                questions = [(record.label, record.language) for record in splits.test]
                truth = [record.sensitive for record in splits.test]
                f1 = {
                    name: round(float(f1_score(truth, scorer.score(questions, name).answers)), 4)
                    for name in ("sft", "dpo")
                }
                runs.append(
                    {
                        "profile": profile,
                        "seed": seed,
                        "times": times,
                        "f1": f1,
                        "seconds": round(time.perf_counter() - begun, 1),
                    }
                )
                print(runs[-1], flush=True)
    means = {
        f"{profile}, learning rate x {times:g}": {
            stage: round(
                statistics.mean(r["f1"][stage] for r in runs if (r["profile"], r["times"]) == (profile, times)), 4
            )
            for stage in ("sft", "dpo")
        }
        for times in flags.times
        for profile in ("seed", "fast")
    }
    print(json.dumps(means, indent=1))
    text = json.dumps({**environment(), "mean_f1": means, "runs": runs}, indent=1)
    (flags.out / "fast_quality.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

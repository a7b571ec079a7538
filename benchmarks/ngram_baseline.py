"""What models that know no language reach on the rows and splits of embedded_quality.py.

    python -m benchmarks.ngram_baseline

`ngram`: TF-IDF of character n-grams and logistic regression, fitted to the training side. `rules`: regular expressions
on English column names, fitted to nothing; hence the English rows apart. Writes benchmarks/results/ngram_baseline.json.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pii_finetune.baselines import fit_ngram_baseline
from pii_finetune.metrics import compute_metrics
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.rule_baseline import answer_by_rules
from pii_finetune.scores import Scores
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

RESULTS = Path(__file__).parent / "results" / "ngram_baseline.json"
SEEDS = (11, 12, 13)  # of the split, as in embedded_quality.py


def main() -> None:
    """Fit and score on each split, print and write the figures."""
    config = embedded()
    records = validate(read_workbook(config.data), None).require_valid().records
    unseen_config = config.data.model_copy(update={"workbook": config.data.unseen})
    unseen = validate(read_workbook(unseen_config), None).require_valid().records
    runs: list[dict[str, Any]] = []
    for seed in SEEDS:
        splits = split(records, config.data.model_copy(update={"seed": seed}))
        started = time.monotonic()
        ngram = fit_ngram_baseline(splits.train, seed)
        seconds = round(time.monotonic() - started, 1)
        chosen = {"ngram_range": ngram.ngram_range, "c": ngram.c, "num_train": ngram.num_rows, "seconds": seconds}
        sides = {
            "test": splits.test,
            "test_english": [r for r in splits.test if r.language == "English"],
            "unseen": unseen,
            "unseen_english": [r for r in unseen if r.language == "English"],
        }
        figures = {
            name: {side: _measure(rows, model([(r.label, r.language) for r in rows])) for side, rows in sides.items()}
            for name, model in (("ngram", ngram), ("rules", answer_by_rules))
        }
        runs.append({"seed": seed, "ngram_chosen": chosen, **figures})
    means = {
        name: {side: _mean([run[name][side] for run in runs]) for side in runs[0][name]} for name in ("ngram", "rules")
    }
    text = json.dumps({"means": means, "runs": runs, "packages": {"scikit-learn": version("scikit-learn")}}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def _measure(rows: Sequence[Record], scores: Scores) -> dict[str, float]:
    metrics = compute_metrics([r.sensitive for r in rows], scores.probability, scores.valid, scores.answers)
    return {name: round(value, 4) for name, value in metrics.as_dict().items()}


def _mean(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.mean(run[name] for run in runs), 4) for name in runs[0]}


if __name__ == "__main__":
    main()

"""What a character n-gram classifier reaches on the rows and splits of embedded_quality.py.

    python -m benchmarks.ngram_baseline

TF-IDF of the folded labels' character n-grams and logistic regression. Writes benchmarks/results/ngram_baseline.json.
"""

import json
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

from pii_finetune.labels import fold_label
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
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
    runs = []
    for seed in SEEDS:
        splits = split(records, config.data.model_copy(update={"seed": seed}))
        model = make_pipeline(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True, preprocessor=fold_label),
            LogisticRegression(C=30, max_iter=2000),
        )
        model.fit(_labels(splits.train), _answers(splits.train))
        runs.append(
            {
                "seed": seed,
                "num_train": len(splits.train),
                "test_f1": round(float(f1_score(_answers(splits.test), model.predict(_labels(splits.test)))), 4),
                "unseen_accuracy": round(float(accuracy_score(_answers(unseen), model.predict(_labels(unseen)))), 4),
            }
        )
    means = {key: round(statistics.mean(run[key] for run in runs), 4) for key in ("test_f1", "unseen_accuracy")}
    text = json.dumps({"means": means, "runs": runs, "packages": {"scikit-learn": version("scikit-learn")}}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def _labels(records: Sequence[Record]) -> list[str]:
    return [record.label for record in records]


def _answers(records: Sequence[Record]) -> list[bool]:
    return [record.sensitive for record in records]


if __name__ == "__main__":
    main()

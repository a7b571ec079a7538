"""Original, SFT, DPO and the model in production, side by side on the same rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pii_finetune.metrics import Metrics, compute_metrics
from pii_finetune.records import Record
from pii_finetune.scoring import Question, Scores

Model = Callable[[Sequence[Question]], Scores]


@dataclass(frozen=True)
class EvaluationReport:
    """Figures per model, by the model's name in the order given, and every prediction behind them."""

    test: Mapping[str, Metrics]
    unseen: Mapping[str, Metrics]  # empty if no unseen concepts were given
    by_language: Mapping[str, Mapping[str, Metrics]]  # model -> language -> metrics, on the test split
    predictions: (
        pd.DataFrame
    )  # one line a row of `slice` test or unseen: expected, and probability, answer, valid of each model

    def summary_rows(self) -> list[dict[str, str | float]]:
        """Return the table people look at first: a line a model."""
        return [
            {
                "model": name,
                **{k: round(v, 4) for k, v in metrics.as_dict().items() if k != "num_rows"},
                **({"unseen_accuracy": round(self.unseen[name].accuracy, 4)} if self.unseen else {}),
            }
            for name, metrics in self.test.items()
        ]


def evaluate(
    models: Mapping[str, Model], test: Sequence[Record], unseen: Sequence[Record], on_progress: Callable[[float], None]
) -> EvaluationReport:
    """Ask every model about every row; `on_progress` gets the share that is done, in [0, 1]."""
    rows = [*test, *unseen]
    questions: list[Question] = [(r.label, r.language) for r in rows]
    predictions = pd.DataFrame(
        {
            "slice": ["test"] * len(test) + ["unseen"] * len(unseen),
            "row": [r.row for r in rows],
            "label": [r.label for r in rows],
            "language": [r.language for r in rows],
            "expected": [r.answer for r in rows],
        }
    )
    for number, (name, model) in enumerate(models.items(), start=1):
        scores = model(questions)
        predictions[f"{name}_probability"] = scores.probability
        predictions[f"{name}_answer"] = np.where(scores.answers, "yes", "no")
        predictions[f"{name}_valid"] = scores.valid
        on_progress(number / len(models))
    tested = predictions.loc[predictions["slice"] == "test"]
    beyond = predictions.loc[predictions["slice"] == "unseen"]
    return EvaluationReport(
        test={name: _measure(tested, name) for name in models},
        unseen={name: _measure(beyond, name) for name in models} if unseen else {},
        by_language={
            name: {str(language): _measure(part, name) for language, part in tested.groupby("language")}
            for name in models
        },
        predictions=predictions,
    )


def _measure(rows: pd.DataFrame, name: str) -> Metrics:
    return compute_metrics(
        (rows["expected"] == "yes").to_numpy(),
        (rows[f"{name}_answer"] == "yes").to_numpy(),
        rows[f"{name}_valid"].to_numpy(),
    )

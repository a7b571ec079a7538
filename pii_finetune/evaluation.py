"""Models side by side on the same rows: original, SFT, DPO, the model in production, and the baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import logit

from pii_finetune.calibration import IDENTITY, Calibration
from pii_finetune.gate import Evidence
from pii_finetune.intervals import Interval, bootstrap_intervals
from pii_finetune.metrics import Metrics, compute_metrics
from pii_finetune.records import Record
from pii_finetune.robustness import FlipRate, flip_rates
from pii_finetune.row_place import Place
from pii_finetune.scores import Question, Scores
from pii_finetune.splits import number_groups

Model = Callable[[Sequence[Question]], Scores]
_MAX_PERTURBED = 300  # test rows whose labels are also written in other ways: enough to tell 1 % from 3 %


@dataclass(frozen=True)
class EvaluationReport:
    """Figures per model, by the model's name in the order given, and every prediction behind them."""

    test: Mapping[str, Metrics]
    intervals: Mapping[str, Mapping[str, Interval]]  # model -> figure -> where it lies, on the test split
    unseen: Mapping[str, Metrics]  # empty if no unseen concepts were given
    by_language: Mapping[str, Mapping[str, Metrics]]  # model -> language -> metrics, on the test split
    by_category: Mapping[str, Mapping[str, Metrics]]  # as by_language; empty if the workbook names no categories
    flips: Mapping[str, Mapping[str, FlipRate]]  # model -> kind of cosmetic change -> how often the answer changes
    predictions: (
        pd.DataFrame
    )  # one line a row of `slice` test or unseen: expected, group; margin, probability, answer, valid of each model

    def summary_rows(self) -> list[dict[str, str | float]]:
        """Return the table people look at first: a line a model."""
        shown = ("accuracy", "precision", "recall", "f1", "auroc", "ece", "format_validity")
        return [
            {
                "model": name,
                **{key: round(getattr(metrics, key), 4) for key in shown},
                **({"unseen_accuracy": round(self.unseen[name].accuracy, 4)} if self.unseen else {}),
            }
            for name, metrics in self.test.items()
        ]

    def evidence(self, name: str) -> Evidence:
        """Return what the gate needs of one model."""
        rows = self.predictions.loc[self.predictions["slice"] == "test"]
        return Evidence(
            metrics=self.test[name],
            expected=np.asarray(rows["expected"] == "yes"),
            answered=np.asarray(rows[f"{name}_answer"] == "yes"),
            groups=np.asarray(rows["group"]),
            by_language=self.by_language[name],
        )


def evaluate(
    models: Mapping[str, Model],
    test: Sequence[Record],
    unseen: Sequence[Record],
    on_progress: Callable[[float], None],
    calibrations: Mapping[str, Calibration] | None = None,
    perturbed: Sequence[str] = (),
    seed: int = 0,
) -> EvaluationReport:
    """Ask every model about every row.

    Args:
        models: by name, in the order they are shown.
        test: rows of the test split.
        unseen: rows of concepts outside the workbook.
        on_progress: gets the share that is done, in [0, 1].
        calibrations: by model, what makes probabilities of its margins; without one, margins are log-odds.
        perturbed: the models that are also asked about labels written in other ways.
        seed: of the bootstrap, and of the ways of writing.
    """
    rows = [*test, *unseen]
    questions: list[Question] = [(r.label, r.language) for r in rows]
    predictions = pd.DataFrame(
        {
            "slice": ["test"] * len(test) + ["unseen"] * len(unseen),
            "row": _places(rows),
            "label": [r.label for r in rows],
            "language": [r.language for r in rows],
            "category": [r.category for r in rows],
            "expected": [r.answer for r in rows],
            "group": number_groups([r.label for r in rows]),
        }
    )
    sample = _sample(test, seed)
    flips: dict[str, Mapping[str, FlipRate]] = {}
    for number, (name, model) in enumerate(models.items(), start=1):
        calibration = (calibrations or {}).get(name, IDENTITY)
        scores = model(questions)
        probability = calibration.probability(scores.margin)
        predictions[f"{name}_margin"] = scores.margin
        predictions[f"{name}_probability"] = probability
        predictions[f"{name}_answer"] = np.where(probability >= 0.5, "yes", "no")
        predictions[f"{name}_valid"] = scores.valid
        if name in perturbed:
            flips[name] = flip_rates(partial(_ask_calibrated, model, calibration), sample, seed)
        on_progress(number / len(models))
    tested = predictions.loc[predictions["slice"] == "test"]
    beyond = predictions.loc[predictions["slice"] == "unseen"]
    named = tested.loc[tested["category"] != ""]
    return EvaluationReport(
        test={name: _measure(tested, name) for name in models},
        intervals={name: _intervals(tested, name, seed) for name in models},
        unseen={name: _measure(beyond, name) for name in models} if unseen else {},
        by_language={name: _measure_parts(tested, name, "language") for name in models},
        by_category={name: _measure_parts(named, name, "category") for name in models} if len(named) else {},
        flips=flips,
        predictions=predictions,
    )


def _ask_calibrated(model: Model, calibration: Calibration, questions: Sequence[Question]) -> Scores:
    scores = model(questions)
    return Scores(logit(calibration.probability(scores.margin)), scores.valid)


def _sample(records: Sequence[Record], seed: int) -> list[Record]:
    chosen = np.random.default_rng(seed).permutation(len(records))[:_MAX_PERTURBED]
    return [records[at] for at in sorted(chosen)]


def _places(rows: Sequence[Record]) -> list[Place]:
    """Return where rows stand; a column of a table holds numbers or texts, not both."""
    places = [r.row for r in rows]
    return [str(place) for place in places] if any(isinstance(place, str) for place in places) else places


def _measure_parts(rows: pd.DataFrame, name: str, column: str) -> dict[str, Metrics]:
    return {str(value): _measure(part, name) for value, part in rows.groupby(column)}


def _measure(rows: pd.DataFrame, name: str) -> Metrics:
    return compute_metrics(
        (rows["expected"] == "yes").to_numpy(),
        rows[f"{name}_probability"].to_numpy(),
        rows[f"{name}_valid"].to_numpy(),
        (rows[f"{name}_answer"] == "yes").to_numpy(),
    )


def _intervals(rows: pd.DataFrame, name: str, seed: int) -> dict[str, Interval]:
    expected, probability = (rows["expected"] == "yes").to_numpy(), rows[f"{name}_probability"].to_numpy()
    return bootstrap_intervals(expected, probability, rows["group"].to_numpy(), seed)

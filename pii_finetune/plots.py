"""Pictures of an evaluation and of a training."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pii_finetune.evaluation import EvaluationReport
from pii_finetune.metrics import Metrics, count_confusion

mpl.use("Agg")

# Okabe and Ito's palette: told apart by colour-blind readers too. One colour a model, in every picture.
COLOURS = {
    "original": "#9AA0A6",
    "sft": "#0072B2",
    "dpo": "#009E73",
    "production": "#D55E00",
    "n-grams": "#CC79A7",
    "rules": "#E69F00",
}
NAMES = {
    "original": "Original",
    "sft": "SFT",
    "dpo": "DPO",
    "production": "Production before",
    "n-grams": "Baseline: n-grams",
    "rules": "Baseline: rules",
}
_GRID = "#E3E5E8"


def plot_models(test: Mapping[str, Metrics]) -> Figure:
    """Bars of accuracy, precision, recall and F1, a group a figure of merit, a bar a model."""
    figures = ("accuracy", "precision", "recall", "f1")
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(test)
    for at, (name, metrics) in enumerate(test.items()):
        values = [getattr(metrics, each) for each in figures]
        places = np.arange(len(figures)) + (at - (len(test) - 1) / 2) * width
        bars = axes.bar(places, values, width * 0.94, color=COLOURS[name], label=NAMES[name])
        axes.bar_label(bars, fmt="%.3f", padding=2, fontsize=8.5)
    axes.set_xticks(range(len(figures)), ["Accuracy", "Precision", "Recall", "F1"], fontsize=11)
    axes.set_ylim(0, 1.08)
    axes.set_yticks(np.linspace(0, 1, 6))
    num_rows = next(iter(test.values())).num_rows
    axes.set_title(f"Test split: {num_rows:,} labels, in no form seen in training", loc="left", fontsize=11.5)
    axes.legend(ncols=len(test), frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.09))
    tidy(axes)
    return figure


def plot_confusion(report: EvaluationReport) -> Figure:
    """A confusion matrix a model, side by side, on the test split."""
    rows = report.predictions[report.predictions["slice"] == "test"]
    figure = Figure(figsize=(3.1 * len(report.test) + 0.4, 3.5), layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(1, len(report.test), sharey=True))
    for axes, name in zip(all_axes, report.test, strict=True):
        counts = count_confusion((rows["expected"] == "yes").to_numpy(), (rows[f"{name}_answer"] == "yes").to_numpy())
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for right in range(2):
            for said in range(2):
                text = f"{counts[right, said]:,}\n{shares[right, said]:.1%}"
                axes.text(
                    said, right, text, ha="center", va="center", color="white" if shares[right, said] > 0.5 else "black"
                )
        axes.set_title(NAMES[name], fontsize=11)
        axes.set_xticks([0, 1], ["says no", "says yes"])
        axes.set_yticks([0, 1], ["is no", "is yes"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def plot_languages(report: EvaluationReport) -> Figure:
    """F1 on the test split, a line a language, a dot a model."""
    languages = sorted(next(iter(report.by_language.values())), reverse=True)
    figure = Figure(figsize=(8, 1.3 + 0.42 * len(languages)), layout="constrained")
    axes = figure.subplots()
    for at, (name, metrics) in enumerate(report.by_language.items()):
        values = [metrics[language].f1 for language in languages]
        heights = np.arange(len(languages)) - (at - (len(report.by_language) - 1) / 2) * 0.16  # none hides another
        axes.scatter(values, heights, s=44, color=COLOURS[name], label=NAMES[name], zorder=3)
    axes.set_yticks(range(len(languages)), languages)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("F1")
    axes.set_title("F1 by language", loc="left", fontsize=11.5)
    axes.legend(ncols=len(report.by_language), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06))
    tidy(axes, along="x")
    return figure


def plot_training(stage: str, train: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]]) -> Figure:
    """Training and validation loss over steps: points (step, loss)."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    if train:
        axes.plot(*zip(*train, strict=True), color=COLOURS[stage], linewidth=1.6, label="training")
    if validation:
        axes.plot(
            *zip(*validation, strict=True), color="black", marker="o", markersize=4, linewidth=1.2, label="validation"
        )
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{NAMES[stage]} loss", loc="left", fontsize=11.5)
    axes.legend(frameon=False)
    tidy(axes)
    return figure


def tidy(axes: Axes, along: str = "y") -> None:
    """Leave only the grid lines along which values are read."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y" if along == "y" else "x", color=_GRID, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)

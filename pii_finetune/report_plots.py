"""Pictures of the report on a run, as SVG text that stands in a page by itself."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pii_finetune.evaluation import EvaluationReport
from pii_finetune.metrics import Metrics, reliability_curve
from pii_finetune.plots import COLOURS, NAMES, tidy

_SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pii-finetune", "font.family": "sans-serif"}


def svg_of(figure: Figure, label: str) -> str:
    """Return the figure as an <svg> element whose text stays text; `label` is what a screen reader says of it."""
    stream = io.StringIO()
    with mpl.rc_context(_SVG):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def plot_intervals(report: EvaluationReport) -> Figure:
    """F1, precision and recall of every model as dots with their 95 % intervals, a panel a figure."""
    figures = {"f1": "F1", "recall": "sensitive ones found (recall)", "precision": "alarms that are right (precision)"}
    names = list(report.test)[::-1]
    figure = Figure(figsize=(10, 1.1 + 0.38 * len(names)), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), figures.items(), strict=True):
        for at, name in enumerate(names):
            value, interval = getattr(report.test[name], key), report.intervals[name][key]
            axes.plot([interval.low, interval.high], [at, at], color=COLOURS[name], linewidth=3, alpha=0.45)
            axes.plot(value, at, "o", color=COLOURS[name], markersize=7)
            axes.annotate(f"{value:.3f}", (value, at), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
        axes.set_xlim(0, 1.04)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axes.set_ylim(-0.5, len(names) - 0.3)
        axes.set_title(title, loc="left", fontsize=10)
        tidy(axes, along="x")
    return figure


def plot_parts(parts: Mapping[str, Mapping[str, Metrics]], names: list[str], figure_of_merit: str) -> Figure:
    """One figure of merit of the named models for each part (language, category) of the test split, with its rows."""
    counted = {part: metrics.num_rows for part, metrics in parts[names[0]].items()}
    ordered = sorted(counted, key=lambda part: getattr(parts[names[0]][part], figure_of_merit), reverse=True)
    figure = Figure(figsize=(8, 0.9 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    for at, name in enumerate(names):
        values = [getattr(parts[name][part], figure_of_merit) for part in ordered]
        heights = np.arange(len(ordered)) + (at - (len(names) - 1) / 2) * 0.22
        axes.scatter(values, heights, s=38, color=COLOURS[name], label=NAMES[name], zorder=3)
    axes.set_yticks(range(len(ordered)), [f"{part} ({counted[part]:,})" for part in ordered])
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel({"f1": "F1", "accuracy": "share of right answers"}[figure_of_merit])
    if len(names) > 1:
        axes.legend(ncols=len(names), frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    tidy(axes, along="x")
    return figure


def plot_reliability(expected: np.ndarray, before: np.ndarray, after: np.ndarray) -> Figure:
    """What was said beside what is right, before and after calibration: on the diagonal it is the same.

    Args:
        expected: (N,) bool: sensitive.
        before: (N,) P(yes) as the model says it.
        after: (N,) P(yes) calibrated.
    """
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    curves, counts = figure.subplots(1, 2, width_ratios=(1, 1.1))
    curves.plot([0, 1], [0, 1], color="#9AA0A6", linewidth=1, linestyle="--")
    for probability, name, colour in (
        (before, "as the model says it", "#9AA0A6"),
        (after, "calibrated", COLOURS["dpo"]),
    ):
        curve = reliability_curve(expected, probability)
        curves.plot(curve.predicted, curve.observed, "o-", color=colour, markersize=4, linewidth=1.4, label=name)
        counts.hist(probability, bins=np.linspace(0, 1, 21), histtype="step", color=colour, linewidth=1.6, label=name)
    curves.set_xlabel("said: probability of being sensitive")
    curves.set_ylabel("are sensitive")
    curves.legend(frameon=False, loc="upper left", fontsize=9)
    counts.set_xlabel("said: probability of being sensitive")
    counts.set_ylabel("labels")
    for axes in (curves, counts):
        tidy(axes)
    return figure

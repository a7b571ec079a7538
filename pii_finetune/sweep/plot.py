"""The picture of a sweep: how every trial's F1 went."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pii_finetune.plots import COLOURS, tidy
from pii_finetune.sweep.study import TrialRow
from pii_finetune.validation_f1 import NUM_CHECKS

_LABEL_HEIGHT = 0.035  # of the axes; lines that end nearer to each other share a label
_STYLES = {
    "done": {"color": COLOURS["sft"], "alpha": 0.75},
    "stopped early": {"color": COLOURS["original"], "alpha": 0.9},
    "best": {"color": COLOURS["production"], "linewidth": 2.6, "zorder": 4},
}


def plot_sweep(rows: Sequence[TrialRow], best: TrialRow | None, title: str) -> Figure:
    """F1 on the validation split by quarters of SFT, then of DPO: a line a trial, the best one in its own colour."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    shown: set[str] = set()
    ends: list[tuple[int, float, int]] = []  # where a line ends, and of which trial it is
    for row in rows:
        points = dict(row.checks) | ({2 * NUM_CHECKS: row.f1} if row.state == "done" and row.f1 is not None else {})
        kind = "best" if best is not None and row.number == best.number else row.state
        if not points or kind not in _STYLES:
            continue
        label = f"best: trial {row.number}" if kind == "best" else kind
        (line,) = axes.plot(
            list(points), list(points.values()), marker="o", markersize=4, label=None if kind in shown else label
        )
        line.set(**_STYLES[kind])
        shown.add(kind)
        ends.append((max(points), points[max(points)], row.number))
    low, high = axes.get_ylim()
    for at, f1, numbers in _labels(ends, (high - low) * _LABEL_HEIGHT):
        axes.annotate(numbers, (at, f1), (6, 0), textcoords="offset points", va="center", fontsize=8, color="#5F6368")
    names = [f"{stage} {part}/{NUM_CHECKS}" for stage in ("SFT", "DPO") for part in range(1, NUM_CHECKS + 1)]
    axes.set_xticks(range(1, 2 * NUM_CHECKS + 1), names)
    axes.set_xlim(0.7, 2 * NUM_CHECKS + 0.5)
    axes.axvline(NUM_CHECKS + 0.5, color="#9AA0A6", linewidth=0.8, linestyle=":")
    axes.set_title(title, loc="left", fontsize=11.5)
    axes.set_ylabel("F1 on the validation split")
    if shown:
        axes.legend(frameon=False, ncols=len(shown), loc="upper center", bbox_to_anchor=(0.5, -0.09))
    tidy(axes)
    return figure


def _labels(ends: Sequence[tuple[int, float, int]], height: float) -> list[tuple[int, float, str]]:
    """Return labels by place and height, with the numbers of all that end there, from the highest down."""
    labels: list[list[tuple[int, float, int]]] = []
    for end in sorted(ends, key=lambda each: (each[0], -each[1])):
        if labels and labels[-1][0][0] == end[0] and labels[-1][-1][1] - end[1] < height:
            labels[-1].append(end)
        else:
            labels.append([end])
    return [
        (each[0][0], sum(f1 for _, f1, _ in each) / len(each), ", ".join(str(number) for *_, number in each))
        for each in labels
    ]

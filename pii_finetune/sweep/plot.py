"""The picture of a sweep: how every trial's F1 went."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pii_finetune.plots import COLOURS, tidy
from pii_finetune.sweep.study import TrialRow
from pii_finetune.validation_f1 import NUM_CHECKS

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
        last = max(points)
        axes.annotate(
            str(row.number),
            (last, points[last]),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=line.get_color(),
        )
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

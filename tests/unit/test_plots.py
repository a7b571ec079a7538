import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from pii_finetune.evaluation import EvaluationReport, evaluate
from pii_finetune.plots import plot_confusion, plot_languages, plot_models, plot_training
from pii_finetune.records import Record
from pii_finetune.scores import Scores

MODELS = ("original", "sft", "dpo", "production")


def make_report(*names: str) -> EvaluationReport:
    rows = [Record(f"label {at}", ("English", "Telugu")[at % 2], at % 4 < 2, at) for at in range(12)]
    scores = Scores(np.linspace(-3, 3, 12), np.ones(12, bool))
    return evaluate(dict.fromkeys(names, lambda _: scores), rows, [], lambda _: None)


def texts(figure: Figure) -> set[str]:
    figure.draw_without_rendering()  # tick labels are made when drawn
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}


def is_png(figure: Figure) -> bool:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("names", [("original",), MODELS])
def test_the_bar_plot_has_four_figures_of_every_model(names: tuple[str, ...]):
    report = make_report(*names)
    figure = plot_models(report.test)
    assert len(figure.axes[0].patches) == 4 * len(names)
    assert {"Accuracy", "Precision", "Recall", "F1", f"{report.test['original'].f1:.3f}"} <= texts(figure)
    assert is_png(figure)


@pytest.mark.parametrize("names", [("sft",), MODELS])
def test_there_is_a_confusion_matrix_for_every_model(names: tuple[str, ...]):
    figure = plot_confusion(make_report(*names))
    assert len(figure.axes) == len(names)
    assert is_png(figure)


def test_cells_of_a_confusion_matrix_are_counts_and_shares_of_what_is_right():
    report = make_report("sft")
    cells = {text.get_text() for text in plot_confusion(report).axes[0].texts}
    assert sum(int(cell.split("\n")[0]) for cell in cells) <= 12
    assert all(cell.endswith("%") for cell in cells)


def test_the_language_plot_has_every_language():
    figure = plot_languages(make_report("sft", "dpo"))
    assert len(figure.axes[0].collections) == 2
    assert {"English", "Telugu", "SFT", "DPO"} <= texts(figure)


def test_a_training_without_validation_is_still_drawn():
    figure = plot_training("sft", [(1, 0.7), (10, 0.2)], [])
    assert len(figure.axes[0].lines) == 1
    assert is_png(figure)


def test_training_and_validation_loss_are_two_lines():
    figure = plot_training("dpo", [(1, 0.7), (10, 0.2)], [(5, 0.4), (10, 0.3)])
    assert [line.get_label() for line in figure.axes[0].lines] == ["training", "validation"]

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pii_finetune.labels import MAX_LABEL_CHARACTERS
from pii_finetune.production_model import ProductionModel


def refused(rows: dict[str, list[object]]) -> str:
    """Ask a model that was never loaded: what is refused never reaches it."""
    with pytest.raises(MlflowException) as error:
        ProductionModel().predict(None, pd.DataFrame(rows, dtype=object))
    assert error.value.get_http_status_code() == 400
    return error.value.message


@pytest.mark.parametrize("label", [None, "", "  ", "\u200b", float("nan"), pd.NA])
def test_a_row_without_a_label_gets_no_answer_but_its_number(label: object):
    message = refused({"label": ["first name", label]})
    assert message.startswith("rows [1] (counted from 0) of 2 have no label; give each row")


@pytest.mark.parametrize("column", ["label", "language"])
@pytest.mark.parametrize("cell", [7, 0.5, True, ["a", "b"], pd.Timestamp(2024, 1, 1)])
def test_a_cell_that_is_no_text_is_refused_and_not_guessed_at(column: str, cell: object):
    rows: dict[str, list[object]] = {"label": ["first name", "prénom"], "language": ["English", None]}
    rows[column][0] = cell
    assert f"rows [0] (counted from 0) of 2 have no text in column {column!r}" in refused(rows)


def test_a_label_longer_than_any_the_model_has_seen_is_refused():
    message = refused({"label": ["x" * MAX_LABEL_CHARACTERS, "x" * (MAX_LABEL_CHARACTERS + 1)]})
    assert "rows [1] (counted from 0) of 2 have a label of more than 200 characters" in message

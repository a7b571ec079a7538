"""The model as MLflow serves it. MLflow runs this file to make the model (models from code), so nothing is pickled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

_BATCH_SIZE = 64


def model_signature(has_review_band: bool) -> ModelSignature:
    """Return the columns in and out; `decision` is among them only where some answers are left to a person."""
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "sensitive"),
        ColSpec(DataType.double, "probability"),
    ]
    if has_review_band:
        outputs.append(ColSpec(DataType.string, "decision"))
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.string, "language", required=False)]),
        outputs=Schema(outputs),
    )


class ProductionModel(PythonModel):
    """Columns in: `label`, optionally `language`. Columns out: `sensitive` (yes/no), `probability` (of yes, [0, 1]).

    Probabilities are calibrated. Where their calibration has a review band, a column `decision` says yes, no or review.
    """

    def load_context(self, context: Any) -> None:
        """Verify the model's folder and the code beside it, then load base, adapter and calibration."""
        from pii_finetune.model_code import verify_code
        from pii_finetune.model_folder import load_model_folder

        folder = Path(context.artifacts["model"])
        self._model = load_model_folder(folder, _BATCH_SIZE)
        verify_code(folder.parents[1], self._model.manifest.code)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow calls it with these names
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer one line a row, under the same index."""
        from pii_finetune.languages import canonical_language

        labels = _checked_labels(model_input)
        known = model_input["language"] if "language" in model_input else [None] * len(labels)
        languages = [canonical_language(name) if isinstance(name, str) else None for name in known]
        return self._model.answer(list(zip(labels, languages, strict=True))).set_index(model_input.index)


def _checked_labels(model_input: pd.DataFrame) -> list[str]:
    """Return the cleaned labels.

    Raises:
        MlflowException: rows have no label that can be answered; as a bad parameter, which MLflow's server answers with
            status 400 and the message. Any other exception would be status 400 too, but with a traceback for a reason.
    """
    from pii_finetune.labels import MAX_LABEL_CHARACTERS, clean_label

    cells = model_input["label"].tolist()
    labels = [clean_label(cell) if isinstance(cell, str) else "" for cell in cells]
    languages = model_input["language"].tolist() if "language" in model_input else []
    problems = {
        "have no text in column 'label'; write the label as text": _no_text(cells),
        "have no label; give each row a non-empty text in column 'label', or leave it out": [
            at for at, label in enumerate(labels) if not label
        ],
        f"have a label of more than {MAX_LABEL_CHARACTERS} characters, as no label has; shorten it, or leave it out": [
            at for at, label in enumerate(labels) if len(label) > MAX_LABEL_CHARACTERS
        ],
        "have no text in column 'language'; write its name or code, e.g. English or en, or leave it out": _no_text(
            languages
        ),
    }
    for problem, rows in problems.items():
        if rows:
            raise MlflowException.invalid_parameter_value(
                f"rows {rows[:20]} (counted from 0) of {len(labels)} {problem}"
            )
    return labels


def _no_text(cells: Sequence[object]) -> list[int]:
    """Return the rows whose cells hold something, but no text."""
    present = pd.Series(list(cells), dtype=object).notna().tolist()
    return [at for at, cell in enumerate(cells) if present[at] and not isinstance(cell, str)]


mlflow.models.set_model(ProductionModel())

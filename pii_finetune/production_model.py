"""The model as MLflow serves it. MLflow runs this file to make the model (models from code), so nothing is pickled."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.string, "language", required=False)]),
    outputs=Schema([ColSpec(DataType.string, "sensitive"), ColSpec(DataType.double, "probability")]),
)
_BATCH_SIZE = 64


class ProductionModel(PythonModel):
    """Columns in: `label`, optionally `language`. Columns out: `sensitive` (yes/no), `probability` (of yes, [0, 1])."""

    def load_context(self, context: Any) -> None:
        """Load base and adapter from the model's artifacts."""
        from pii_finetune.model_folder import load_model_folder

        self._scorer = load_model_folder(Path(context.artifacts["model"]), _BATCH_SIZE)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow calls it with these names
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer one line a row, under the same index."""
        from pii_finetune.labels import clean_label
        from pii_finetune.languages import canonical_language

        labels = [clean_label(label) if isinstance(label, str) else "" for label in model_input["label"]]
        if empty := [at for at, label in enumerate(labels) if not label]:
            raise ValueError(
                f"rows {empty[:20]} (counted from 0) of {len(labels)} have no label; "
                "give each row a non-empty text in column 'label', or leave it out"
            )
        known = model_input["language"] if "language" in model_input else [None] * len(labels)
        languages = [canonical_language(name) if isinstance(name, str) else None for name in known]
        scores = self._scorer.score(list(zip(labels, languages, strict=True)), "served", check_format=False)
        return pd.DataFrame(
            {
                "sensitive": ["yes" if yes else "no" for yes in scores.answers],
                "probability": scores.probability.astype(float),
            },
            index=model_input.index,
        )


mlflow.models.set_model(ProductionModel())

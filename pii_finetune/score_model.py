"""The model that answers a table: a registered one, its folder verified and loaded by the code that is installed here.

Nothing of the code that travels beside the folder is run: the manifest is checked before anything of the model is used,
and a signed model is as good as its signature.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pii_finetune.manifest import MANIFEST, digest
from pii_finetune.model_check import naming
from pii_finetune.registry import fetch_model_folder
from pii_finetune.score_parts import Answer
from pii_finetune.scores import Question
from pii_finetune.tracking import configure_tracking

_BATCH_SIZE = 64


@dataclass(frozen=True)
class TableModel:
    """What a table is answered by."""

    identity: str  # the SHA-256 of its manifest, so of all that decides its answers
    columns: tuple[str, ...]  # of an answer
    answer: Callable[[Sequence[Question]], list[Answer]]


@contextmanager
def table_model(uri: str) -> Iterator[TableModel]:
    """Fetch, verify and load the model.

    Raises:
        MissingModelError: there is no such model, or its base is not to be had here.
        TamperedModelError: it is not as it was written, or signed.
    """
    configure_tracking()
    with tempfile.TemporaryDirectory(prefix="pii-finetune-model-") as fetched:
        folder = fetch_model_folder(uri, Path(fetched))
        with naming(uri, Path(fetched)):
            model = load_table_model(folder)
        yield model


def load_table_model(folder: Path) -> TableModel:
    """Verify a model's folder and load it.

    Raises:
        MissingModelError, TamperedModelError: as table_model.
    """
    from pii_finetune.model_folder import load_model_folder  # seconds, for nothing where there is no model

    model = load_model_folder(folder, _BATCH_SIZE)

    def answer(questions: Sequence[Question]) -> list[Answer]:
        return list(model.answer(questions).itertuples(index=False, name=None))

    return TableModel(digest(folder / MANIFEST).sha256, model.columns, answer)

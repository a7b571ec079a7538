"""A labelled example, a dataset of them, and the fingerprint that says whether the data changed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pii_finetune.row_place import Place

ANSWERS = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the workbook after cleaning; `row` is its number in the sheet, or its place, for messages only."""

    label: str
    language: str
    sensitive: bool
    row: Place
    category: str = ""  # for figures only; not in the fingerprint

    @property
    def answer(self) -> str:
        """The word the model should say."""
        return "yes" if self.sensitive else "no"


def fingerprint(records: Iterable[Record]) -> str:
    """Return the SHA-256 (hex) of the normalised rows, whatever their order, numbering or formatting."""
    rows = sorted(f"{r.label}\t{r.language}\t{r.answer}" for r in records)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()

"""The glossary: concepts with their answer and their labels in eight languages."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pii_finetune.paths import ROOT

DATA = ROOT / "data"
GLOSSARY = DATA / "glossary.csv"
UNSEEN_GLOSSARY = DATA / "unseen_glossary.csv"

# Column of the glossary -> name of the language in the workbook
LANGUAGE_OF = {
    "en": "English",
    "fr": "French",
    "de": "German",
    "it": "Italian",
    "es": "Spanish",
    "nl": "Dutch",
    "hi": "Hindi",
    "te": "Telugu",
}


@dataclass(frozen=True)
class Concept:
    """One thing a label can name; the first label of a language is its usual one."""

    name: str
    sensitive: str
    category: str
    ai4privacy: tuple[str, ...]  # class names of the ai4privacy releases that mean this concept
    abbreviations: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]  # language name -> labels


def read_glossary(path: Path) -> list[Concept]:
    """Read a glossary file; cells with several values separate them by ` | `."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Concept(
                name=row["concept"],
                sensitive=row["sensitive"],
                category=row["category"],
                ai4privacy=split_cell(row["ai4privacy"], "|"),
                abbreviations=split_cell(row["abbreviations"]),
                labels={language: split_cell(row[code]) for code, language in LANGUAGE_OF.items()},
            )
            for row in csv.DictReader(file)
        ]


def split_cell(cell: str, separator: str = " | ") -> tuple[str, ...]:
    """Return the values in a cell."""
    return tuple(value.strip() for value in cell.split(separator) if value.strip())

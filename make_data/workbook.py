"""Builds data/PII_dataset_2.xlsx and data/unseen_concepts.xlsx from the glossaries. Run by `make data`."""

import random
from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font

from make_data.forms import draw_form
from make_data.glossary import DATA, GLOSSARY, UNSEEN_GLOSSARY, Concept, read_glossary
from pii_finetune.labels import fold_label

WORKBOOK = DATA / "PII_dataset_2.xlsx"
UNSEEN_WORKBOOK = DATA / "unseen_concepts.xlsx"
_SHARE_OF_SYNONYMS_LEFT_OUT = 0.75  # outside English, where most column names live

Row = tuple[str, str, str]  # label, language, yes or no


def build_rows(concepts: Iterable[Concept]) -> list[Row]:
    """Return the workbook's rows, shuffled: each label in one of its forms in the wild, usual English ones in two.

    Every row is drawn from a generator of its own, seeded with what the row is about, so that a change to one concept
    leaves the rows of all others as they were.
    """
    rows: dict[tuple[str, str], str] = {}
    for concept in concepts:
        for language, labels in concept.labels.items():
            abbreviations = concept.abbreviations if language == "English" else ()
            for position, name in enumerate((*labels, *abbreviations)):
                rng = random.Random(f"{concept.name} {language} {name}")
                if language != "English" and position > 0 and rng.random() < _SHARE_OF_SYNONYMS_LEFT_OUT:
                    continue
                rows.setdefault((draw_form(name, language, rng), language), concept.sensitive)
                if language == "English" and position == 0:
                    rows.setdefault((draw_form(name, language, rng), language), concept.sensitive)
    shuffled = [(label, language, answer) for (label, language), answer in rows.items()]
    random.Random("workbook").shuffle(shuffled)
    return shuffled


def build_unseen_rows(concepts: Iterable[Concept], known: Iterable[Row]) -> list[Row]:
    """Return rows of concepts that are not in the workbook; raise if a label is.

    Raises:
        ValueError: a label folds to the same key as one in `known`.
    """
    known_keys = {fold_label(label) for label, _, _ in known}
    rows = build_rows(concepts)
    if leaked := sorted(label for label, _, _ in rows if fold_label(label) in known_keys):
        raise ValueError(f"labels of unseen concepts are in the workbook: {', '.join(leaked)}")
    return rows


def write_workbook(rows: Iterable[Row], path: Path) -> None:
    """Write rows under the columns label, language, sensitive."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "labels"
    sheet.append(["label", "language", "sensitive"])
    for row in rows:
        sheet.append(row)
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for column, width in {"A": 44, "B": 12, "C": 10}.items():
        sheet.column_dimensions[column].width = width
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = sheet.dimensions
    book.save(path)


def main() -> None:
    """Build both workbooks."""
    rows = build_rows(read_glossary(GLOSSARY))
    unseen = build_unseen_rows(read_glossary(UNSEEN_GLOSSARY), rows)
    for path, content in {WORKBOOK: rows, UNSEEN_WORKBOOK: unseen}.items():
        write_workbook(content, path)
        print(f"{path.name}: {len(content):,} rows, {sum(answer == 'yes' for _, _, answer in content):,} of them sensitive")


if __name__ == "__main__":
    main()

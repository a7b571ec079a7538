"""Builds data/PII_dataset_2.xlsx and data/unseen_concepts.xlsx from the glossaries. Run by `make data`."""

import random
from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font

from make_data.forms import draw_form
from make_data.glossary import DATA, GLOSSARY, UNSEEN_GLOSSARY, Concept, read_glossary
from pii_finetune.labels import fold_label, spell_out

WORKBOOK = DATA / "PII_dataset_2.xlsx"
UNSEEN_WORKBOOK = DATA / "unseen_concepts.xlsx"
_SHARE_OF_ENGLISH_SYNONYMS = 0.3  # of the English synonyms and abbreviations: most column names are English
_SHARE_OF_OTHER_LANGUAGES = 0.8  # each concept has a label in English, and in each further language with this chance

Row = tuple[str, str, str, str]  # label, language, yes or no, category
HEADER = ("label", "language", "sensitive", "category")


def build_rows(concepts: Iterable[Concept]) -> list[Row]:
    """Return the workbook's rows, shuffled: each label in one of the forms it has in the wild.

    What is drawn for a concept and language depends on these alone, so that a change to one concept leaves the rows
    of all others as they were.
    """
    rows: dict[tuple[str, str], tuple[str, str]] = {}
    for concept in concepts:
        for language, labels in concept.labels.items():
            rng = random.Random(f"{concept.name} {language}")
            if language == "English":
                usual, *others = (*labels, *concept.abbreviations)
                names = [usual, *(name for name in others if rng.random() < _SHARE_OF_ENGLISH_SYNONYMS)]
            elif rng.random() < _SHARE_OF_OTHER_LANGUAGES:
                names = [rng.choice(labels)]
            else:
                continue
            for name in names:
                rows.setdefault((draw_form(name, language, rng), language), (concept.sensitive, concept.category))
    shuffled = [(label, language, *about) for (label, language), about in rows.items()]
    random.Random("workbook").shuffle(shuffled)
    return shuffled


def build_unseen_rows(concepts: Iterable[Concept], known: Iterable[Row]) -> list[Row]:
    """Return a row a language of each concept that is not in the workbook.

    Raises:
        ValueError: a label folds to the same key as one in `known`, or is spelled out as one.
    """
    known_keys = {key(label) for label, *_ in known for key in (fold_label, spell_out)}
    rows = [
        (
            draw_form(labels[0], language, random.Random(f"{concept.name} {language}")),
            language,
            concept.sensitive,
            concept.category,
        )
        for concept in concepts
        for language, labels in concept.labels.items()
    ]
    if leaked := sorted(label for label, *_ in rows if {fold_label(label), spell_out(label)} & known_keys):
        raise ValueError(f"labels of unseen concepts are in the workbook: {', '.join(leaked)}")
    return rows


def write_workbook(rows: Iterable[Row], path: Path) -> None:
    """Write rows under the columns label, language, sensitive and category."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "labels"
    sheet.append(HEADER)
    for row in rows:
        sheet.append(row)
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for column, width in {"A": 44, "B": 12, "C": 10, "D": 16}.items():
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
        print(f"{path.name}: {len(content):,} rows, {sum(row[2] == 'yes' for row in content):,} of them sensitive")


if __name__ == "__main__":
    main()

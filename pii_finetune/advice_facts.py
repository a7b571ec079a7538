"""Facts on each row that the advice is judged by, gathered in one pass over whole columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pii_finetune.instructions import is_order
from pii_finetune.label_errors import answer_probability
from pii_finetune.labels import spell_out
from pii_finetune.records import Record


@dataclass(frozen=True)
class Facts:
    """`table` has a line for each record, then one for each copy, with `is_copy` = 1 and nothing else.

    Its index is `row`; its columns, float64, NaN where the fact is not known or not this line's to tell:
        is_sensitive: 0 or 1.
        spelling, language: numbers that stand for what the model reads, and for the language.
        alike, contrary: rows of the same language and spelling with the same answer (itself included), and the other.
        answers_of_spelling: 1 or 2 different answers in the same language.
        languages_alike, answers_in_other_languages: languages where the spelling has the same answer, and the other;
            0 others where both answers stand in one language, for that is told as such.
        language_rows, rarer_share_in_language: rows of the language and the share of its rarer answer; both stand in
            the first row of each language only.
        answer_probability: of the given answer, by cross-validation.
        is_order: whether the label reads as an order to a model.
        is_copy: whether the row was left out as an exact copy of one above.
    """

    records: Sequence[Record]
    copies: Sequence[Record]
    spellings: Sequence[str]  # by number
    table: pd.DataFrame

    def column(self, name: str) -> np.ndarray:
        """Return one fact of every line."""
        return self.table[name].to_numpy()


def gather(records: Sequence[Record], copies: Sequence[Record], seed: int) -> Facts:
    """Return the facts; `seed` decides the folds and, of a big workbook, the sample."""
    yes = np.array([r.sensitive for r in records], dtype=bool)
    language, languages = pd.factorize(pd.array([r.language for r in records], dtype=object))
    spelling, spellings = pd.factorize(pd.array([spell_out(r.label) for r in records], dtype=object))
    columns: dict[str, np.ndarray] = {"is_sensitive": yes, "spelling": spelling, "language": language}
    columns |= _by_spelling(yes, spelling, language, len(languages))
    columns |= _by_language(yes, language, len(languages))
    columns["is_order"] = np.array([is_order(r.label) for r in records], dtype=bool)
    columns["answer_probability"] = answer_probability(records, seed)
    table = pd.DataFrame(columns, dtype=np.float64, index=pd.Index([r.row for r in records], dtype=np.int64))
    table["is_copy"] = 0.0
    if copies:
        left_out = pd.DataFrame({"is_copy": 1.0}, index=pd.Index([r.row for r in copies], dtype=np.int64))
        table = pd.concat([table, left_out])
    return Facts(records, copies, spellings.tolist(), table.rename_axis("row"))


def _by_spelling(yes: np.ndarray, spelling: np.ndarray, language: np.ndarray, num_languages: int) -> dict:
    pair, pairs = pd.factorize(spelling.astype(np.int64) * num_languages + language)
    num_yes = np.bincount(pair, weights=yes, minlength=len(pairs))
    num_no = np.bincount(pair, minlength=len(pairs)) - num_yes
    both = (num_yes > 0) & (num_no > 0)
    text_of_pair = pairs // max(num_languages, 1)
    num_texts = spelling.max(initial=-1) + 1
    languages_yes = np.bincount(text_of_pair[(num_yes > 0) & ~both], minlength=num_texts)
    languages_no = np.bincount(text_of_pair[(num_no > 0) & ~both], minlength=num_texts)
    return {
        "alike": np.where(yes, num_yes[pair], num_no[pair]),
        "contrary": np.where(yes, num_no[pair], num_yes[pair]),
        "answers_of_spelling": 1 + both[pair],
        "languages_alike": np.where(yes, languages_yes[spelling], languages_no[spelling]),
        "answers_in_other_languages": np.where(
            both[pair], 0, np.where(yes, languages_no[spelling], languages_yes[spelling])
        ),
    }


def _by_language(yes: np.ndarray, language: np.ndarray, num_languages: int) -> dict:
    num_rows = np.bincount(language, minlength=num_languages)
    num_yes = np.bincount(language, weights=yes, minlength=num_languages)
    _, first = np.unique(language, return_index=True)
    columns = {name: np.full(len(language), np.nan) for name in ("language_rows", "rarer_share_in_language")}
    columns["language_rows"][first] = num_rows
    columns["rarer_share_in_language"][first] = np.minimum(num_yes, num_rows - num_yes) / num_rows
    return columns

"""Rows of some languages only, as `data.languages` says."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from pii_finetune.cleaning import read_languages
from pii_finetune.errors import BadWorkbookError
from pii_finetune.languages import LANGUAGES


def choose_rows(rows: pd.DataFrame, languages: Sequence[str], where: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows of these languages, and a note that counts the others, if there are others.

    A row whose language is empty, unknown or no plain cell stays: it may be meant for one of them, and who judges the
    rows names it.

    Args:
        rows: as in `workbook.Table`.
        languages: by their English names.
        where: what the rows are of, for messages.

    Raises:
        BadWorkbookError: one of the languages has no row; the message counts the rows of those there are.
    """
    found = read_languages(rows)
    known = set(LANGUAGES)
    counts = Counter(language for language in found if language in known)
    there = ", ".join(f"{language} ({count:,})" for language, count in counts.most_common()) or "none that is known"
    if missing := [language for language in languages if language not in counts]:
        raise BadWorkbookError(
            f"{where}: no row is in {' or '.join(missing)}, which data.languages names; the languages there are: "
            f"{there}; name some of these, or set data.languages=null for all"
        )
    is_other = pd.Series([language in counts and language not in languages for language in found], index=rows.index)
    num_others = int(is_other.sum())
    if not num_others:
        return rows, ()
    note = f"{num_others:,} {'row' if num_others == 1 else 'rows'} of other languages left out, as data.languages says"
    return rows.loc[~is_other].reset_index(drop=True), (note,)

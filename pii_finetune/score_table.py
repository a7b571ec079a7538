"""Scoring a table of labels from a file of any size, with the model in production, into a file."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pii_finetune import __version__
from pii_finetune.disk import told_if_full
from pii_finetune.errors import BadWorkbookError
from pii_finetune.isolation import copy_isolated
from pii_finetune.score_answers import Scoring
from pii_finetune.score_copy import COPY, USUAL_COLUMNS, Columns, opened_copy, reading_settings, write_answered
from pii_finetune.score_model import TableModel, table_model
from pii_finetune.score_output import MAX_XLSX_ROWS, check_target
from pii_finetune.score_parts import clear, read_note, unfinished_work, write_note
from pii_finetune.table_copy import ROWS_PER_PIECE


@dataclass(frozen=True)
class ScoreReport:
    """What came of scoring a table."""

    num_rows: int
    num_kept: int  # of them answered before an interruption
    num_asked: int  # questions the model was asked in this run: labels that come again are not asked again
    answers: Counter[str]  # rows by answer
    unknown_languages: Counter[str]  # rows by what they gave as language, which is no name known; asked as unknown
    note: str  # why work that was there could not be continued; empty: it was, or there was none
    unread: tuple[str, ...] = ()  # notes on files of a folder that were left alone


def score_table(
    source: Path,
    target: Path,
    model_uri: str,
    columns: Columns = USUAL_COLUMNS,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> ScoreReport:
    """Answer every row of `source` and write it, with columns `sensitive` and `probability` added, to `target`.

    Columns of the source that have these names are kept as `given_sensitive` and `given_probability`. The target is
    written whole or not at all; cells a spreadsheet would take for formulas are neutralised in it. If the work is cut
    off, the same call goes on where it stopped, as long as table and model are the same. Memory does not grow with the
    number of rows, but with the size of a spreadsheet, which is no format for pieces.

    Args:
        source: .xlsx, .ods, .csv, .tsv or .parquet.
        target: .csv, .xlsx or .parquet.
        model_uri: a model of this project in MLflow.
        columns: names of the columns.
        on_progress: called with the number of rows that are answered and of all rows.

    Raises:
        BadWorkbookError: the source or target cannot be used, or a row has no label.
        MissingModelError: there is no such model, or its base is not to be had here.
        TamperedModelError: the model is not as it was written, or signed.
        DiskFullError: there is no room for the target, or for the work beside it.
    """
    check_target(source, target)
    with _told_if_full(target), unfinished_work(target) as folder:
        num_rows, other_table = _copy_source(folder, source, columns)
        if target.suffix == ".xlsx" and num_rows > MAX_XLSX_ROWS:
            raise BadWorkbookError(
                f"--out {target}: {num_rows:,} rows are more than a sheet can hold ({MAX_XLSX_ROWS:,}); name a .csv"
            )
        with table_model(model_uri) as model:
            other_model = _forget_another_model(folder, model)
            scoring = Scoring(folder, model)
            with opened_copy(folder) as pieces:
                for done in scoring.run(pieces):
                    on_progress(done, num_rows)
        _write(folder, target, scoring.columns)
    return ScoreReport(
        num_rows,
        scoring.num_kept,
        scoring.num_asked,
        scoring.answers,
        scoring.unknown_languages,
        other_table or other_model,
    )


def _told_if_full(target: Path) -> AbstractContextManager[None]:
    return told_if_full(f"--out {target}", target.parent, "the same command goes on where it stopped")


def _copy_source(folder: Path, source: Path, columns: Columns) -> tuple[int, str]:
    """Copy the table to the folder, unless it is there; return its number of rows, and why the work starts anew."""
    identity = {
        "table": _digest(source),
        "columns": [columns.label, columns.language],
        "rows_per_part": ROWS_PER_PIECE,
        "version": __version__,
    }
    before = read_note(folder, "table")
    if before is not None and identity.items() <= before.items():
        return int(str(before["num_rows"])), ""
    clear(folder, "*")
    settings = reading_settings(columns, source.suffix, source.stat().st_size)
    num_rows = copy_isolated(source, settings, columns.language is not None, (folder / COPY).resolve())
    write_note(folder, "table", identity | {"num_rows": num_rows})
    return num_rows, "" if before is None else "the table, or how it is read, has changed since the work was cut off"


def _digest(source: Path) -> str:
    if source.exists() and not source.is_file():  # a pipe would be waited for without end
        raise BadWorkbookError(f"{source}: is a folder, or no regular file; give a table")
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWorkbookError(f"{source}: cannot be read ({error.strerror}); check the path") from None


def _forget_another_model(folder: Path, model: TableModel) -> str:
    """Remove the answers of another model, if there are any, and say so."""
    identity, before = {"manifest": model.identity}, read_note(folder, "model")
    if before == identity:
        return ""
    clear(folder, "part-*")
    write_note(folder, "model", identity)
    return "" if before is None else "the model is another one than when the work was cut off"


def _write(folder: Path, target: Path, added: Sequence[str]) -> None:
    """Write the columns of the table, then the answers, to the target."""
    whole = write_answered(folder, added, target.suffix)
    whole.chmod(0o644)
    whole.replace(target)

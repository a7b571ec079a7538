"""Scoring a table of labels from a file of any size, with the model in production, into a file."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pii_finetune import __version__
from pii_finetune.config import DataConfig
from pii_finetune.disk import told_if_full
from pii_finetune.errors import BadWorkbookError
from pii_finetune.isolation import copy_isolated
from pii_finetune.profiles import embedded
from pii_finetune.score_answers import Scoring
from pii_finetune.score_model import TableModel, table_model
from pii_finetune.score_output import MAX_XLSX_ROWS, check_target, write_table
from pii_finetune.score_parts import clear, read_note, read_part, unfinished_work, write_note
from pii_finetune.table_copy import QUESTION, ROWS_PER_PIECE

_COPY = "rows.arrow"
_BYTES_PER_SECOND = 1_000_000  # a reader slower than this is taken to hang; delimited text is read ten times as fast


@dataclass(frozen=True)
class Columns:
    """Which columns of the table are asked about; without a name, `language` is taken if there is one."""

    label: str = "label"
    language: str | None = None


@dataclass(frozen=True)
class ScoreReport:
    """What came of scoring a table."""

    num_rows: int
    num_kept: int  # of them answered before an interruption
    num_asked: int  # questions the model was asked in this run: labels that come again are not asked again
    answers: Counter[str]  # rows by answer
    unknown_languages: Counter[str]  # rows by what they gave as language, which is no name known; asked as unknown
    note: str  # why work that was there could not be continued; empty: it was, or there was none


def score_table(
    source: Path,
    target: Path,
    model_uri: str,
    columns: Columns = Columns(),
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
            with _opened(folder) as pieces:
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
    num_rows = copy_isolated(
        source, _settings(source, columns), columns.language is not None, (folder / _COPY).resolve()
    )
    write_note(folder, "table", identity | {"num_rows": num_rows})
    return num_rows, "" if before is None else "the table, or how it is read, has changed since the work was cut off"


def _settings(source: Path, columns: Columns) -> DataConfig:
    default = embedded().data
    stream = source.suffix.lower() in (".csv", ".tsv", ".parquet")
    return default.model_copy(
        update={
            "label_column": columns.label,
            "language_column": columns.language or default.language_column,
            "max_rows": 2**62 if stream else MAX_XLSX_ROWS,
            "read_timeout_seconds": max(
                default.read_timeout_seconds, source.stat().st_size / _BYTES_PER_SECOND if stream else 0.0
            ),
        }
    )


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


@contextmanager
def _opened(folder: Path) -> Iterator[pa.ipc.RecordBatchStreamReader]:
    with pa.OSFile(str(folder / _COPY)) as file, pa.ipc.open_stream(file) as pieces:
        yield pieces


def _write(folder: Path, target: Path, added: Sequence[str]) -> None:
    """Write the columns of the table, then the answers, to the target."""
    whole = folder / f"whole{target.suffix}"
    with _opened(folder) as pieces:
        fields = [field for at, field in enumerate(pieces.schema) if at >= len(QUESTION)]
        taken = {field.name for field in fields}
        kept = [field.with_name(_given(field.name, taken, added)) for field in fields]
        answers = [pa.field(name, pa.float64() if name == "probability" else pa.string()) for name in added]
        schema = pa.schema([*kept, *answers])
        write_table(schema, _answered(folder, pieces, schema, added), whole, target.suffix)
    whole.chmod(0o644)
    whole.replace(target)


def _answered(
    folder: Path, pieces: pa.ipc.RecordBatchStreamReader, schema: pa.Schema, added: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for number, piece in enumerate(pieces):
        answers = zip(*(read_part(folder, number) or ()), strict=True)
        columns = [
            pa.array([round(float(p), 6) for p in values] if name == "probability" else values)
            for name, values in zip(added, answers, strict=True)
        ]
        yield pa.record_batch([*piece.columns[len(QUESTION) :], *columns], schema=schema)


def _given(name: str, taken: set[str], added: Sequence[str]) -> str:
    """Return the name under which a column of the table is kept that is named like one of ours."""
    if name not in added:
        return name
    name = f"given_{name}"
    while name in taken:
        name = f"given_{name}"
    return name

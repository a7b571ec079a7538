"""A copied table on its way to answers: how it is read, and how it is written with its answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.profiles import embedded
from pii_finetune.score_output import MAX_XLSX_ROWS, write_table
from pii_finetune.score_parts import read_part
from pii_finetune.table_copy import QUESTION

COPY = "rows.arrow"
_BYTES_PER_SECOND = 1_000_000  # a reader slower than this is taken to hang; delimited text is read ten times as fast


@dataclass(frozen=True)
class Columns:
    """Which columns of the table are asked about; without a name, `language` is taken if there is one."""

    label: str = "label"
    language: str | None = None


USUAL_COLUMNS = Columns()


def reading_settings(columns: Columns, suffix: str, num_bytes: int) -> DataConfig:
    """Return the names of the columns and the limits for a table of that kind and size."""
    default = embedded().data
    stream = suffix.lower() in (".csv", ".tsv", ".parquet")
    return default.model_copy(
        update={
            "label_column": columns.label,
            "language_column": columns.language or default.language_column,
            "max_rows": 2**62 if stream else MAX_XLSX_ROWS,
            "read_timeout_seconds": max(default.read_timeout_seconds, num_bytes / _BYTES_PER_SECOND if stream else 0.0),
        }
    )


@contextmanager
def opened_copy(folder: Path) -> Iterator[pa.ipc.RecordBatchStreamReader]:
    """Yield the pieces of the folder's copy."""
    with pa.OSFile(str(folder / COPY)) as file, pa.ipc.open_stream(file) as pieces:
        yield pieces


def write_answered(folder: Path, added: Sequence[str], suffix: str, note: Mapping[str, str] | None = None) -> Path:
    """Write the columns of the copy, then their answers, to a file of that kind in the folder, and return it.

    Args:
        folder: with the copy, and answers to each of its pieces.
        added: names of the columns of an answer.
        suffix: .csv, .xlsx or .parquet.
        note: goes into the footer of a Parquet file.
    """
    whole = folder / f"whole{suffix}"
    with opened_copy(folder) as pieces:
        fields = [field for at, field in enumerate(pieces.schema) if at >= len(QUESTION)]
        taken = {field.name for field in fields}
        kept = [field.with_name(_given(field.name, taken, added)) for field in fields]
        answers = [pa.field(name, pa.float64() if name == "probability" else pa.string()) for name in added]
        schema = pa.schema([*kept, *answers], metadata=note)
        write_table(schema, _answered(folder, pieces, schema, added), whole, suffix)
    return whole


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

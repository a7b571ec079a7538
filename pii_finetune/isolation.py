"""Reading a stranger's file in a process of its own, where running out of memory or time harms nobody else."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError, SourceOutOfReachError
from pii_finetune.remote_file import shown_source
from pii_finetune.row_range import RowRange

REPLY = "reply.json"
ROWS = "rows.arrow"


def read_isolated(path: Path, config: DataConfig) -> tuple[dict[str, Any], pa.Table]:
    """Run `pii_finetune.reader` on the file in a child process with the configured limits.

    What comes back is JSON and Arrow, never a pickle: a parser that was taken over can lie about the rows and no more.

    Raises:
        BadWorkbookError: the reader refused the file, died on it, or ran out of memory.
        SourceOutOfReachError: there was not enough time, or room on the disk.
    """
    with TemporaryDirectory(prefix="pii-finetune-read-") as folder:
        reply = _run(path, config, Path(folder), {})
        with pa.OSFile(str(Path(folder) / ROWS)) as file:
            return reply, pa.ipc.open_file(file).read_all()


def mark_isolated(path: Path, config: DataConfig, sheet: str, marks: Sequence[dict[str, Any]], target: Path) -> None:
    """Have the child write a copy of the workbook to `target` in which the cells of `marks` carry comments.

    Args:
        path: an .xlsx workbook.
        config: names of the columns, and limits.
        sheet: the sheet that was read.
        marks: `row`, `column` (label, language or sensitive) and `message` of each cell.
        target: written whole or not at all.

    Raises:
        BadWorkbookError: as read_isolated.
    """
    with TemporaryDirectory(prefix=".marked-", dir=target.parent) as folder:
        copy = Path(folder) / "marked.xlsx"
        _run(path, config, Path(folder), {"sheet": sheet, "marks": list(marks), "target": str(copy)})
        copy.replace(target)


def copy_isolated(
    source: Path | str, config: DataConfig, language_is_required: bool, target: Path, rows: RowRange | None = None
) -> int:
    """Have the child copy all columns of the table, or of some rows, to an Arrow stream; return the number of rows.

    The source is a path, or the URL of a delimited text or Parquet file.

    Raises:
        BadWorkbookError: as read_isolated; or a row has no label that can be scored.
    """
    task = {
        "copy_to": str(target),
        "language_is_required": language_is_required,
        "rows": None if rows is None else asdict(rows),
    }
    with TemporaryDirectory(prefix="pii-finetune-copy-") as folder:
        return int(_run(source, config, Path(folder), task)["num_rows"])


def split_isolated(
    source: Path | str, config: DataConfig, language_is_required: bool, rows_per_range: int
) -> list[RowRange]:
    """Have the child read the whole table and return its rows as ranges for copy_isolated.

    Raises:
        BadWorkbookError: as copy_isolated.
    """
    task = {"rows_per_range": rows_per_range, "language_is_required": language_is_required}
    with TemporaryDirectory(prefix="pii-finetune-split-") as folder:
        return [RowRange(**rows) for rows in _run(source, config, Path(folder), task)["ranges"]]


def _run(source: Path | str, config: DataConfig, folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    settings = config.model_copy(update={"workbook": str(source)}).model_dump()
    (folder / "request.json").write_text(json.dumps({"config": settings, **task}), encoding="utf-8")
    shown = shown_source(str(source))
    command = [sys.executable, "-P", "-m", "pii_finetune.reader", str(folder)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=config.read_timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise SourceOutOfReachError(
            f"{shown}: could not be read within data.read_timeout_seconds = {config.read_timeout_seconds:g}; "
            "save it again as a plain table, or raise the limit if the file is meant to be that large"
        ) from None
    reply_file = folder / REPLY
    if done.returncode != 0 or not reply_file.exists():
        raise _failure(shown, done, config)
    reply = json.loads(reply_file.read_text(encoding="utf-8"))
    if "error" in reply:
        raise BadWorkbookError(reply["error"])
    return reply


def _failure(path: str, done: subprocess.CompletedProcess[bytes], config: DataConfig) -> BadWorkbookError:
    limit = f"data.read_memory_mib = {config.read_memory_mib}"
    words = done.stderr.decode(errors="replace")
    if "MemoryError" in words or "memory allocation" in words or "bad_alloc" in words or "out of memory" in words:
        return BadWorkbookError(
            f"{path}: needs more memory to read than {limit}; save it again as a plain table without unused area"
        )
    if "No space left on device" in words or "File too large" in words or "Disk quota" in words:
        return SourceOutOfReachError(
            f"{path}: there is no room on the disk to read or copy it; free some (TMPDIR says where it is needed)"
        )
    ending = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    last = words.strip().splitlines()[-1][:200] if words.strip() else "no message"
    return BadWorkbookError(
        f"{path}: the reader died on it ({ending}; {last!r}), so the file is damaged or made to do that; "
        f"open it in a spreadsheet program and save it as .xlsx (memory limit: {limit})"
    )

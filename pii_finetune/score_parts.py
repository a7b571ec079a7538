"""What an interrupted scoring leaves beside its output, so that the same command goes on where it stopped."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pii_finetune.errors import BadWorkbookError

Answer = tuple[str | float, ...]  # in the order of the columns the model answers with


@contextmanager
def unfinished_work(target: Path) -> Iterator[Path]:
    """Yield the hidden folder of the target's work, ours alone; it stays only if we fail and it holds answers.

    Raises:
        BadWorkbookError: another process is scoring into this target.
    """
    folder = target.parent / f".{target.name}.unfinished"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadWorkbookError(
                f"--out {target}: another process is writing it; wait for its end, or name another file"
            ) from None
        try:
            yield folder
        except BaseException:
            if not any(folder.glob("part-*.parquet")):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def read_note(folder: Path, name: str) -> dict[str, object] | None:
    """Return what was noted under the name, or None."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def write_note(folder: Path, name: str, note: Mapping[str, object]) -> None:
    """Note something, whole or not at all."""
    _write_whole(folder / f"{name}.json", json.dumps(note, indent=2).encode())


def clear(folder: Path, pattern: str) -> None:
    """Remove the files of that pattern from the folder, notes first: what they speak of may be gone without them."""
    for file in sorted(folder.glob(pattern), key=lambda file: file.suffix != ".json"):
        file.unlink()


def read_part(folder: Path, number: int) -> list[Answer] | None:
    """Return the answers of a finished part, or None."""
    file = _part(folder, number)
    if not file.exists():
        return None
    columns = pq.read_table(file).columns
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def write_part(folder: Path, number: int, names: Sequence[str], answers: list[Answer]) -> None:
    """Keep the answers of a part, whole or not at all."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(zip(names, zip(*answers, strict=True), strict=True))), buffer)
    _write_whole(_part(folder, number), buffer.getvalue().to_pybytes())


def _write_whole(file: Path, content: bytes) -> None:
    written = file.with_name(f"{file.name}.new")
    with written.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())  # before the name is there, or a power cut could leave the name without the content
    written.replace(file)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"

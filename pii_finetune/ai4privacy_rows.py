"""Rows in the ai4privacy format: where they are read from, and what one of them says."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pii_finetune.ai4privacy_classes import class_name
from pii_finetune.errors import UserError
from pii_finetune.hub import told_if_out_of_reach
from pii_finetune.labels import clean_label
from pii_finetune.languages import canonical_language

_TEXT_FIELDS = ("source_text", "unmasked_text", "text")  # one text, named by release
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_CLASS = re.compile(r"[A-Za-z][\w .\-/]{0,59}")  # a name, which a workbook can hold as a label
_ENDINGS = (".jsonl", ".parquet")


class UnusableRowError(ValueError):
    """Why a row cannot be used, in words under which rows are counted."""


@dataclass(frozen=True, slots=True)
class Span:
    """A value and its class; `start` and `end` are characters in the text, or None if the value is not in it."""

    name: str
    value: str
    start: int | None
    end: int | None
    corrected: bool = False  # the offsets given were wrong


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row; the language by its English name."""

    text: str
    language: str
    spans: tuple[Span, ...]


def read_rows(source: str) -> Iterator[tuple[str, object]]:
    """Yield where each row stands, and the row as read (None if it is not JSON), one at a time.

    Raises:
        UserError: there is no such source, or it cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _ENDINGS and file.is_file())
        if not files:
            raise UserError(f"{source}: the folder has no .jsonl or .parquet file; give one that has")
    elif path.exists() and path.suffix in _ENDINGS:
        files = [path]
    elif path.exists():
        raise UserError(f"{source}: the ending must be .jsonl or .parquet, which says how to read it")
    elif _HUB_ID.fullmatch(source) and path.suffix not in _ENDINGS:
        yield from _read_hub(source)
        return
    else:
        raise UserError(
            f"{source}: there is no such file or folder, and it is no hub id; "
            "give a .jsonl or .parquet file, a folder of these, or owner/name"
        )
    for file in files:
        yield from _read_jsonl(file) if file.suffix == ".jsonl" else _read_parquet(file)


def parse_row(raw: object) -> Row:
    """Return what a row says, with every span at the place where its value stands.

    Raises:
        UnusableRowError: the row has no text, no readable mask, or no language that we know.
    """
    if not isinstance(raw, Mapping):
        raise UnusableRowError("not a JSON object")
    text = next((raw[name] for name in _TEXT_FIELDS if isinstance(raw.get(name), str) and raw[name].strip()), None)
    if text is None:
        raise UnusableRowError("no text")
    entries = _parse_mask(raw.get("privacy_mask"))
    given = str(raw.get("language") or "")
    language = canonical_language(given) or canonical_language(re.split("[-_]", given)[0])  # en-GB is English
    if language is None:
        raise UnusableRowError("unknown language" if given else "no language")
    return Row(text, language, tuple(_locate(entry, text) for entry in entries))


def _parse_mask(mask: object) -> list[Mapping[str, Any]]:
    if mask is None:
        raise UnusableRowError("no privacy_mask")
    if isinstance(mask, str):
        mask = _evaluate(mask)
    if not isinstance(mask, list) or not all(_is_span(entry) for entry in mask):
        raise UnusableRowError("unreadable privacy_mask")
    return mask


def _evaluate(mask: str) -> object:
    try:
        return json.loads(mask)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(mask.strip())  # a release holds Python's repr, with single quotes
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_span(entry: object) -> bool:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("label"), str) or entry.get("value") is None:
        return False
    return _CLASS.fullmatch(clean_label(entry["label"])) is not None


def _locate(entry: Mapping[str, Any], text: str) -> Span:
    name, value = class_name(clean_label(entry["label"])), str(entry["value"])
    start, end = (_offset(entry.get(name)) for name in ("start", "end"))
    if value and start >= 0 and text[start:end] == value:
        return Span(name, value, start, end)
    places = [match.start() for match in re.finditer(re.escape(value), text)] if value.strip() else []
    if not places:
        return Span(name, value, None, None)
    whole = [at for at in places if not _cuts_a_word(text, at, at + len(value))]
    nearest = min(whole or places, key=lambda at: abs(at - start))
    return Span(name, value, nearest, nearest + len(value), corrected=True)


def _offset(given: object) -> int:
    return int(str(given)) if re.fullmatch(r"[0-9]{1,9}", str(given)) else -1


def _cuts_a_word(text: str, start: int, end: int) -> bool:
    return any(0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (start, end))


def _read_jsonl(path: Path) -> Iterator[tuple[str, object]]:
    try:
        with path.open("rb") as file:  # bytes, so that one badly encoded line costs one row
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield f"{path.name}, line {number:,}", row
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable .jsonl file") from None


def _read_parquet(path: Path) -> Iterator[tuple[str, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number:,}", row
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise UserError(f"{path}: cannot be read as parquet ({reason}); fetch the file again") from None


def _read_hub(name: str) -> Iterator[tuple[str, object]]:
    import datasets

    with told_if_out_of_reach(name):
        for number, row in enumerate(datasets.load_dataset(name, split="train", streaming=True), start=1):
            yield f"{name}, row {number:,}", row

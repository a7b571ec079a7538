"""Where a delimited text is broken, in words for its owner: looked for only after reading it has failed."""

import codecs
import csv
import io
import re
from itertools import islice

from pii_finetune.excerpts import escape_cell
from pii_finetune.remote_table import TablePath

_LINE_END = re.compile(r"\r\n|\r|\n")
_CHUNK = 1 << 16
_NUM_BYTES_BEFORE, _NUM_BYTES_AFTER = 24, 12  # of an excerpt


def describe_bad_byte(path: TablePath, encoding: str) -> str:
    """Return the line and the first bytes that are not of the encoding, amid what stands around them."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line = 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(error.encoding, "replace")
                line += len(_LINE_END.findall(before))
                return f"line {line:,} ({_excerpt(error)}) has a byte that is not {error.encoding.upper()}"
            line += text.count("\n")
            if not chunk:
                return "it has changed while it was read"


def _excerpt(error: UnicodeDecodeError) -> str:
    before = error.object[max(0, error.start - _NUM_BYTES_BEFORE) : error.start].decode(error.encoding, "ignore")
    after = error.object[error.end : error.end + _NUM_BYTES_AFTER].decode(error.encoding, "ignore")
    bad = "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end][:4])
    return escape_cell(f"{_LINE_END.split(before)[-1]}{bad}{_LINE_END.split(after)[0]}", 80)


def describe_bad_quote(path: TablePath, encoding: str, line: int, error: csv.Error) -> str:
    """Return what is wrong with the row that begins on the line."""
    reason = str(error)
    if reason == "unexpected end of data":
        reason = "a quote that is opened there is never closed"
    elif reason.startswith("field larger"):
        reason = (
            f"a cell that begins there has more than {csv.field_size_limit():,} characters, as if a quote is not closed"
        )
    elif "expected after" in reason:
        reason = "text follows a quote that closes a cell"
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        text = next(islice(file, line - 1, line), "")
    return f"line {line:,} ({escape_cell(text.rstrip(), 60)}): {reason}"

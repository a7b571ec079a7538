"""What a spreadsheet's ZIP archive may hold, checked before any spreadsheet reader sees it."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from xml.parsers import expat

from pii_finetune.errors import BadWorkbookError

MAX_PARTS = 10_000
MAX_UNPACKED_BYTES = 1 << 30  # a million rows of three columns unpack to about 200 MB
MAX_RATIO = 200  # a real sheet shrinks 5 to 60 times, a bomb about 1,000 times
_SMALL_PART = 1 << 20  # below this a ratio proves nothing
_CHUNK = 1 << 18
_OLE_MAGIC = bytes.fromhex("d0cf11e0a1b11ae1")
_RESAVE = "open it in a spreadsheet program and save it as .xlsx"


@contextmanager
def checked_archive(path: Path, required: str) -> Iterator[zipfile.ZipFile]:
    """Open the archive if nothing in it is there to harm the reader.

    Raises:
        BadWorkbookError: encrypted, not an archive, too large unpacked, with macros or links to other workbooks,
            with two parts of one name, with XML that declares entities, or without the part `required`.
    """
    _check_magic(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_parts(path, archive, required)
            for info in archive.infolist():
                if info.filename.lower().endswith((".xml", ".rels")):
                    parse_part(path, archive, info.filename, _new_parser())
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, BadWorkbookError):
            raise
        raise BadWorkbookError(
            f"{path}: cannot be read: the archive is damaged ({_short(error)}); {_RESAVE}, or ask for the file again"
        ) from None


def parse_part(path: Path, archive: zipfile.ZipFile, part: str, parser: expat.XMLParserType) -> None:
    """Feed one XML part to the parser, whose handlers collect what they want.

    Raises:
        BadWorkbookError: the part is not well-formed, not in UTF-8, or declares a document type.
    """

    def refuse_document_type(*_: object) -> None:
        raise BadWorkbookError(
            f"{path}: its part {part!r} declares a document type, by which XML can be "
            f"made to grow without end; {_RESAVE}"
        )

    def refuse_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.upper() not in ("UTF-8", "US-ASCII"):
            raise BadWorkbookError(
                f"{path}: its part {part!r} is written in {encoding[:20]!r}, of which readers make different texts; "
                f"{_RESAVE}"
            )

    parser.StartDoctypeDeclHandler = refuse_document_type
    parser.XmlDeclHandler = refuse_encoding
    try:
        with archive.open(part) as stream:
            _feed(parser, stream)
    except expat.ExpatError as error:
        raise BadWorkbookError(f"{path}: its part {part!r} is not well-formed XML ({error}); {_RESAVE}") from None


def _feed(parser: expat.XMLParserType, stream: IO[bytes]) -> None:
    while chunk := stream.read(_CHUNK):
        parser.Parse(chunk, False)
    parser.Parse(b"", True)


def _new_parser() -> expat.XMLParserType:
    return expat.ParserCreate()


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise BadWorkbookError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not magic:
        raise BadWorkbookError(f"{path}: is empty (0 bytes); ask for the file again")
    if magic == _OLE_MAGIC:
        raise BadWorkbookError(
            f"{path}: cannot be read as an .xlsx workbook: it is protected by a password or an old .xls workbook; "
            "save it as .xlsx without a password"
        )
    if not magic.startswith(b"PK"):
        raise BadWorkbookError(
            f"{path}: cannot be read as an .xlsx workbook (its first bytes are of another kind); {_RESAVE}, "
            "or give it the ending of its kind (.csv, .tsv, .parquet)"
        )


def _check_parts(path: Path, archive: zipfile.ZipFile, required: str) -> None:
    parts = archive.infolist()
    names = Counter(info.filename.lower() for info in parts)
    unpacked = sum(info.file_size for info in parts)
    dense = [i for i in parts if i.file_size > max(_SMALL_PART, MAX_RATIO * i.compress_size)]
    if len(parts) > MAX_PARTS or unpacked > MAX_UNPACKED_BYTES or dense:
        raise BadWorkbookError(
            f"{path}: unpacks from {path.stat().st_size:,} to {unpacked:,} bytes in {len(parts):,} parts, as no table "
            "of labels does (a zip bomb does); save the rows alone into a new workbook"
        )
    if any(info.flag_bits & 1 for info in parts):
        raise BadWorkbookError(f"{path}: is protected by a password; save it without one")
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise BadWorkbookError(
            f"{path}: holds two parts named {twice[0][:80]!r}, so readers may disagree on it; {_RESAVE}"
        )
    if any(name.endswith("vbaproject.bin") for name in names):
        raise BadWorkbookError(f"{path}: contains macros; save it as .xlsx without them")
    if any(name.startswith("xl/externallinks/") for name in names):
        raise BadWorkbookError(
            f"{path}: links to other workbooks, whose values cannot be checked; "
            "break the links, which leaves their values, and save again"
        )
    if required.lower() not in names:
        raise BadWorkbookError(
            f"{path}: cannot be read as an .xlsx workbook: the part {required!r} is missing; {_RESAVE}"
        )


def _short(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__

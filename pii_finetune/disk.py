"""A full disk: told from other errors however a library words it, and said in one line."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pii_finetune.errors import DiskFullError, PiiFinetuneError

# safetensors, shutil.copytree and Arrow have errors of their own with the system's words in them, SQLite has its own
# words, and torch.save says no more than where in its C++ its file could not be written.
_WORDS = (
    *("No space left on device", "Disk quota exceeded", "database or disk is full"),
    *("PytorchStreamWriter failed", "inline_container.cc", "iostream error"),
)


@contextmanager
def told_if_full(what: str, folder: Path | str, then: str) -> Iterator[None]:
    """Say of a full disk what could not be written, where, how much is free there, and what then.

    Args:
        what: begins the sentence, e.g. "the adapter".
        folder: where it goes; the error may know better.
        then: what to do once there is room.

    Raises:
        DiskFullError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, PiiFinetuneError) or not _is_full(error):
            raise
        place = _place_of(error) or folder
        raise DiskFullError(
            f"{what} could not be written to {place}: the disk is full{_free(place)}. Make room there; {then}"
        ) from None


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place_of(error: Exception) -> Path | None:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of copytree: source, target and why, each
        return Path(error.args[0][0][1]).parent
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(name).parent if isinstance(name, str) else None


def _free(place: Path | str) -> str:
    existing = Path(place)
    if not existing.is_absolute():
        return ""
    while not existing.exists():
        existing = existing.parent
    return f" ({shutil.disk_usage(existing).free:,} bytes are free)"

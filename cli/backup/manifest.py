"""What a backup says of itself: when, of which versions, and the SHA-256 of each part."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pii_finetune.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1


class BackupError(UserError):
    """A backup cannot be made, or cannot be restored, as things are; nothing was changed unless it says so."""


@dataclass(frozen=True)
class Part:
    """One file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Beside the parts, in manifest.json."""

    format: int
    made_at: str  # UTC, ISO 8601
    versions: Mapping[str, str]  # of the packages, for people
    schemas: Mapping[str, Mapping[str, str]]  # database -> table of Alembic -> revision
    artifacts: str  # the part that holds them, or the bucket where they stayed
    parts: Mapping[str, Part]


def describe(path: Path) -> Part:
    """Return size and SHA-256 of a file."""
    with path.open("rb") as file:
        return Part(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, the last file of a backup."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a backup whose parts are all there and undamaged.

    Raises:
        BackupError: there is no backup, or it is damaged; the message says which part.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BackupError(f"{folder}: there is no such folder; FROM= names one that `make backup` made")
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if read["format"] != FORMAT:
            raise BackupError(f"{folder}: is of format {read['format']}, and this version reads format {FORMAT} alone")
        manifest = Manifest(**{**read, "parts": {name: Part(**part) for name, part in read["parts"].items()}})
    except FileNotFoundError:
        raise BackupError(f"{folder}: is no backup, it has no {MANIFEST}; FROM= names one of `make backup`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{path}: is damaged; restore another backup") from None
    for name, expected in manifest.parts.items():
        part = folder / name
        if Path(name).name != name or not part.is_file():
            raise BackupError(f"{folder}: {name} is missing; restore another backup")
        if describe(part) != expected:
            raise BackupError(f"{part}: is not what was saved (its SHA-256 differs); restore another backup")
    return manifest

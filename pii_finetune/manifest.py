"""What a model folder must hold: every file by size and SHA-256, and which base it goes with.

Hashes show that files changed, not who changed them: whoever can write the folder can write a manifest that fits.
Against that there is the signature (signing.py).
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from pii_finetune.errors import TamperedModelError

SCHEMA_VERSION = 1
UNHASHED = 0  # what release 0.1 wrote: no schema version, no hashes
MANIFEST, SIGNATURE = "manifest.json", "model.sig"  # the two that no manifest can list
CALIBRATION, ADAPTER = "calibration.json", "adapter"
_NEEDED = (CALIBRATION, f"{ADAPTER}/adapter_config.json", f"{ADAPTER}/adapter_model.safetensors")
# No kind that is unpickled, or run, when it is read: .bin, .pt, .pkl, .py.
_KINDS = (".json", ".safetensors", ".jinja", ".txt", ".md")
_REMEDY = "take an untouched copy of the model, or make a new one with `pii-finetune run`"


@dataclass(frozen=True)
class FileDigest:
    """What a file must be: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class ModelManifest:
    """What is needed to load the model anywhere, and to know that it is the one that was written."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    schema_version: int
    base_name: str
    base_revision: str | None
    base_config_sha256: str
    base_is_carried: bool
    base_files: Mapping[str, FileDigest]  # weights, tokenizer and template of a base that is not carried
    quantization: str
    dtype: str
    dataset_fingerprint: str
    files: Mapping[str, FileDigest]  # every other file of the folder, by its path below it
    code: Mapping[str, FileDigest] = field(default_factory=dict)  # what travels beside it (model_code.py)


_ADAPTER = TypeAdapter(ModelManifest)


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write the manifest to its folder."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def read_manifest(folder: Path) -> ModelManifest:
    """Read the manifest of a folder; one of release 0.1 has schema version `UNHASHED` and no files.

    Raises:
        TamperedModelError: it is missing, not a manifest, or of a schema version that is not known.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise tampered(folder, MANIFEST, "is missing, or no regular file")
    try:
        content: Any = from_json(path.read_bytes(), allow_inf_nan=False)
    except ValueError as error:
        raise tampered(folder, MANIFEST, f"is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise tampered(folder, MANIFEST, "is not a manifest")
    version = content.get("schema_version", UNHASHED)
    if "schema_version" not in content:
        content |= {"schema_version": UNHASHED, "files": {}, "base_files": {}}
    elif type(version) is not int or version != SCHEMA_VERSION:
        raise TamperedModelError(
            f"{path}: has schema_version {version!r}, and this release reads {SCHEMA_VERSION}; "
            "install the release of pii-finetune that wrote the model, or make a new one with `pii-finetune run`"
        )
    try:
        return _ADAPTER.validate_json(to_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise tampered(folder, MANIFEST, f"is not a manifest ({where!r}: {first['msg']})") from None


def digest(path: Path) -> FileDigest:
    """Return what a file is at this moment."""
    with path.open("rb") as file:
        return FileDigest(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def digest_folder(folder: Path) -> dict[str, FileDigest]:
    """Return what each file of the folder is, but for manifest and signature, by its path below the folder.

    Raises:
        TamperedModelError: the folder holds a link, or a file of a kind that no model folder has.
    """
    return {name: digest(folder / name) for name in _files(folder)}


def verify_files(folder: Path, manifest: ModelManifest) -> None:
    """Compare every file of the folder with its manifest, sizes first.

    A folder of schema version `UNHASHED` is held to the kinds of files alone.

    Raises:
        TamperedModelError: a file was changed, is missing or was added, is a link or of a kind that no model folder
            has, or a path of the manifest leaves the folder.
    """
    found = set(_files(folder))
    if manifest.schema_version == UNHASHED:
        return
    _verify_names(folder, found, manifest)
    verify_contents(folder, manifest.files)


def verify_contents(folder: Path, files: Mapping[str, FileDigest]) -> None:
    """Compare these files of the folder, which are there, with what they must be, sizes first.

    Raises:
        TamperedModelError: one was changed.
    """
    for name, expected in files.items():
        if (size := (folder / name).stat().st_size) != expected.size:
            raise tampered(folder, name, f"was changed: it has {size:,} bytes, not {expected.size:,}")
    for name, expected in files.items():
        if (actual := digest(folder / name).sha256) != expected.sha256:
            raise tampered(folder, name, f"was changed: its SHA-256 is {actual[:12]}, not {expected.sha256[:12]}")


def _verify_names(folder: Path, found: set[str], manifest: ModelManifest) -> None:
    for name in manifest.files:
        if not _stays_inside(name):
            raise tampered(folder, MANIFEST, f"names {name!r}, which is no path inside the folder")
    for name in (*_NEEDED, *manifest.files):
        if name not in found:
            raise tampered(folder, name, "is missing")
    for name in sorted(found - manifest.files.keys()):
        raise tampered(folder, name, "was added: the manifest does not list it")


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = name == str(path) and name != "." and "\\" not in name
    return is_plain and not path.is_absolute() and ".." not in path.parts


def _files(folder: Path) -> Iterator[str]:
    for path in walk(folder, folder):
        name = path.relative_to(folder).as_posix()
        if name not in (MANIFEST, SIGNATURE):
            if path.suffix not in _KINDS:
                raise tampered(folder, name, f"is of a kind that has no place there (only {', '.join(_KINDS)})")
            yield name


def walk(root: Path, folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`, which is `root` or below it; links and what is no regular file are refused."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = Path(entry.path)
            if entry.is_symlink():
                raise tampered(root, path.relative_to(root).as_posix(), "is a symbolic link, which may lead anywhere")
            if entry.is_dir(follow_symlinks=False):
                yield from walk(root, path)
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                raise tampered(root, path.relative_to(root).as_posix(), "is no regular file")


def tampered(folder: Path, name: str, problem: str) -> TamperedModelError:
    """Return the error that names a file of the folder, what is wrong with it and what to do."""
    shown = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
    return TamperedModelError(f"{folder / shown}: {problem}; {_REMEDY}")

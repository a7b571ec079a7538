"""Whether a model is what was registered: every file by its hash, and by its signature if a key is set."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pii_finetune.errors import TamperedModelError
from pii_finetune.manifest import UNHASHED, ModelManifest, read_manifest, verify_files
from pii_finetune.model_code import verify_code
from pii_finetune.registry import fetch_model
from pii_finetune.signing import verify_signature

log = logging.getLogger(__name__)


def verify_model_folder(folder: Path, accept_unhashed: bool = False) -> ModelManifest:
    """Return the manifest of a folder after comparing every file with it, and its signature if a key is set.

    Args:
        folder: what write_model_folder wrote.
        accept_unhashed: also take a folder of release 0.1, whose manifest has no hashes, with a warning. Such a model
            may be compared with; it is not served, or else removing the hashes would be a way around them.

    Raises:
        TamperedModelError: something in the folder is not as it was written, or signed.
        BadConfigError: PII_FINETUNE_VERIFY_KEY is set and cannot be used.
    """
    manifest = read_manifest(folder)
    if manifest.schema_version == UNHASHED and not accept_unhashed:
        raise TamperedModelError(
            f"{folder}: its manifest has no hashes, so nobody can tell whether it was changed; "
            "release 0.1 wrote such models: make a new one with `pii-finetune run`"
        )
    verify_files(folder, manifest)
    verify_signature(folder)
    if manifest.schema_version == UNHASHED:
        log.warning("%s: the manifest has no hashes (release 0.1), so its files could not be verified", folder)
    return manifest


@contextmanager
def naming(uri: str, fetched: Path) -> Iterator[None]:
    """Have what is wrong with a fetched model told by the name it is registered under: the copy is gone by then."""
    try:
        yield
    except TamperedModelError as error:
        raise TamperedModelError(str(error).replace(f"{fetched}/", f"{uri}, ")) from None


def verify_registered(uri: str) -> None:
    """Fetch a registered model, run nothing of it, and compare it with its manifest, the code that travels with it too.

    Raises:
        MissingModelError: there is no such model, or it was not registered by this project.
        TamperedModelError, BadConfigError: as verify_model_folder.
    """
    with tempfile.TemporaryDirectory(prefix="pii-finetune-model-") as fetched:
        model, folder = fetch_model(uri, Path(fetched))
        with naming(uri, Path(fetched)):
            verify_code(model, verify_model_folder(folder).code)

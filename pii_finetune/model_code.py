"""The code that travels with a served model, in `code/` beside its folder, and whether it is still what was registered.

MLflow has imported it by the time it is looked at, so this finds damage, careless edits and other people's mistakes; it
does not stop who may write to the artifact store. Scoring a table, evaluating and exporting run none of this code.
"""

from collections.abc import Mapping
from pathlib import Path

from pii_finetune.manifest import FileDigest, digest, tampered, verify_contents, walk

MODEL_CODE = "production_model.py"  # MLflow copies it to the top, and runs it
_PACKAGE = Path(__file__).parent
_CACHE = "__pycache__"  # MLflow leaves it out, and Python writes it anew beside the code it runs


def digest_code() -> dict[str, FileDigest]:
    """Return what each file of this package is, by the path that it has in a registered model."""
    below = Path("code") / _PACKAGE.name
    found = {(below / name).as_posix(): digest(_PACKAGE / name) for name in _files(_PACKAGE)}
    return {MODEL_CODE: digest(_PACKAGE / MODEL_CODE), **found}


def verify_code(model: Path, code: Mapping[str, FileDigest]) -> None:
    """Compare the code of a registered model, which MLflow put at `model`, with its manifest's.

    Raises:
        TamperedModelError: a file was changed, is missing or was added, or is a link.
    """
    if not code:  # registered before manifests listed it
        return
    found = {name for name in code if name == MODEL_CODE and (model / name).is_file()}
    if (model / "code").is_dir():
        found |= {f"code/{name}" for name in _files(model / "code")}
    for name in code:
        if name not in found:
            raise tampered(model, name, "is missing")
    for name in sorted(found - code.keys()):
        raise tampered(model, name, "was added: the manifest does not list it")
    verify_contents(model, code)


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in walk(folder, folder))
    return [name.as_posix() for name in names if _CACHE not in name.parts]

"""Whether the base can be had, before a run begins: whole in its folder, or on a hub that answers, with room for it."""

import logging
import os
import shutil
from pathlib import Path

from huggingface_hub import HfApi, close_session, constants, scan_cache_dir, snapshot_download, try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from pii_finetune.base_model import deciding_files, local_folder, weight_files
from pii_finetune.config import BaseConfig
from pii_finetune.errors import DiskFullError, MissingModelError
from pii_finetune.paths import resolve

# The hub answers this in a fraction of a second. Its client waits 10 s a request, and asks for each of many files.
_ANSWER_SECONDS = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "5"))
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")
_SINGLE = "model.safetensors"
_LOGGER = logging.getLogger(__name__)


def require_base(base: BaseConfig) -> None:
    """Check the files of a base in a folder; ask the hub for one of the hub, and whether what is missing finds room.

    Where the hub gives no answer and the base is on this machine, this process goes on without the hub.

    Raises:
        MissingModelError: a file is missing or cut off; or the hub gives no answer and not all is on this machine.
        DiskFullError: there is less room than what is missing needs.
    """
    if (folder := local_folder(base)) is not None:
        _require_whole(base, folder)
        return
    if resolve(base.name).parent.is_dir() or constants.is_offline_mode():
        return  # meant as a folder, or to be taken from the cache: transformers is told so, and tells
    try:
        found = HfApi().model_info(base.name, revision=base.revision, files_metadata=True, timeout=_ANSWER_SECONDS)
    except Exception as error:  # noqa: BLE001  whatever HTTP client the hub's is built on
        status = getattr(getattr(error, "response", None), "status_code", 500)
        if status >= 500:
            _go_on_without_hub(base, error)
        return
    sizes = {each.rfilename: each.size or 0 for each in found.siblings or ()}
    suffixes = tuple(pattern.removeprefix("*") for pattern in _SMALL)
    wanted = [name for name in sizes if name == _SINGLE or (_SINGLE not in sizes and name.endswith(".safetensors"))]
    wanted += [name for name in sizes if name.endswith(suffixes) and "/" not in name]
    missing = [name for name in wanted if not _is_cached(base, name, found.sha)]
    needed, cache = sum(sizes[name] for name in missing), Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(_existing(cache)).free
    if needed > free:
        raise DiskFullError(
            f"base.name = {base.name!r}: {len(missing)} files of {needed:,} bytes are still to be fetched from the hub "
            f"and {free:,} bytes are free in {cache}; make room there, or set HF_HOME to a folder on a larger disk"
        )


def _require_whole(base: BaseConfig, folder: Path) -> None:
    for name in ("config.json", *weight_files(folder)):
        if not (folder / name).is_file():
            raise MissingModelError(f"base.name = {base.name!r}: {folder / name} is missing; copy the folder again")
    for path in deciding_files(base).values():
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt"):  # reads the header, which says how long the file must be
                    pass
            except (SafetensorError, OSError) as error:
                raise MissingModelError(
                    f"base.name = {base.name!r}: {path} is cut off or damaged ({error}); copy it again"
                ) from None


def _go_on_without_hub(base: BaseConfig, error: Exception) -> None:
    silence = f"the hub {constants.ENDPOINT} gave no answer ({type(error).__name__}: {str(error).strip()[:100]})"
    try:
        here = Path(
            snapshot_download(
                base.name,
                revision=base.revision,
                allow_patterns=[*_SMALL, "*.safetensors"],
                local_files_only=True,
            )
        )
        complete = (here / "config.json").is_file() and all((here / name).is_file() for name in weight_files(here))
    except OSError:
        complete = False
    if not complete:
        raise MissingModelError(
            f"base.name = {base.name!r}: {silence}, and of this model {_cached(base)} in {constants.HF_HUB_CACHE}; "
            "try again later, or give a folder that holds the model (HF_ENDPOINT names the hub, HF_HOME the cache)"
        ) from None
    _LOGGER.warning("%s: %s is used as it is on this machine", silence, base.name)
    constants.HF_HUB_OFFLINE = True  # else each file is asked for, and waited for, again
    close_session()


def _cached(base: BaseConfig) -> str:
    if not Path(constants.HF_HUB_CACHE).is_dir():
        return "nothing is"
    repos = [each for each in scan_cache_dir().repos if each.repo_id == base.name]
    names = sorted({file.file_name for repo in repos for revision in repo.revisions for file in revision.files})
    return f"only {', '.join(names)} {'is' if len(names) == 1 else 'are'}" if names else "nothing is"


def _is_cached(base: BaseConfig, name: str, commit: str | None) -> bool:
    return isinstance(try_to_load_from_cache(base.name, name, revision=commit), str)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder

"""Checkpoints that are whole or not there.

Trainer writes checkpoint-N in place; a kill or a full disk leaves part of one, which the next start would take for the
newest. Here it is written into a folder that no start looks at, synced, listed with hashes in a manifest inside it and
then renamed. A start takes the newest one that is as its manifest says.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import Trainer

from pii_finetune.distributed.ranks import any_rank, rank, wait_for_ranks
from pii_finetune.errors import TamperedModelError
from pii_finetune.manifest import FileDigest, digest, verify_contents, walk

MANIFEST = "checkpoint.json"
_ASIDE = "being-written"
_LOGGER = logging.getLogger(__name__)


class WholeCheckpoints(Trainer):
    """Mixed in before a trainer: its checkpoints are whole or not there, and a full disk does not end the training."""

    model: Any
    _aside: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or super()._get_output_dir(trial))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # a checkpoint of the last step: Trainer would take one more
        else:
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write it aside, each process its part; the first one puts it in place, if every part could be written."""
        folder = Path(self.args.output_dir or ".")
        aside = folder / _ASIDE

        def write() -> None:
            aside.mkdir(parents=True, exist_ok=True)
            self._aside = aside
            super(WholeCheckpoints, self)._save_checkpoint(model, trial)

        if rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
        wait_for_ranks()
        try:
            is_written = self._has_room_to(write, folder)
        finally:
            self._aside = None
        if not any_rank(not is_written) and rank() == 0:
            written = aside / f"checkpoint-{self.state.global_step}"
            self._has_room_to(lambda: _publish(written, folder, self.args.save_total_limit or 1), folder)
        if rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
        wait_for_ranks()  # who stops after this checkpoint must not do so before it is there

    def _has_room_to(self, write: Callable[[], None], folder: Path) -> bool:
        try:
            write()
        except (OSError, SafetensorError, RuntimeError) as error:
            if not _is_of_the_disk(error):
                raise
            _LOGGER.warning("%s", self._not_saved(folder, error))
            return False
        return True

    def _not_saved(self, folder: Path, error: Exception) -> str:
        trained = [p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad]
        needed = 4 * sum(trained)  # weights, two moments of Adam, and a reference or what else there is
        kept = next(_newest_first(folder), None)
        return (
            f"step {self.state.global_step}: no checkpoint could be written to {folder} ({_first_line(error)}): "
            f"{shutil.disk_usage(folder).free:,} bytes are free there and about {needed:,} needed; the training goes "
            f"on, and a restart would go back to {kept.name if kept else 'the start'}. Make room there"
        )


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint in the folder that is as it was written, and why each newer one is not."""
    skipped: list[str] = []
    for checkpoint in _newest_first(folder):
        try:
            _verify(checkpoint)
        except (TamperedModelError, OSError, ValueError) as error:
            skipped.append(f"{checkpoint.name} is skipped: {_first_line(error).partition('; take an untouched')[0]}")
        else:
            return checkpoint, skipped
    return None, skipped


def _newest_first(folder: Path) -> Iterator[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return iter(sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))))


def _publish(written: Path, folder: Path, num_kept: int) -> None:
    (written / "training_args.bin").unlink(missing_ok=True)  # a pickle that no resume reads
    _seal(written)
    target = folder / written.name
    shutil.rmtree(target, ignore_errors=True)  # one that did not verify, else the training would be past it
    written.rename(target)
    _sync(folder)
    for old in list(_newest_first(folder))[num_kept:]:
        shutil.rmtree(old, ignore_errors=True)


def _seal(checkpoint: Path) -> None:
    """Write the manifest, and have all of it on the disk."""
    files = {}
    for path in walk(checkpoint, checkpoint):
        _sync(path)
        files[path.relative_to(checkpoint).as_posix()] = asdict(digest(path))
    (checkpoint / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")
    _sync(checkpoint / MANIFEST)
    for path in (*(each for each in checkpoint.rglob("*") if each.is_dir()), checkpoint):
        _sync(path)


def _verify(checkpoint: Path) -> None:
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"it has no {MANIFEST}, so it was not written to its end")
    files = {name: FileDigest(**each) for name, each in json.loads(manifest.read_text(encoding="utf-8")).items()}
    for name in files:
        if not (checkpoint / name).is_file():
            raise ValueError(f"{name} is missing")
    verify_contents(checkpoint, files)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_of_the_disk(error: Exception) -> bool:
    """Whether writing failed: torch and safetensors say so by errors of their own."""
    told = str(error)
    return isinstance(error, OSError | SafetensorError) or "PytorchStreamWriter" in told or "inline_container" in told


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0][:200]

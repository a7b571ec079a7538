"""One of the processes that train together: python -m pii_finetune.distributed.worker JOB PARENT, by torch's agent."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from pii_finetune.distributed.die_with_parent import die_with_parent
from pii_finetune.distributed.job import Job, read_job
from pii_finetune.distributed.messages import tell
from pii_finetune.errors import PiiFinetuneError
from pii_finetune.memory import lack_of_memory
from pii_finetune.quiet import quiet_libraries
from pii_finetune.stopping import Stoppable
from pii_finetune.training import Adapter, TrainingUpdate, finish

_RANK = int(os.environ.get("RANK", "0"))


class _ToRun(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        who = f"process {_RANK}: " if _RANK else ""
        tell("log", [record.levelno, who + record.getMessage()])


def work(path: Path) -> None:
    """Do this process's part of the job; what comes of it, or why nothing does, is told to the run.

    An error that trying again would not mend is told and ends the process well, for the agent not to try. After any
    other the agent starts all of them again, from the last checkpoint.
    """
    quiet_libraries()
    package = logging.getLogger("pii_finetune")
    package.setLevel(logging.WARNING if _RANK else logging.INFO)
    package.addHandler(_ToRun())
    if _RANK == 0:
        tell("started", int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
    try:
        adapter = _train(read_job(path))
    except (PiiFinetuneError, RuntimeError) as error:
        told = lack_of_memory(error)
        if told is None and not isinstance(error, PiiFinetuneError):
            raise
        kind = "OutOfMemory" if told is not None else type(error).__name__
        tell("error", [kind, told or str(error)])
    else:
        if _RANK == 0:
            tell("adapter", asdict(adapter) | {"path": str(adapter.path)})
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _train(job: Job) -> Adapter:
    if job.config.base.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if job.stage == "sft":
        from pii_finetune.sft import sft_trainer

        trainer, fallback = sft_trainer(job.splits, job.config, job.folder, _on_update)
    else:
        from pii_finetune.dpo import dpo_trainer

        assert job.start is not None  # noqa: S101  a DPO job has one
        trainer, fallback = dpo_trainer(job.splits, job.start, job.config, job.folder, _on_update)
    return finish(trainer, job.config, job.folder, fallback, _stopping_on_word)


def _on_update(update: TrainingUpdate) -> None:
    if _RANK == 0:
        tell("update", [update.step, update.num_steps, dict(update.metrics)])


@contextmanager
def _stopping_on_word(training: Stoppable) -> Iterator[None]:
    """Stop when the run writes a line, which any of the processes may read: they ask each other."""

    def listen() -> None:
        if os.read(0, 1):  # not sys.stdin: a thread that waits there holds up the end of the process
            training.ask()

    threading.Thread(target=listen, daemon=True).start()
    yield


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    work(Path(sys.argv[1]))

"""A training in processes of its own, as the run sees it: an adapter comes back, or an error that says why not."""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import torch

from pii_finetune import errors
from pii_finetune.config import RunConfig, RuntimeConfig
from pii_finetune.distributed.job import Job, Stage, write_job
from pii_finetune.distributed.messages import understand
from pii_finetune.distributed.share import share_of_batch
from pii_finetune.splits import Splits
from pii_finetune.stopping import stopping_on_sigterm
from pii_finetune.training import Adapter, OnUpdate, TrainingUpdate

_LOGGER = logging.getLogger(__name__)
_NUM_LAST_LINES = 30  # of what was printed, kept to explain a death


def train_in_processes(
    stage: Stage, splits: Splits, config: RunConfig, folder: Path, on_update: OnUpdate, start: Path | None = None
) -> Adapter:
    """Train in `runtime.num_processes` processes, each on its share of every batch.

    A process that dies is started again with all others, at most `runtime.max_restarts` times, from the newest whole
    checkpoint. None of them outlives this one.

    Raises:
        LostProcessError: they died more often than that.
        PiiFinetuneError: whatever ended the training in one of them.
    """
    share = share_of_batch(stage, getattr(config, stage), config.runtime.num_processes)
    job = Job(stage, config.model_copy(update={stage: share}), splits, folder, start)
    with launched(job) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101  both are pipes
        with stopping_on_sigterm(_Word(process.stdin)):
            return _Training(config.runtime, on_update).follow(process.stdout)


@contextmanager
def launched(job: Job) -> Iterator["subprocess.Popen[str]"]:
    """Start this machine's processes of a job, and leave none behind; what they say comes on standard output."""
    command = [sys.executable, "-u", "-m", "pii_finetune.distributed.launcher", str(write_job(job)), str(os.getpid())]
    threads = str(max(1, (os.cpu_count() or 1) // job.config.runtime.num_here))
    environment = {
        # Processes that spin while they wait for each other's threads take the cores that these would run on.
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",
        # A store that outlives a restart holds the addresses of the dead, for which PyTorch 2.13 then waits.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    } | os.environ
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C at a terminal is for the run, which says it on
    )
    try:
        yield process
    finally:
        process.kill()  # the kernel then kills all it started
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class _Word:
    """Says to the processes that they are to stop."""

    def __init__(self, to: IO[str]) -> None:
        self._to = to

    def ask(self) -> None:
        self._to.write("stop\n")
        self._to.flush()


class _Training:
    """What the processes have told so far."""

    def __init__(self, runtime: RuntimeConfig, on_update: OnUpdate) -> None:
        self._runtime, self._on_update = runtime, on_update
        self._others: deque[str] = deque(maxlen=_NUM_LAST_LINES)
        self._ends: list[str] = []
        self._adapter: Adapter | None = None
        self._has_begun = False

    def follow(self, lines: IO[str]) -> Adapter:
        """Hear all there is to hear, and return the adapter."""
        for line in lines:
            message = understand(line)
            if message is not None:
                self._hear(*message)
            elif line.strip():
                self._others.append(line.strip())
            if self._adapter is not None and self._runtime.num_nodes == 1:
                break  # the agents of several machines are left to end together
        if self._adapter is None:
            raise errors.LostProcessError(
                f"processes of the training died {self._runtime.max_restarts + 1} times, the last time "
                f"{' and '.join(self._ends) or 'with the one that starts them'}{self._last_error()}; "
                "its checkpoints are kept, and a rerun goes on from the newest"
            )
        return self._adapter

    def _hear(self, kind: str, content: Any) -> None:
        if kind == "update":
            step, num_steps, metrics = content
            self._on_update(TrainingUpdate(step, num_steps, metrics))
        elif kind == "log":
            _LOGGER.log(*content)
        elif kind == "refused" and not self._has_begun:
            raise errors.OtherCodeError(content)
        elif kind == "refused":
            _LOGGER.warning("%s", content)
        elif kind == "started":
            self._started(content)
        elif kind == "failed":
            self._ends = [f"process {number} with exit code {code}" for number, code in content.items()]
        elif kind == "error":
            _raise(*content)
        elif kind == "adapter":
            curves = {key: [(step, value) for step, value in curve] for key, curve in content["curves"].items()}
            self._adapter = Adapter(**(content | {"path": Path(content["path"]), "curves": curves}))

    def _started(self, num_restarts: int) -> None:
        self._has_begun = True  # so every machine has come that is needed
        if num_restarts:
            _LOGGER.warning(
                "a process of the training died%s; all are started again from the newest checkpoint (%d of at most %d "
                "times)",
                *(self._last_error(), num_restarts, self._runtime.max_restarts),
            )

    def _last_error(self) -> str:
        """Return the last error that was printed, in brackets."""
        said = [line for line in self._others if "Error" in line]
        return f" ({said[-1][:300]})" if said else ""


def _raise(kind: str, told: str) -> NoReturn:
    if kind == "OutOfMemory":
        raise torch.OutOfMemoryError(told)
    known: Any = getattr(errors, kind)
    raise known(told)

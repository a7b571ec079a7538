"""What people read in a run's log."""

import logging

from prefect.exceptions import CancelledRun, MissingContextError
from prefect.logging import get_run_logger

from pii_finetune.errors import PiiFinetuneError, TrainingPrunedError


class _WithoutTraceback(logging.Filter):
    """What we raise on purpose is told by its message; a traceback through our code would only bury it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CancelledRun):
            return False  # Prefect's own word for a flow that ended as Cancelled, which is said already
        if isinstance(error, PiiFinetuneError):
            record.exc_info = None
            record.exc_text = None
        if TrainingPrunedError.__name__ in record.getMessage():  # a trial that was stopped early did nothing wrong
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return True


def show_user_errors_plainly() -> None:
    """Keep tracebacks of errors that explain themselves out of the logs of this process's flow and task runs."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _WithoutTraceback) for existing in logger.filters):
            logger.addFilter(_WithoutTraceback())


class _ToRunLog(logging.Handler):
    """Hands on what the package says to the log of the task or flow run that called it, else to where all goes."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            log = get_run_logger()
        except MissingContextError:
            logging.getLogger().handle(record)
            return
        log.log(record.levelno, record.getMessage())


def show_what_the_package_says() -> None:
    """Let the package's own log, which knows nothing of Prefect, be read in the runs' logs."""
    package = logging.getLogger("pii_finetune")
    package.setLevel(logging.INFO)
    package.propagate = False  # or Prefect would print each line a second time
    if not any(isinstance(each, _ToRunLog) for each in package.handlers):
        package.addHandler(_ToRunLog())

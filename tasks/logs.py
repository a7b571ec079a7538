"""What people read in a run's log."""

import logging

from pii_finetune.errors import PiiFinetuneError


class _WithoutTraceback(logging.Filter):
    """What we raise on purpose is told by its message; a traceback through our code would only bury it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], PiiFinetuneError):
            record.exc_info = None
            record.exc_text = None
        return True


def show_user_errors_plainly() -> None:
    """Keep tracebacks of errors that explain themselves out of the logs of this process's flow and task runs."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _WithoutTraceback) for existing in logger.filters):
            logger.addFilter(_WithoutTraceback())

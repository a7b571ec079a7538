"""Prefect's console log, without its end: a run outlives the worker that reads what it prints."""

import contextlib
import logging

from prefect.logging.handlers import PrefectConsoleHandler


class EnduringConsoleHandler(PrefectConsoleHandler):
    """Loses a line whose reader died, as logging's own handlers do; Rich, beneath Prefect's, ends the process."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record if anybody reads."""
        with contextlib.suppress(SystemExit):
            super().emit(record)

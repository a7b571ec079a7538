"""Metrics on their way to MLflow, in a file: what a process that is killed had not delivered, the next one finds."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    timestamp: int  # ms since 1970, when it was measured
    step: int


class Spool:
    """A line for every step, in order. A disk that is full costs the file, never the training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_cut = False  # whether the last line may lack its end
        self._is_failing = False

    def read(self) -> list[Point]:
        """Return what was left there; a line that was cut short is left out, and said."""
        if not self.path.exists():
            return []
        points: list[Point] = []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                step, timestamp = int(entry["step"]), int(entry["timestamp"])
                points += [Point(key, float(value), timestamp, step) for key, value in entry["metrics"].items()]
            except (ValueError, KeyError, TypeError, AttributeError):
                _LOGGER.warning("%s: line %d was cut short and is left out", self.path, number)
        self._is_cut = bool(lines) and not lines[-1].endswith("\n")
        return points

    def append(self, metrics: Mapping[str, float], timestamp: int, step: int) -> list[Point]:
        """Write a line, and return its points whether it could be written or not."""
        entry = json.dumps({"step": step, "timestamp": timestamp, "metrics": dict(metrics)})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{entry}\n" if self._is_cut else f"{entry}\n")
            self._is_cut = self._is_failing = False
        except OSError as error:
            self._is_cut = True
            if not self._is_failing:
                self._is_failing = True
                _LOGGER.warning(
                    "%s: cannot be written (%s); the training goes on, and metrics that MLflow has not got yet are "
                    "in memory only",
                    *(self.path, error.strerror or error),
                )
        return [Point(key, value, timestamp, step) for key, value in metrics.items()]

    def clear(self) -> None:
        """Forget all: it was delivered."""
        try:
            self.path.unlink(missing_ok=True)
            self._is_cut = False
        except OSError as error:  # lines that stay are held against what MLflow has before they are sent
            _LOGGER.warning("%s: cannot be removed (%s)", self.path, error.strerror or error)

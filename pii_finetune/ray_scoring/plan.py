"""Which part holds which rows, and what a folder's parts are parts of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pii_finetune.errors import BadWorkbookError
from pii_finetune.row_range import RowRange

_NUM_NAMED = 5  # tables in a message


@dataclass(frozen=True)
class Job:
    """All that decides the parts: two jobs that are equal make the same ones."""

    tables: dict[str, dict[str, str]]  # by name: size, time and the like
    columns: tuple[str, str | None]
    rows_per_part: int
    model: str  # the SHA-256 of its manifest
    code: str  # of this package and its libraries

    @property
    def key(self) -> str:
        """A hash that every part carries."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def require_same(self, before: "Job", target: str) -> None:
        """Raise BadWorkbookError if `before`, of which there are parts, was another one."""
        if reasons := [*_changed_tables(before.tables, self.tables), *self._other_settings(before)]:
            raise BadWorkbookError(
                f"--out {target}: holds parts of another scoring ({'; '.join(reasons)}); put that back to finish it, "
                "or name another folder, or remove this one to begin anew"
            )

    def _other_settings(self, before: "Job") -> list[str]:
        named = {
            "the model is another one": (before.model, self.model),
            "the columns asked for are others": (tuple(before.columns), tuple(self.columns)),
            f"parts had {before.rows_per_part:,} rows": (before.rows_per_part, self.rows_per_part),
            "pii-finetune, or a library it answers with, is another version": (before.code, self.code),
        }
        return [reason for reason, (old, new) in named.items() if old != new]


@dataclass(frozen=True)
class Part:
    """Some rows of one table, which become one file."""

    number: int
    table: str
    rows: RowRange

    @property
    def name(self) -> str:
        """The file's."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Plan:
    """A job and its parts, in the order of the tables' names and of their rows."""

    job: Job
    parts: tuple[Part, ...]

    @property
    def num_rows(self) -> int:
        """Of all parts."""
        return sum(part.rows.num_rows for part in self.parts)

    def to_json(self) -> str:
        """Return the plan as it is kept."""
        parts = [[part.table, *asdict(part.rows).values()] for part in self.parts]
        return json.dumps({"job": asdict(self.job), "parts": parts}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return a plan that was kept."""
        kept = json.loads(text)
        job = Job(**kept["job"] | {"columns": tuple(kept["job"]["columns"])})
        parts = enumerate(kept["parts"])
        return cls(job, tuple(Part(number, table, RowRange(*rows)) for number, (table, *rows) in parts))


def make_plan(job: Job, ranges: Mapping[str, Sequence[RowRange]]) -> Plan:
    """Number the ranges of all tables."""
    found = [(name, rows) for name in sorted(ranges) for rows in ranges[name]]
    return Plan(job, tuple(Part(number, name, rows) for number, (name, rows) in enumerate(found)))


def _changed_tables(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    kinds = {
        "changed": [name for name in before.keys() & now.keys() if before[name] != now[name]],
        "new": now.keys() - before.keys(),
        "gone": before.keys() - now.keys(),
    }
    return [f"{kind}: {_name(sorted(names))}" for kind, names in kinds.items() if names]


def _name(names: list[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more

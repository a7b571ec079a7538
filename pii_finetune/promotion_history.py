"""Who put which version into production, when and why: kept by the registry itself, a tag of the version each time.

A tag `promotion.2026-03-01T09:30:00.000000Z` holds the rest as JSON. A tag of its own for each promotion, so that a
version promoted again keeps all of them, and so that writing one twice changes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

_TAG = "promotion."
_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_REASON_LENGTH = 2000

Kind = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Promotion:
    """One version's way into production."""

    version: str
    at: str  # UTC, ISO 8601, microseconds
    previous: str | None  # the version it took the place of
    by: str  # user@host, or the flow run
    reason: str
    kind: Kind


def record(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Keep the promotion as a tag of its version."""
    fields = asdict(promotion)
    version, at = fields.pop("version"), fields.pop("at")
    client.set_model_version_tag(name, version, f"{_TAG}{at}", json.dumps(fields, ensure_ascii=False))


def history(name: str) -> tuple[Promotion, ...]:
    """Return every recorded promotion of the model, the oldest first. Deleted versions take theirs with them."""
    return history_of(MlflowClient().search_model_versions(f"name='{name}'"))


def history_of(versions: Sequence[ModelVersion]) -> tuple[Promotion, ...]:
    """Return the promotions recorded on these versions of one model, the oldest first."""
    found = [
        Promotion(version=str(version.version), at=key.removeprefix(_TAG), **json.loads(value))
        for version in versions
        for key, value in version.tags.items()
        if key.startswith(_TAG)
    ]
    return tuple(sorted(found, key=lambda each: each.at))


def next_moment(past: Sequence[Promotion]) -> str:
    """Return the time now, or just after the last promotion if that was stamped by a clock that is ahead of ours."""
    now = datetime.now(UTC)
    if past:
        last = datetime.strptime(past[-1].at, _FORMAT).replace(tzinfo=UTC)
        now = max(now, last + timedelta(microseconds=1))
    return now.strftime(_FORMAT)


def one_line(reason: str) -> str:
    """Return the reason on one line, without control characters, at the length a tag can hold in every store."""
    line = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return line if len(line) <= _REASON_LENGTH else f"{line[: _REASON_LENGTH - 1]}…"


def version_before(past: Sequence[Promotion], current: str | None) -> str | None:
    """Return the version that was in production before `current`; None if history knows of none.

    Going back twice goes back two models, not to and fro: what a rollback left is not returned to.
    """
    stack: list[str] = []
    for each in past:
        if each.previous is not None and stack[-1:] != [each.previous]:
            stack.append(each.previous)  # it came there by another way than ours
        if each.kind == "rollback" and each.version in stack:
            while stack[-1] != each.version:
                stack.pop()
        else:
            stack.append(each.version)
    while stack and stack[-1] == current:
        stack.pop()
    return stack[-1] if stack else None

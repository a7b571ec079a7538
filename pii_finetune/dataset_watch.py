"""Whether a dataset is another one than before: by what a look at the file costs, then by its rows."""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from pii_finetune.config import RunConfig
from pii_finetune.errors import BadWorkbookError, SourceOutOfReachError
from pii_finetune.remote_file import shown_source
from pii_finetune.source_mark import source_mark
from pii_finetune.validation import ValidationReport, validate
from pii_finetune.workbook import read_workbook

_LONGEST_WAIT = 60  # times the stable period; a file that changes for longer is looked at the next time


def wait_until_stable(source: str, seconds: float) -> str | None:
    """Return the file's mark once it was the same for `seconds`: nobody is writing it any more.

    Raises:
        BadWorkbookError: it is gone.
        SourceOutOfReachError: it went on changing for too long, or could not be looked at.
    """
    deadline = time.monotonic() + _LONGEST_WAIT * seconds
    mark = source_mark(source)
    while mark is not None:
        time.sleep(seconds)
        before, mark = mark, source_mark(source)
        if mark == before:
            break
        if time.monotonic() > deadline:
            raise SourceOutOfReachError(
                f"{shown_source(source)}: is being written all the time; it is looked at again the next time"
            )
    return mark


def read_rows(config: RunConfig) -> ValidationReport:
    """Validate the config's dataset as a run would.

    Raises:
        BadWorkbookError: it cannot be trained on.
        SourceOutOfReachError: it could not be read this time.
    """
    return validate(read_workbook(config.data), None, config.data).require_valid()


def has_other_rows(config: RunConfig, fingerprint: str, mark: str | None) -> bool:
    """Return whether the source now holds other rows than those of `fingerprint`, read when it had `mark`.

    A dataset that is gone, or that nobody could train on, holds other rows too.

    Raises:
        SourceOutOfReachError: it could not be read, so nobody knows.
    """
    try:
        if mark is not None and source_mark(config.data.workbook) == mark:
            return False
        return read_rows(config).fingerprint != fingerprint
    except SourceOutOfReachError:
        raise
    except BadWorkbookError:
        return True


def settings_key(profile: str, data: str | None, overrides: Mapping[str, Any]) -> str:
    """Return a short key of a deployment's parameters: the same for the same dataset trained the same way."""
    given = json.dumps([profile, data, dict(overrides)], sort_keys=True, default=str)
    return hashlib.sha256(given.encode()).hexdigest()[:16]


def attempt_key(settings: str, fingerprint: str, previous: str) -> str:
    """Return the idempotency key of the attempt that follows `previous`.

    All who see the same last attempt and the same rows make the same key. Rows that come back after others were
    trained on follow another attempt, and so are trained on again.
    """
    return hashlib.sha256(f"{settings}\n{fingerprint}\n{previous}".encode()).hexdigest()

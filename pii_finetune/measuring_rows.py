"""Rows that measure a model and are never trained on: of unseen concepts, and a test split that stays the same."""

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.records import Record
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook


def unseen_rows(config: DataConfig) -> tuple[Record, ...]:
    """Return the rows of `data.unseen` in the languages of the run; there may be none.

    Raises:
        BadWorkbookError: it cannot be measured on.
    """
    return () if config.unseen is None else _read(config.unseen, config)


def frozen_rows(config: DataConfig) -> tuple[Record, ...]:
    """Return the rows of `data.frozen_test` in the languages of the run; none only if none is set.

    Raises:
        BadWorkbookError: it cannot be measured on, or holds no row in these languages.
    """
    if config.frozen_test is None:
        return ()
    rows = _read(config.frozen_test, config)
    if not rows:
        raise BadWorkbookError(
            f"data.frozen_test = {config.frozen_test!r}: holds no row in {' or '.join(config.languages or ())}, which "
            "data.languages names, so nothing could be measured; add such rows, or set data.frozen_test=null"
        )
    return rows


def _read(workbook: str, config: DataConfig) -> tuple[Record, ...]:
    """Read a table all of which must be good; its rows are chosen afterwards, for a few may be enough to measure on."""
    settings = config.model_copy(update={"workbook": workbook, "sheet": None, "languages": None})
    rows = validate(read_workbook(settings), None, settings).require_valid().records
    return rows if config.languages is None else tuple(row for row in rows if row.language in config.languages)

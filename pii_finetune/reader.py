"""The process that reads one untrusted table: `python -m pii_finetune.reader FOLDER`; see `isolation`."""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError

if TYPE_CHECKING:
    from pii_finetune.remote_table import TablePath


def main(folder: Path) -> None:
    """Do what request.json asks and leave rows.arrow and reply.json, or reply.json with the error."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    config = DataConfig.model_validate(request["config"])
    limit = config.read_memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from pii_finetune.isolation import REPLY

    try:
        if "marks" in request:
            reply = _mark(request, config)
        elif "rows_per_range" in request:
            reply = _split(request, config)
        else:
            reply = _copy(request, config) if "copy_to" in request else _read(folder, config)
    except BadWorkbookError as error:
        reply = {"error": str(error)}
    (folder / REPLY).write_text(json.dumps(reply), encoding="utf-8")


def _read(folder: Path, config: DataConfig) -> dict[str, Any]:
    import pyarrow as pa

    from pii_finetune.isolation import ROWS
    from pii_finetune.tables import read_table

    found = read_table(Path(config.workbook), config)
    with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, found.rows.schema) as writer:
        writer.write_table(found.rows)
    return {"sheet": found.sheet, "extra_columns": found.extra_columns, "notes": found.notes}


def _mark(request: dict[str, Any], config: DataConfig) -> dict[str, Any]:
    from pii_finetune.marking import mark_cells

    mark_cells(Path(config.workbook), config, request["sheet"], request["marks"], Path(request["target"]))
    return {}


def _copy(request: dict[str, Any], config: DataConfig) -> dict[str, Any]:
    from pii_finetune.row_range import RowRange
    from pii_finetune.table_copy import copy_table

    required = bool(request["language_is_required"])
    rows = RowRange(**request["rows"]) if request.get("rows") else None
    with _named(config.workbook) as table:
        return {"num_rows": copy_table(table, config, required, Path(request["copy_to"]), rows)}


def _split(request: dict[str, Any], config: DataConfig) -> dict[str, Any]:
    from dataclasses import asdict

    from pii_finetune.table_copy import split_table

    required = bool(request["language_is_required"])
    with _named(config.workbook) as table:
        ranges = split_table(table, config, required, int(request["rows_per_range"]))
    return {"ranges": [asdict(rows) for rows in ranges]}


@contextmanager
def _named(source: str) -> Iterator["TablePath"]:
    """Yield what a table at a path or a URL is opened by; what a file system raises on the way is told as such."""
    from pii_finetune.remote_file import is_remote, unreadable
    from pii_finetune.remote_table import RemoteTable

    if not is_remote(source):
        yield Path(source)
        return
    try:
        yield RemoteTable(source)
    except (BadWorkbookError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise unreadable(source, error) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

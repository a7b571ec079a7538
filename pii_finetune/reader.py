"""The process that reads one untrusted table: `python -m pii_finetune.reader FOLDER`; see `isolation`."""

import json
import resource
import sys
from pathlib import Path

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError


def main(folder: Path) -> None:
    """Read what request.json names and leave rows.arrow and reply.json, or reply.json with the error."""
    config = DataConfig.model_validate_json((folder / "request.json").read_text())
    limit = config.read_memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from pii_finetune.isolation import REPLY, ROWS

    try:
        import pyarrow as pa

        from pii_finetune.tables import read_table

        found = read_table(Path(config.workbook), config)
        with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, found.rows.schema) as writer:
            writer.write_table(found.rows)
        reply = {"sheet": found.sheet, "extra_columns": found.extra_columns, "notes": found.notes}
    except BadWorkbookError as error:
        reply = {"error": str(error)}
    (folder / REPLY).write_text(json.dumps(reply))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

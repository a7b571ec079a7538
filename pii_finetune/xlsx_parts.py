"""Where in an .xlsx archive a sheet is."""

import posixpath
import zipfile
from pathlib import Path
from xml.parsers import expat

from pii_finetune.archive import parse_part
from pii_finetune.errors import BadWorkbookError


def sheet_part(path: Path, archive: zipfile.ZipFile, sheet: str) -> str:
    """Return the name of the part that holds the sheet.

    Raises:
        BadWorkbookError: it is not there.
    """
    names = {name.lower(): name for name in archive.namelist()}
    identifiers: dict[str, str] = {}
    targets: dict[str, str] = {}

    def on_sheet(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] == "sheet" and "name" in attributes:
            identifiers[attributes["name"]] = next((v for k, v in attributes.items() if k.endswith(":id")), "")

    def on_relationship(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2] == "Relationship":
            targets[attributes.get("Id", "")] = attributes.get("Target", "")

    for part, handler in (("xl/workbook.xml", on_sheet), ("xl/_rels/workbook.xml.rels", on_relationship)):
        parser = expat.ParserCreate()
        parser.StartElementHandler = handler
        if part in names:
            parse_part(path, archive, names[part], parser)
    target = targets.get(identifiers.get(sheet, ""), "")
    found = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join("xl", target))
    if found.lower() not in names:
        raise BadWorkbookError(
            f"{path}: the part that holds sheet {sheet!r} is missing; "
            "open it in a spreadsheet program and save it as .xlsx"
        )
    return names[found.lower()]

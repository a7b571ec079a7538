"""What a typed cell of a spreadsheet may hold; a file made by hand can say that a cell is a date and store "abc"."""

import math
import re
from collections.abc import Mapping
from datetime import datetime, time

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"-?P(?=.)([0-9]+[YMD])*(T([0-9]+H)?([0-9]+M)?([0-9]+([.,][0-9]+)?S)?)?")
_LOWEST_NUMBER = -1e10  # far below every date; lower ones in a cell formatted as a date make calamine panic
_XLSX = {"n": "number", "b": "boolean", "d": "date"}
_ODS = {
    "float": ("number", "office:value"),
    "percentage": ("number", "office:value"),
    "currency": ("number", "office:value"),
    "boolean": ("boolean", "office:boolean-value"),
    "date": ("date", "office:date-value"),
    "time": ("time", "office:time-value"),
    "string": ("text", "office:string-value"),
}
_ODS_VALUES = {name for _, name in _ODS.values()}


def xlsx_kind(kind: str, value: str, num_texts: int) -> str:
    """Return what the value of a cell of type `t` is: text (by its number), number, boolean, date or impossible."""
    if kind == "s":
        return "text" if value.isascii() and value.isdigit() and int(value) < num_texts else "unclear"
    meant = _XLSX.get(kind, "")
    return meant if _fits(meant, value) else "unclear"


def ods_kind(attributes: Mapping[str, str]) -> tuple[str, str]:
    """Return what a cell is (text, number, boolean, date, impossible; empty: it has no type), and the odd value."""
    kind = attributes.get("office:value-type", "")
    given = {name: value for name, value in attributes.items() if name in _ODS_VALUES}
    if kind in ("", "void"):
        return ("unclear", " ".join(given.values())) if given else ("", "")
    meant, name = _ODS.get(kind, ("", ""))
    value = given.pop(name, None)
    if given or (meant != "text" and (value is None or not _fits(meant, value))):
        return "unclear", " ".join((kind if value is None else value, *given.values()))
    return ("date" if meant == "time" else meant), value or ""


def _fits(meant: str, value: str) -> bool:
    if meant == "number":
        return _NUMBER.fullmatch(value) is not None and _LOWEST_NUMBER < float(value) < math.inf
    if meant == "boolean":
        return value.lower() in ("0", "1", "true", "false")
    if meant == "time":
        return _DURATION.fullmatch(value) is not None
    return meant == "date" and (_is_date(value, datetime) or _is_date(value, time))


def _is_date(value: str, parser: type[datetime] | type[time]) -> bool:
    try:
        parser.fromisoformat(value)
    except ValueError:
        return False
    return True

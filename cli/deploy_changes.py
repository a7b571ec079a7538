"""What differs between what is on the server and what would be written there."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pii_finetune.tracking_server import shown

_LONG = 80
_SECRET = re.compile(r"pass(word|wd)?|secret|token|credential|auth|api_?key|access_?key|private", re.IGNORECASE)
# Written whole by whoever writes them: what is not written any more is gone. To all else the server adds ids, times
# and defaults of its own.
_WHOLE = ("parameters", "job_variables")


def changes(there: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return what would change, a line each: field: old -> new."""
    return [line for name, value in wanted.items() for line in _differences(name, there.get(name), value)]


def agrees(there: Any, wanted: Any) -> bool:
    """Whether there is what is wanted, whatever else the server added."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return all(agrees(there.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        left = list(there)
        for each in wanted:  # in any order: many are sets, which have none
            match = next((one for one in left if agrees(one, each)), None)
            if match is None and None not in left:
                return False
            left.remove(match)
        return True
    return there == wanted


def _differences(name: str, there: Any, wanted: Any) -> Iterator[str]:
    if name.partition(".")[0] in _WHOLE and isinstance(wanted, dict):
        old = there if isinstance(there, dict) else {}
        for key in {**old, **wanted}:
            yield from _differences(f"{name}.{key}", old.get(key), wanted.get(key))
    elif isinstance(wanted, dict) and isinstance(there, dict) and not name.endswith("schema"):
        for key, value in wanted.items():
            last = key.rpartition(".")[2]  # of a step, the name of its function is enough
            yield from _differences(f"{name}.{last}", there.get(key), value)
    elif agrees(there, wanted):
        return
    elif _are_alike(there, wanted):
        for number, (old, new) in enumerate(zip(there, wanted, strict=True)):
            yield from _differences(f"{name}[{number}]", old, new)
    elif name.endswith("schema"):
        yield f"{name}: changed"  # pages of JSON
    elif _SECRET.search(name):
        yield f"{name}: changed (not shown)"
    else:
        yield f"{name}: {_short(_asked_for(there, wanted))} -> {_short(wanted)}"


def _are_alike(there: Any, wanted: Any) -> bool:
    """Whether both are lists of as many parts that have parts themselves."""
    lists = isinstance(there, list) and isinstance(wanted, list)
    return lists and len(there) == len(wanted) and all(isinstance(each, dict) for each in [*there, *wanted])


def _asked_for(there: Any, wanted: Any) -> Any:
    """Return what is there without what the server added to it, so that the two can be read side by side."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        return {name: _asked_for(there.get(name), value) for name, value in wanted.items()}
    if isinstance(there, list) and isinstance(wanted, list) and wanted:
        return [_asked_for(each, wanted[min(number, len(wanted) - 1)]) for number, each in enumerate(there)]
    return there


def _short(value: Any) -> str:
    told = value if isinstance(value, str) else json.dumps(_without_secrets(value), ensure_ascii=False)
    told = shown(" ".join(told.split()))
    return told if len(told) <= _LONG else f"{told[: _LONG - 3]}..."


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "***" if _SECRET.search(str(name)) else _without_secrets(each) for name, each in value.items()}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value

"""What a sweep tries: settings by dotted path, each with a few values or a range."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pii_finetune.config import RunConfig
from pii_finetune.errors import BadConfigError
from pii_finetune.overrides import apply_overrides

# Trials are compared by their F1 on one validation split, so all must have the same rows; and what judges or reports a
# model teaches it nothing.
_SWEPT = ("seed", "base.", "lora.", "trainer", "fused.", "sft.", "dpo.")
_MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if the setting is; on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False
    is_whole: bool = False


@dataclass(frozen=True)
class Space:
    """Values of a grid and ranges; without ranges every combination of the grid is a trial, else some are drawn."""

    grid: Mapping[str, Sequence[Any]]
    ranges: Mapping[str, Range]
    num_trials: int  # all combinations, or how many are drawn

    def combinations(self) -> list[dict[str, Any]]:
        """Return every combination of the grid; of an empty one that is one, without a setting."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]


def build_space(config: RunConfig, grid: Mapping[str, Any], ranges: Mapping[str, Any], num_trials: int | None) -> Space:
    """Return what is to be tried, after checking that every value makes a config.

    Args:
        config: what the trials have in common.
        grid: settings with a list of values each.
        ranges: settings with [low, high] or [low, high, "log"] each.
        num_trials: how many are drawn where there are ranges; a grid alone is tried whole.

    Raises:
        BadConfigError: a setting does not exist, cannot be swept or cannot have a value; or the number of trials is
            missing, or given where the grid says it.
    """
    for path in (*grid, *ranges):
        _require_swept(path)
    if both := sorted(set(grid) & set(ranges)):
        raise BadConfigError(f"{', '.join(both)}: has a grid and a range; give one of them")
    wanted = {path: _values(path, values) for path, values in grid.items()}
    ends = {path: _range(path, given) for path, given in ranges.items()}
    _require_valid(config, wanted, ends)
    bounds = {path: replace(each, is_whole=_is_whole(config, path)) for path, each in ends.items()}
    num_combinations = math.prod(len(values) for values in wanted.values())
    if bounds and num_trials is None:
        raise BadConfigError("a range has no end of values: say with num_trials (--trials) how many to draw")
    if not bounds and num_trials is not None:
        raise BadConfigError(
            f"num_trials = {num_trials}: a grid is tried whole, here {num_combinations:,} trials; leave num_trials "
            "out, or give a range instead of values"
        )
    if num_trials is not None and num_trials < 1:
        raise BadConfigError(f"num_trials = {num_trials}: must be at least 1")
    if num_trials is not None and num_trials > _MOST_TRIALS:
        raise BadConfigError(f"num_trials = {num_trials}: {_MOST_TRIALS:,} is the most; give a smaller number")
    if num_combinations > _MOST_TRIALS:
        raise BadConfigError(
            f"the grid has {num_combinations:,} combinations, and {_MOST_TRIALS:,} is the most; give ranges and "
            "num_trials instead"
        )
    return Space(wanted, bounds, num_trials if num_trials is not None else num_combinations)


def parse_grid(assignments: Sequence[str]) -> dict[str, Any]:
    """Return `["lora.r=8,16"]` as {"lora.r": [8, 16]}; a value is JSON, or else plain text, and may be a JSON list.

    Raises:
        BadConfigError: an assignment is not PATH=VALUE,VALUE, or a setting is there twice.
    """
    grid: dict[str, Any] = {}
    for assignment in assignments:
        path, text = _halves("--grid", assignment, "sft.learning_rate=1e-3,2e-3")
        if path in grid:
            raise BadConfigError(f"--grid {path} is given twice; write all its values in one, e.g. --grid lora.r=8,16")
        try:
            grid[path] = json.loads(f"[{text}]")
        except json.JSONDecodeError:
            grid[path] = [_parsed(part.strip()) for part in text.split(",")]
    return grid


def parse_ranges(assignments: Sequence[str]) -> dict[str, Any]:
    """Return `["sft.learning_rate=1e-4:1e-2:log"]` as {"sft.learning_rate": [0.0001, 0.01, "log"]}.

    Raises:
        BadConfigError: an assignment is not PATH=LOW:HIGH or PATH=LOW:HIGH:log, or a setting is there twice.
    """
    ranges: dict[str, Any] = {}
    for assignment in assignments:
        path, text = _halves("--range", assignment, "sft.learning_rate=1e-4:1e-2:log")
        if path in ranges:
            raise BadConfigError(f"--range {path} is given twice; give one range of it")
        ranges[path] = [_parsed(part.strip()) for part in text.split(":")]
    return ranges


def _halves(option: str, assignment: str, example: str) -> tuple[str, str]:
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip() or not text.strip():
        raise BadConfigError(f"{option} {assignment!r} is not PATH=VALUES; write e.g. {option} {example}")
    return path.strip(), text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _require_swept(path: str) -> None:
    if any(path == each or (each.endswith(".") and path.startswith(each)) for each in _SWEPT):
        return
    if path.startswith("data."):
        raise BadConfigError(
            f"{path}: trials are compared on one validation split, so all have the same data; for a model for each of "
            "several datasets or languages use variants (--each, --each-language)"
        )
    raise BadConfigError(
        f"{path}: teaches a model nothing that trials could be compared by; a sweep can vary "
        f"{', '.join(each.rstrip('.') for each in _SWEPT)}"
    )


def _values(path: str, values: Any) -> list[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise BadConfigError(f"grid of {path} = {values!r}: must be a list of at least one value")
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    if len(distinct) < len(values):
        raise BadConfigError(f"grid of {path} = {values!r}: has a value twice; give each once")
    return distinct


def _range(path: str, given: Any) -> Range:
    shown = f"range of {path} = {given!r}"
    if not isinstance(given, list | tuple) or len(given) not in (2, 3) or (len(given) == 3 and given[2] != "log"):
        raise BadConfigError(f'{shown}: must be [low, high] or [low, high, "log"]')
    low, high = given[:2]
    if not all(type(end) in (int, float) and math.isfinite(end) for end in (low, high)):
        raise BadConfigError(f"{shown}: both ends must be numbers; values that are no numbers go into the grid")
    if low >= high:
        raise BadConfigError(f"{shown}: the first number must be the smaller one")
    if len(given) == 3 and low <= 0:
        raise BadConfigError(f"{shown}: a logarithmic scale starts above 0")
    return Range(low, high, log=len(given) == 3)


def _require_valid(config: RunConfig, grid: Mapping[str, Sequence[Any]], ranges: Mapping[str, Range]) -> None:
    # One at a time: settings that do not go together make a trial that fails, and the others go on.
    for path, values in grid.items():
        made = [apply_overrides(config, {path: value}) for value in values]
        if any(each in made[:at] for at, each in enumerate(made)):
            raise BadConfigError(f"grid of {path} = {values!r}: has a value twice, written differently; give each once")
    for path, bounds in ranges.items():
        for end in (bounds.low, bounds.high):
            apply_overrides(config, {path: end})


def _is_whole(config: RunConfig, path: str) -> bool:
    section, _, name = path.rpartition(".")
    owner = getattr(config, section) if section else config
    return type(owner).model_fields[name].annotation is int

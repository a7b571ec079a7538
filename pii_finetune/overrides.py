"""Changing single settings of a config by their dotted path, with an answer for every mistake."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pii_finetune.config import RunConfig
from pii_finetune.errors import BadConfigError


def flatten(config: BaseModel) -> dict[str, Any]:
    """Return every setting by its dotted path, e.g. {"sft.learning_rate": 2e-4, ...}."""
    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            flat |= {f"{name}.{path}": inner for path, inner in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def apply_overrides(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Return `config` with the settings at the given dotted paths replaced.

    Raises:
        BadConfigError: a path names no setting, or a value is not one the setting can have; all mistakes are listed.
    """
    known = flatten(config)
    if unknown := [path for path in overrides if path not in known]:
        raise BadConfigError("\n".join(_unknown_setting(path, known) for path in unknown))
    nested: dict[str, Any] = {}
    for path, value in (known | dict(overrides)).items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    try:
        return RunConfig.model_validate(nested)
    except ValidationError as error:
        raise BadConfigError(
            "\n".join(dict.fromkeys(_describe(problem, known) for problem in error.errors()))
        ) from None


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Return `["sft.learning_rate=1e-3"]` as {"sft.learning_rate": 0.001}; values are JSON, or else plain text.

    Raises:
        BadConfigError: an assignment has no `=`.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise BadConfigError(f"--set {assignment!r} is not PATH=VALUE; write e.g. --set sft.learning_rate=1e-3")
        try:
            overrides[path.strip()] = json.loads(text)
        except json.JSONDecodeError:
            overrides[path.strip()] = text.strip()
    return overrides


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file as overrides: `[sft]` + `learning_rate = 1e-3` or `sft.learning_rate = 1e-3`.

    Raises:
        BadConfigError: the file cannot be read or is not TOML.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfigError(f"--config {path}: cannot be read ({error.strerror}); give a readable TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfigError(
            f"--config {path}: is not TOML ({error}); write e.g. [sft] and below it learning_rate = 1e-4"
        ) from None
    return {
        f"{name}.{inner}" if isinstance(value, dict) else name: value[inner] if isinstance(value, dict) else value
        for name, value in content.items()
        for inner in (value if isinstance(value, dict) else [""])
    }


def _unknown_setting(path: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.75)
    by_name = difflib.get_close_matches(path.rpartition(".")[2], [k.rpartition(".")[2] for k in known], n=1, cutoff=0.8)
    same_name = [k for k in known if by_name and k.endswith(by_name[0])]
    meant = difflib.get_close_matches(path, same_name, n=1, cutoff=0.0) or near
    if meant:
        return f"there is no setting {path!r}; the nearest is {meant[0]!r}"
    section = path.partition(".")[0]
    beside = [k for k in known if k.startswith(f"{section}.")] or sorted({k.partition(".")[0] for k in known})
    return f"there is no setting {path!r}; there are {', '.join(beside)}"


def _describe(problem: Any, known: Mapping[str, Any]) -> str:
    parts = [str(part) for part in problem["loc"]]
    while len(parts) > 1 and ".".join(parts) not in known:  # pydantic goes on into members of lists and unions
        parts.pop()
    path = ".".join(parts)
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    return f"{path}: {message}" if isinstance(given, dict) else f"{path} = {given!r}: {message}"

"""prefect.yaml as Prefect reads it, and the line on which each of its values stands."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pii_finetune.checks import Check, Level
from pii_finetune.errors import BadConfigError

Key = tuple[str | int, ...]  # ("deployments", 0, "work_pool", "name")


@dataclass
class DeployFile:
    """The values, and the line of each by its keys."""

    path: Path
    values: dict[str, Any]
    lines: dict[Key, int] = field(default_factory=dict)
    repeated: list[Key] = field(default_factory=list)
    for_anchors: set[str] = field(default_factory=set)  # top-level keys of which later ones take parts

    def fault(self, at: Key, found: str, remedy: str, level: Level = "red") -> Check:
        """Return what is wrong at a place, by file and line."""
        line = next(self.lines[at[:length]] for length in range(len(at), -1, -1) if at[:length] in self.lines)
        return Check(f"{self.path.name}:{line}", level, f"{spelled(at)}: {found}" if at else found, remedy)


def spelled(at: Key) -> str:
    """Return a place as a person would write it: deployments[0].work_pool.name, and steps by their last name."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{str(part).rpartition('.')[2]}" for part in at)
    return "".join(parts).removeprefix(".")


def read_deploy_file(path: Path) -> DeployFile:
    """Read the file.

    Raises:
        BadConfigError: it is not there, or no YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
        if not isinstance(values, dict) or not isinstance(root, yaml.MappingNode):
            raise BadConfigError(f"{path}: holds no keys; `prefect init` writes an example")
        found = DeployFile(path, values, {(): 1})
        _note(found, root, ())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadConfigError(f"{path}: cannot be read ({reason}); give another with --file") from None
    except yaml.YAMLError as error:
        raise BadConfigError(f"{path}: is no YAML ({' '.join(str(error).split())}); mend it there") from None
    except RecursionError:
        raise BadConfigError(f"{path}: an alias holds itself; write out what it stands for") from None
    found.for_anchors = _for_anchors(root)
    return found


def _note(found: DeployFile, node: yaml.Node, at: Key) -> None:
    if isinstance(node, yaml.MappingNode):
        names = Counter(str(key.value) for key, _ in node.value)
        repeated = [(*at, name) for name, times in names.items() if times > 1 and name != "<<"]
        found.repeated += [key for key in repeated if key not in found.repeated]
        yaml.SafeLoader("").flatten_mapping(node)  # puts what `<<` merges in its place
        for key, value in node.value:  # the last wins, as in Prefect
            found.lines[(*at, key.value)] = key.start_mark.line + 1
            _note(found, value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found.lines[(*at, number)] = value.start_mark.line + 1
            _note(found, value, (*at, number))


def _for_anchors(root: yaml.MappingNode) -> set[str]:
    """Return the top-level keys that hold what later ones take by an alias, which is the very node it stands for."""
    first: dict[int, str] = {}
    held = set()
    for key, value in root.value:
        for part in _parts(value):
            if first.setdefault(id(part), str(key.value)) != key.value:
                held.add(first[id(part)])
    return held


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _parts(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _parts(value)

"""Which code this is: what results depend on, and what machines that train together must have in common."""

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "trl", "peft")
_NUM_DIGITS = 16  # of the sources' hash: people compare it


@functools.cache
def code_parts() -> Mapping[str, str]:
    """Return the hash of this package's sources and templates, and the versions of what it trains with."""
    root = Path(__file__).parent
    files = sorted([*root.rglob("*.py"), *root.rglob("*.jinja")])
    sources = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "__pycache__" not in path.parts
    }
    return {root.name: _hash(sources)[:_NUM_DIGITS]} | {name: version(name) for name in _PACKAGES}


def code_version() -> str:
    """Return all of it as one hash."""
    return _hash(code_parts())


def _hash(content: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

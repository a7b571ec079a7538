"""The versions that are installed, as the lock files of this project say."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Not those of the tools, which are no part of the environment; PyTorch's CPU build is the same version.
_FILES = ("requirements.lock", "supply_chain/dev.lock", "supply_chain/torch.lock")


def locked_versions(root: Path) -> dict[str, str]:
    """Return the version of every package that is wanted on this platform, by its canonical name.

    Raises:
        FileNotFoundError: there is no requirements.lock.
    """
    first, *others = (root / name for name in _FILES)
    text = first.read_text(encoding="utf-8")
    text += "".join(path.read_text(encoding="utf-8") for path in others if path.is_file())
    # An entry is one line, `name==version ; marker \`, and below it, set in, a line for each hash.
    entries = (Requirement(line.rstrip(" \\")) for line in text.splitlines() if "==" in line and line[0] not in "# ")
    return {
        canonicalize_name(each.name): next(iter(each.specifier)).version
        for each in entries
        if each.marker is None or each.marker.evaluate()
    }

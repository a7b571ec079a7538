"""Where the project's own files are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def resolve(path: str) -> Path:
    """Return `path` as it is if absolute, else as a path below the project root.

    The command line makes what the user types absolute first (relative to the folder they stand in), so that only
    the profiles' own settings are resolved here and mean the same on every machine.
    """
    return ROOT / path

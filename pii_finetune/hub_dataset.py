"""A Hugging Face dataset as a workbook: `hf://owner/name`, optionally `@revision`; its split is the sheet."""

import os
import re
from pathlib import Path

from pii_finetune.errors import BadWorkbookError
from pii_finetune.hub import told_if_out_of_reach

_SOURCE = re.compile(r"hf:/{1,2}(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_dataset(source: str) -> bool:
    """Return whether the source names a dataset of the hub and not a file."""
    return source.startswith("hf:/")


def absolute_source(source: str) -> str:
    """Return a file's absolute path, the same wherever it is read, and a dataset's name or a URL as it is."""
    return source if is_hub_dataset(source) or "://" in source else os.path.abspath(source)  # noqa: PTH100  resolve() fails on a loop of links


def download_split(source: str, split: str | None, folder: Path) -> tuple[Path, str]:
    """Load one split with the `datasets` library into a Parquet file below `folder`; return it and the split's name.

    Nothing here looks at the rows: the file is read as a stranger's like every other.

    Args:
        source: `hf://owner/name`, with `@revision` for a branch, tag or commit.
        split: its name; None: `train`, or the only one.
        folder: where the file goes.

    Raises:
        BadWorkbookError: no such dataset or split, or the hub is out of reach.
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise BadWorkbookError(f"{source}: names no dataset; write hf://owner/name or hf://owner/name@revision")
    import datasets

    with told_if_out_of_reach(source):
        found = datasets.load_dataset(match["name"], revision=match["revision"])
    names = [str(name) for name in found]
    chosen = split or ("train" if "train" in names or len(names) > 1 else names[0])
    if chosen not in names:
        raise BadWorkbookError(f"{source}: has no split {chosen!r}; data.sheet can be one of {', '.join(names)}")
    path = folder / "split.parquet"
    found[chosen].to_parquet(path)
    return path, str(chosen)

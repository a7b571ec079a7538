"""Which engine answers: one process that writes one file, or a pool of workers that writes a folder of parts."""

from collections.abc import Callable
from pathlib import Path

from pii_finetune.errors import BadWorkbookError
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.remote_file import is_remote, shown_url
from pii_finetune.score_copy import Columns
from pii_finetune.score_table import ScoreReport, score_table


def score_source(
    source: str,
    target: str,
    model_uri: str,
    columns: Columns,
    ray: RaySettings | None,
    on_progress: Callable[[int, int], None],
) -> ScoreReport:
    """Answer every row of the source, with Ray if it has settings, else in this process.

    Raises:
        PiiFinetuneError: as score_table, or score_folder.
    """
    if ray is not None:
        from pii_finetune.ray_scoring.engine import score_folder

        return score_folder(source, target, model_uri, columns, ray, on_progress)
    for url in (source, target):
        if is_remote(url):
            raise BadWorkbookError(f"{shown_url(url)}: is a URL, for which add --engine ray; or give a path")
    return score_table(Path(source), Path(target), model_uri, columns, on_progress)

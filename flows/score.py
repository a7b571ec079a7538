"""The flow `pii-score`: a table of labels, decided for by the model in production."""

from typing import Literal

from prefect import flow

from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.score_table import ScoreReport
from tasks.logs import show_user_errors_plainly
from tasks.score import score_labels


@flow(name="pii-score", validate_parameters=True)
def score(
    source: str,
    target: str,
    model: str = "models:/pii-dpo/Production",
    engine: Literal["local", "ray"] = "local",
    num_workers: int | None = None,
    rows_per_part: int = 65_536,
    object_store_mib: int = 512,
) -> ScoreReport:
    """Answer every row of a table, or with `ray` of a folder of tables.

    Args:
        source: the table: .xlsx, .ods, .csv, .tsv or .parquet; with `ray` also a folder of these, or a URL of either.
        target: where the table with answers goes: .csv, .xlsx or .parquet; with `ray` a folder, or its URL.
        model: an MLflow model.
        engine: `local`, one process and one file; or `ray`, a pool of workers and a folder of parts.
        num_workers: of `ray`; by default one for each GPU, or without any for each CPU.
        rows_per_part: of `ray`; what a worker does at a time, and what its death may cost.
        object_store_mib: of `ray`; memory for what workers share, where no cluster is named by RAY_ADDRESS.
    """
    show_user_errors_plainly()
    quiet_libraries()
    outlive_readers()
    workers = RaySettings(num_workers, rows_per_part, object_store_mib) if engine == "ray" else None
    return score_labels(source, target, model, workers)

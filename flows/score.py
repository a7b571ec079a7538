"""The flow `pii-score`: a table of labels, decided for by the model in production."""

from prefect import flow

from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.score_table import ScoreReport
from tasks.logs import show_user_errors_plainly
from tasks.score import score_labels


@flow(name="pii-score", validate_parameters=True)
def score(source: str, target: str, model: str = "models:/pii-dpo/Production") -> ScoreReport:
    """Answer every row of a table.

    Args:
        source: the table: .xlsx, .ods, .csv, .tsv or .parquet.
        target: where the table with answers goes: .csv, .xlsx or .parquet.
        model: an MLflow model.
    """
    show_user_errors_plainly()
    quiet_libraries()
    outlive_readers()
    return score_labels(source, target, model)

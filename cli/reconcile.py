"""`pii-finetune reconcile`: what died unseen ends as what happened."""

import os

from cli.console import open_console
from pii_finetune.errors import BadConfigError
from pii_finetune.tracking_server import require_server


def close_dead(only_worker: bool) -> int:
    """Close runs whose process is gone, and say how many."""
    if not os.environ.get("PREFECT_API_URL"):
        raise BadConfigError("PREFECT_API_URL is not set: name the Prefect server whose runs are to be looked at")
    require_server()
    from tasks.reconcile import reconcile

    closed = reconcile(only_worker)
    console = open_console()
    for run_id in closed.flow_runs:
        console.print(f"flow run {run_id}: its process is gone; now Crashed", highlight=False)
    for run_id in closed.mlflow_runs:
        console.print(f"MLflow run {run_id}: its process is gone; now KILLED", highlight=False)
    if not (closed.flow_runs or closed.mlflow_runs):
        console.print("every run that says it runs has its process")
    return 0

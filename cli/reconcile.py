"""`pii-finetune reconcile`: what died unseen ends as what happened."""

from cli.console import open_console
from cli.prefect_server import require_prefect
from pii_finetune.tracking_server import require_server


def close_dead(only_worker: bool) -> int:
    """Close runs whose process is gone, and say how many."""
    require_prefect("whose runs are to be looked at")
    require_server()
    from tasks.reconcile import reconcile

    closed = reconcile(only_worker)
    console = open_console()
    for run_id in closed.flow_runs:
        console.print(f"flow run {run_id}: its process is gone; closed", highlight=False)
    for run_id in closed.mlflow_runs:
        console.print(f"MLflow run {run_id}: its process is gone; now KILLED", highlight=False)
    if not (closed.flow_runs or closed.mlflow_runs):
        console.print("no run was found whose process is gone")
    return 0

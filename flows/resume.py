"""The flow `pii-resume`: what the automation starts when a training crashed."""

from uuid import UUID

from prefect import flow

from tasks.resume import schedule_next


@flow(name="pii-resume", validate_parameters=True)
def resume(flow_run_id: UUID) -> UUID | None:
    """Schedule the run that goes on where the crashed one ended.

    Args:
        flow_run_id: the crashed run.
    """
    return schedule_next(flow_run_id)

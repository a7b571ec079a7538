"""The flow `pii-watch`: training starts when, and only when, the rows of the dataset changed."""

from typing import Any

from prefect import flow

from pii_finetune.dataset_watch import settings_key
from pii_finetune.hub_dataset import absolute_source
from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.setup import build_config
from tasks.logs import show_user_errors_plainly
from tasks.watch import look, start_once


@flow(name="pii-watch", validate_parameters=True)
def watch(
    profile: str = "embedded",
    data: str | None = None,
    overrides: dict[str, Any] | None = None,
    stable_seconds: float = 10,
    force: bool = False,
) -> str | None:
    """Look at the dataset, and start `pii-finetune/main` once if its rows are others than at the last attempt.

    Args:
        profile: the recipe to train with.
        data: the workbook or a folder of tables, as an absolute path or an fsspec URL, or a dataset of the hub; by
            default the profile's own.
        overrides: settings by dotted path, for the training.
        stable_seconds: how long the file must not have changed before it is read.
        force: train even on the rows of the last attempt.
    """
    show_user_errors_plainly()
    quiet_libraries()
    outlive_readers()
    source = absolute_source(data) if data is not None else None
    given = {"profile": profile, "data": source, "overrides": overrides or {}}
    config = build_config(profile, source, overrides or {})
    settings = settings_key(profile, source, overrides or {})
    fingerprint = look(config, settings, stable_seconds, force)
    if fingerprint is None:
        return None
    started = start_once(config, given, settings, fingerprint, force)
    return str(started) if started else None

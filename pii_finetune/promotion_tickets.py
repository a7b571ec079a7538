"""The promotion lock of those who know MLflow's server by its address only: tickets in the registry itself.

MLflow's REST interface has no lock and no conditional write, but it numbers versions: two that create a version of one
model at once get different numbers, in every store, and no number is given twice. So a version of a registered model
that is no model is a ticket, and the lowest ticket there is has its turn (Lamport's bakery, with the numbers given by
the database). Whoever is done deletes the ticket.

A process that dies leaves its ticket behind. The others watch when it was last updated; one that shows no sign of life
for the lease is deleted. Its owner, if it lives after all, finds out before its next write to the registry, but a write
that was on its way by then still lands: this is a lease, weaker than a lock that a database or a kernel holds. Whoever
promotes therefore checks the result afterwards.

Source: L. Lamport, A New Solution of Dijkstra's Concurrent Programming Problem, CACM 17(8), 1974.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pii_finetune.errors import PromotionLockedError
from pii_finetune.patience import is_away

LOCK_MODEL = "pii-finetune-promotion-lock"
LOCK_DESCRIPTION = "Not a model: its versions are the tickets of promotions under way. Leave it to pii-finetune."
LEASE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_SOURCE = "s3://no-model/ticket"  # a version must name one; nobody reads it


@contextmanager
def ticket_lock(
    holder: str, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS
) -> Iterator[Callable[[], None]]:
    """Draw a ticket, wait for its turn, hold it; yields a function that renews the lease, or raises if it was lost.

    Raises:
        PromotionLockedError: the turn did not come within the time limit, or the ticket was taken away.
    """
    client = MlflowClient()
    ticket = _draw(client, holder)

    def renew() -> None:
        try:
            client.update_model_version(LOCK_MODEL, ticket, description=holder)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise PromotionLockedError(
                f"this promotion gave no sign of life for {lease_seconds:g} s and lost its turn to another; try again"
            ) from None

    try:
        _wait(client, ticket, renew, timeout_seconds, lease_seconds)
        renew()
        yield renew
    finally:
        _drop(client, ticket)


def _draw(client: MlflowClient, holder: str) -> str:
    with suppress(MlflowException):  # it is there already; any other trouble shows in the next line
        client.create_registered_model(LOCK_MODEL, description=LOCK_DESCRIPTION)
    try:
        return str(client.create_model_version(LOCK_MODEL, _SOURCE, description=holder, await_creation_for=0).version)
    except MlflowException as error:
        if is_away(error):
            raise
        raise PromotionLockedError(
            f"the promotion lock cannot be kept in MLflow's registry ({error.message}); name a place all who promote "
            "can reach with PII_FINETUNE_LOCK_URI: postgresql://... or an absolute path on a shared folder"
        ) from error


def _wait(
    client: MlflowClient, ticket: str, renew: Callable[[], None], timeout_seconds: float, lease_seconds: float
) -> None:
    """Return when no lower ticket is left. Time is measured by this machine's clock alone."""
    started = renewed = time.monotonic()
    seen: dict[str, tuple[int, float]] = {}
    while ahead := _ahead(client, ticket):
        now = time.monotonic()
        for each in ahead:
            version, updated = str(each.version), int(each.last_updated_timestamp or 0)
            if version not in seen or seen[version][0] != updated:
                seen[version] = (updated, now)
            elif now - seen[version][1] > lease_seconds:
                _drop(client, version)
        if now - started > timeout_seconds:
            raise PromotionLockedError(
                f"another promotion is going on: {ahead[0].description} holds it, {len(ahead) - 1} wait before this, "
                f"and {timeout_seconds:g} s were waited here; try again when they are done "
                f"(one that is dead is passed over after {lease_seconds:g} s)"
            )
        if now - renewed > lease_seconds / 3:
            renew()
            renewed = now
        time.sleep(_POLL_SECONDS)


def _ahead(client: MlflowClient, ticket: str) -> Sequence[ModelVersion]:
    tickets = client.search_model_versions(f"name='{LOCK_MODEL}'")
    return sorted((t for t in tickets if int(t.version) < int(ticket)), key=lambda t: int(t.version))


def _drop(client: MlflowClient, ticket: str) -> None:
    try:
        client.delete_model_version(LOCK_MODEL, ticket)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise

"""The users of the stack's MLflow and what each may do: `python -m cli.mlflow_users`, a part of `deploy`.

`admin` manages users and is nobody's in daily use. `worker` owns the experiment and the models, which are made in its
name. `reader` sees the experiment and loads the models. Whoever has no grant sees nothing.
"""

import os
import sys
from collections.abc import Callable

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.server import get_app_client

from pii_finetune.config import TrackingConfig
from pii_finetune.registry import PAIR

_ADMIN, _WORKER, _READER = "admin", "worker", "reader"
_PASSWORDS = {name: f"MLFLOW_{name.upper()}_PASSWORD" for name in (_ADMIN, _WORKER, _READER)}


def main() -> int:
    """Make users, experiment, models and grants, or bring them up to date."""
    missing = [variable for variable in _PASSWORDS.values() if not os.environ.get(variable)]
    if missing:
        print(f"mlflow_users: {', '.join(missing)}: not set; `make secrets` writes them to .env", file=sys.stderr)
        return 2
    try:
        make_users()
    except MlflowException as error:
        print(f"mlflow_users: {mlflow.get_tracking_uri()}: {error.message}", file=sys.stderr)
        return 1
    print(f"MLflow: users {_WORKER} and {_READER}, and what they may do, are in place")
    return 0


def make_users() -> None:
    """Make, in this order, users, what belongs to the worker, and what the reader may read."""
    _change_admin_password()
    _log_in(_ADMIN)
    auth = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri())
    for name in (_WORKER, _READER):
        if _exists(auth.get_user, name):
            auth.update_user_password(name, os.environ[_PASSWORDS[name]])
        else:
            auth.create_user(name, os.environ[_PASSWORDS[name]])

    # Only an administrator is told what does not exist. MLflow gives whoever makes a thing the right to manage it.
    client, experiment = MlflowClient(), TrackingConfig().experiment
    found = client.get_experiment_by_name(experiment)
    missing = [model for model in PAIR if not _exists(client.get_registered_model, model)]
    _log_in(_WORKER)
    experiment_id = client.create_experiment(experiment) if found is None else found.experiment_id
    for model in missing:
        client.create_registered_model(model)

    _log_in(_ADMIN)
    auth.grant_user_permission(_READER, "experiment", experiment_id, "READ")
    for model in PAIR:
        auth.grant_user_permission(_READER, "registered_model", model, "READ")


def _change_admin_password() -> None:
    """Give `admin` the password in use, when MLFLOW_ADMIN_OLD_PASSWORD holds the one before."""
    old = os.environ.get("MLFLOW_ADMIN_OLD_PASSWORD")
    if not old:
        return
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = _ADMIN, old
    auth = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri())
    auth.update_user_password(_ADMIN, os.environ[_PASSWORDS[_ADMIN]], current_password=old)


def _log_in(name: str) -> None:
    os.environ["MLFLOW_TRACKING_USERNAME"] = name
    os.environ["MLFLOW_TRACKING_PASSWORD"] = os.environ[_PASSWORDS[name]]


def _exists(get: Callable[[str], object], name: str) -> bool:
    try:
        get(name)
    except RestException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""The users of MLflow's server and what each may do: `python -m cli.mlflow_users`, a part of every `deploy`.

`admin` manages users and is nobody's in daily use; experiment and models are made in its name. `worker` writes to them
and promotes, and can neither delete them nor lend them on. `reader` sees the experiment and loads the models. Whoever
has no grant sees nothing. MLFLOW_VARIANTS names variants, whose models are made and granted as the common ones.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.server import get_app_client
from mlflow.server.auth.client import AuthServiceClient

from pii_finetune.config import TrackingConfig
from pii_finetune.model_names import is_variant, model_names
from pii_finetune.promotion_tickets import LOCK_DESCRIPTION, LOCK_MODEL
from pii_finetune.registry import PAIR, paired_models

_ADMIN, _WORKER, _READER = "admin", "worker", "reader"
_PASSWORDS = {role: f"MLFLOW_{role.upper()}_PASSWORD" for role in (_ADMIN, _WORKER, _READER)}
# What of the experiment, of the models, and of the model that is the promotion lock. Who promotes deletes tickets of
# that lock, those of the dead too, which takes MANAGE of it; EDIT of the models is enough to register and to promote.
_GRANTS = {_WORKER: ("EDIT", "EDIT", "MANAGE"), _READER: ("READ", "READ", None)}


def main() -> int:
    """Make users, experiment, models and grants, or bring them up to date."""
    missing = [variable for variable in _PASSWORDS.values() if not os.environ.get(variable)]
    if missing:
        print(
            f"mlflow_users: {', '.join(missing)}: not set; `make secrets` writes them to .env, on Kubernetes they are "
            "in the secrets mlflow-*",
            file=sys.stderr,
        )
        return 2
    variants = os.environ.get("MLFLOW_VARIANTS", "").split()
    if wrong := [variant for variant in variants if not is_variant(variant)]:
        print(
            f"mlflow_users: MLFLOW_VARIANTS: {', '.join(map(repr, wrong))} cannot be part of a model's name; write "
            "names as the setting `variant` takes them, with spaces between them, e.g. fr hr-2026",
            file=sys.stderr,
        )
        return 2
    try:
        make_users(variants)
    except MlflowException as error:
        print(f"mlflow_users: {mlflow.get_tracking_uri()}: {error.message}", file=sys.stderr)
        return 1
    print(f"MLflow: users {_name(_WORKER)} and {_name(_READER)}, and what they may do, are in place")
    return 0


def make_users(variants: Sequence[str]) -> None:
    """Make users, then what they work on, then their grants; what is there already is brought up to date."""
    _change_admin_password()
    _log_in(os.environ[_PASSWORDS[_ADMIN]])
    auth, client = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri()), MlflowClient()
    for role in _GRANTS:
        if _exists(auth.get_user, _name(role)):
            auth.update_user_password(_name(role), os.environ[_PASSWORDS[role]])
        else:
            auth.create_user(_name(role), os.environ[_PASSWORDS[role]])

    # Made beforehand: whoever makes a thing owns it, and who has no grant is not told that a thing is missing.
    name = TrackingConfig().experiment
    found = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if found is None else found.experiment_id
    models = [*PAIR, *(name for variant in variants for name in model_names(variant))]
    for model, description in (*((each, None) for each in models), (LOCK_MODEL, LOCK_DESCRIPTION)):
        if not _exists(client.get_registered_model, model):
            client.create_registered_model(model, description=description)

    for role, (of_experiment, of_models, of_lock) in _GRANTS.items():
        _lend(auth, _name(role), "experiment", experiment, of_experiment)
        for model in paired_models():  # those of variants named before too
            _lend(auth, _name(role), "registered_model", model, of_models)
        if of_lock:
            _lend(auth, _name(role), "registered_model", LOCK_MODEL, of_lock)


def _lend(auth: AuthServiceClient, user: str, kind: str, which: str, permission: str) -> None:
    """Grant this and no more; what is granted already stays as it is, so that no run is without it for a moment."""
    if auth.get_user_permission(user, kind, which).permission == permission:
        return
    try:
        auth.grant_user_permission(user, kind, which, permission)
    except RestException as error:  # MLflow changes no grant; it is taken back first
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        auth.revoke_user_permission(user, kind, which)
        auth.grant_user_permission(user, kind, which, permission)


def _name(role: str) -> str:
    """Return what the user of a role is called; a secret of Kubernetes holds that too."""
    return os.environ.get(f"MLFLOW_{role.upper()}_USERNAME", role)


def _change_admin_password() -> None:
    """Give `admin` the password in use, when MLFLOW_ADMIN_OLD_PASSWORD holds the one before; not twice."""
    old, new = os.environ.get("MLFLOW_ADMIN_OLD_PASSWORD"), os.environ[_PASSWORDS[_ADMIN]]
    if not old:
        return
    auth = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri())
    _log_in(new)
    with suppress(MlflowException):  # any other trouble shows in the next lines
        auth.get_user(_name(_ADMIN))
        return
    _log_in(old)
    auth.update_user_password(_name(_ADMIN), new, current_password=old)


def _log_in(password: str) -> None:
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = _name(_ADMIN), password


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

#!/bin/bash
# Run by the job `deploy` in the project's image, and safe to repeat.
set -euo pipefail
cd "${PII_FINETUNE_ROOT:?}"
templates=${TEMPLATES:-/etc/deploy}

# Which image the runs take is no matter of the template's text.
python - "$templates/base-job-template.json" /tmp/base-job-template.json <<'PYTHON'
import json, os, pathlib, sys

template = json.loads(pathlib.Path(sys.argv[1]).read_text())
template["variables"]["properties"]["image"]["default"] = os.environ["IMAGE"]
template["variables"]["properties"]["mlflow_tracking_uri"]["default"] = os.environ["MLFLOW_TRACKING_URI"]
template["variables"]["properties"]["prefect_api_url"]["default"] = os.environ["PREFECT_API_URL"]
pathlib.Path(sys.argv[2]).write_text(json.dumps(template))
PYTHON

prefect --no-prompt work-pool create gpu --type kubernetes --base-job-template /tmp/base-job-template.json --overwrite
prefect --no-prompt deploy --all
pii-finetune automate

# MLflow's user for the runs. Who may do nothing by default is told of a model that is not there that he may not see it, so
# experiment and models are made here and lent to him: enough to write and to promote, not to delete or to lend on. Tickets
# of promotions he must delete, whoever promoted first. His password is made that of the secret, so that a rotated secret
# needs this job alone.
python - <<'PYTHON'
import os

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

from pii_finetune.promotion_tickets import LOCK_MODEL

EXPERIMENT, MODELS, EDIT = "pii-finetune", ("pii-sft", "pii-dpo"), "EDIT"
client, users = MlflowClient(), get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
name, password = os.environ["WORKER_USERNAME"], os.environ["WORKER_PASSWORD"]


def lend(kind, which, permission=EDIT):
    users.grant_user_permission(name, kind, which, permission)


def unless_there(make, otherwise=lambda: None):
    try:
        make()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        otherwise()


unless_there(lambda: users.create_user(name, password), lambda: users.update_user_password(name, password))
unless_there(lambda: client.create_experiment(EXPERIMENT))
experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
unless_there(lambda: lend("experiment", experiment))
for model in MODELS:
    unless_there(lambda: client.create_registered_model(model))
    unless_there(lambda: lend("registered_model", model))
unless_there(lambda: client.create_registered_model(LOCK_MODEL))
unless_there(lambda: lend("registered_model", LOCK_MODEL, "MANAGE"))
print(f"MLflow: {name} may edit the experiment {EXPERIMENT} and the models {', '.join(MODELS)}")
PYTHON

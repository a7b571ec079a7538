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

# Its password is made that of the secret, so that a rotated secret needs this job alone.
python - <<'PYTHON'
import os

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

users = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
name, password = os.environ["WORKER_USERNAME"], os.environ["WORKER_PASSWORD"]
try:
    users.create_user(name, password)
except MlflowException as error:
    if error.error_code != "RESOURCE_ALREADY_EXISTS":
        raise
    users.update_user_password(name, password)
print(f"MLflow knows the user {name}")
PYTHON

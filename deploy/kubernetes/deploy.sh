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

# As in the containers of docker-compose.yml. A rotated secret of `worker` or `reader` needs this job alone.
python -m cli.mlflow_users

#!/bin/bash
# What the servers must hold before a run can start: users of MLflow, the work pool, deployments and automations.
# Safe to repeat: what is there is brought up to date, and a pool keeps the settings it was given.
set -euo pipefail
python -m cli.mlflow_users
prefect work-pool inspect gpu > /dev/null 2>&1 || prefect --no-prompt work-pool create gpu --type process
prefect --no-prompt deploy --all
pii-finetune automate

"""Fine-tune, prove and promote a small language model that tells sensitive data labels from harmless ones."""

import os

__version__ = "0.1.0"

# A privacy tool does not phone home. These libraries read the switch when they are imported, so it is set before any
# module of ours imports one of them; a user who wants telemetry sets the variable and keeps it.
for _switch, _off in {
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(_switch, _off)

"""Keeping libraries from talking over a run's own log."""

import logging
import os
import warnings

_CHATTY = (
    "bitsandbytes.backends.cpu.ops",  # that its CPU kernels are not installed; nf4 runs on CUDA only
    "great_expectations",
    "great_expectations.data_context.types.base",
    "mlflow.pyfunc",  # notes on type hints, addressed to model authors
    "mlflow.system_metrics.system_metrics_monitor",
    "mlflow.tracking._model_registry.client",
    "mlflow.tracking._model_registry.fluent",
    "alembic",
)


def quiet_loggers() -> None:
    """Silence notes that libraries write while they are imported, and MLflow's bars; imports nothing itself."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs, with a traceback, what it raises as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # It logs a traceback of what it raises anyway: once a second while a database is waited for.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def quiet_warnings() -> None:
    """Silence the warnings of libraries; imports nothing itself."""
    for library in ("mlflow", "transformers", "trl", "peft", "torch", "pydantic"):
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    warnings.filterwarnings("ignore", message=".*Model registry stages will be removed", category=FutureWarning)


def quiet_libraries() -> None:
    """Silence progress bars, notes and deprecation warnings that a user of this project can do nothing about."""
    quiet_loggers()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    quiet_warnings()

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

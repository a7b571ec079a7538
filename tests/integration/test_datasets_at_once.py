from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow
import pytest
from mlflow import MlflowClient

from pii_finetune.records import Record
from pii_finetune.tracking import log_datasets

NUM_AT_ONCE, NUM_ROUNDS = 8, 10


@pytest.mark.slow
def test_runs_that_log_the_same_dataset_at_the_same_moment_all_have_it(tmp_path, monkeypatch):
    # Trials of a sweep do: MLflow looks whether the dataset is there, then adds it.
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("at once", artifact_location=tmp_path.as_uri())
    together = Barrier(NUM_AT_ONCE)

    def log(number):
        rows = [Record(label=f"label {number}", language="English", sensitive=True, row=2)]
        with mlflow.start_run(experiment_id=experiment) as run:
            together.wait()
            log_datasets(Path("labels.xlsx"), f"fingerprint {number}", {"dataset": rows})
        return run.info.run_id

    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        runs = [run for number in range(NUM_ROUNDS) for run in pool.map(log, [number] * NUM_AT_ONCE)]
    client = MlflowClient(uri)
    assert all(len(client.get_run(run).inputs.dataset_inputs) == 1 for run in runs)
    mlflow.set_tracking_uri(None)

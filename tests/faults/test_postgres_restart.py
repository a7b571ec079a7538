import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.servers import running_servers, wait_for
from benchmarks.short_run import SHORT_RUN

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))  # pytest imports test files without their folder
from postgres import create_database, find_binaries, postgres_server

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(2400)]

LONG = 900  # seconds that something may take beside others on the same cores
DOWN = 10
QUICK = SHORT_RUN | {"sft.max_steps": 300, "dpo.max_steps": 10, "tracking.log_system_metrics": False}


@pytest.fixture
def postgres():
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are neither on the PATH nor in /usr/lib/postgresql/*/bin")
    with postgres_server(binaries) as server:
        yield server


def test_a_run_ends_well_though_postgresql_dies_for_ten_seconds_beneath_prefect_and_mlflow(
    postgres, small_workbook, tmp_path
):
    # Fault 16.
    prefect_store = create_database(postgres.address, "prefect").replace("psycopg2", "asyncpg")
    settings = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect_store,
        "MLFLOW_BACKEND_STORE_URI": create_database(postgres.address, "mlflow"),
        "PII_FINETUNE_LOCK_URI": create_database(postgres.address, "locks"),
    }
    with (
        running_servers(tmp_path, **settings) as servers,
        temporary_settings({PREFECT_API_URL: servers.stack.prefect_api}),
    ):
        mlflow, prefect = MlflowClient(servers.stack.mlflow), SyncPrefectClient(servers.stack.prefect_api)
        given = {"data": str(small_workbook), "overrides": QUICK | {"output_dir": str(tmp_path / "outputs")}}
        flow_run = run_deployment("pii-finetune/main", parameters=given, timeout=0, as_subflow=False)

        def state():
            return prefect.read_flow_run(flow_run.id).state

        def children(stage, status):
            experiment = mlflow.get_experiment_by_name("pii-finetune")
            wanted = f"tags.stage = '{stage}' and attributes.status = '{status}'"
            return experiment and mlflow.search_runs([experiment.experiment_id], wanted)

        wait_for(
            lambda: any("loss" in run.data.metrics for run in children("sft", "RUNNING") or ()), LONG, "SFT to train"
        )
        postgres.stop_at_once()
        time.sleep(DOWN)  # the fault itself, not a wait for something
        postgres.start()
        wait_for(lambda: state().is_final(), LONG, "the run to end")
        assert state().is_completed(), f"{state()}\n{servers.log()[-6000:]}"
        for stage, steps in (("sft", 300), ("dpo", 10)):
            [run] = children(stage, "FINISHED")
            points = [point.step for point in mlflow.get_metric_history(run.info.run_id, "loss")]
            assert points == [1, *range(5, steps + 1, 5)]
        assert [v.current_stage for v in mlflow.search_model_versions("name='pii-dpo'")] == ["Production"]

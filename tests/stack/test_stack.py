"""What a team does with the stack: a workbook goes in, a model comes out, things are stopped and started."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.short_run import SHORT_RUN

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]

PREFECT = str(Path(sys.executable).parent / "prefect")
QUICK = SHORT_RUN | {"sft.max_steps": 40, "dpo.max_steps": 10}
LOAD = """
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/pii-dpo/Production")
answers = model.predict(pandas.DataFrame({"label": ["email address", "row count"], "language": ["en", "en"]}))
print(answers.to_json(orient="records"))
"""


def watch_a_run(stack, **settings):
    """Start a run as a person outside does, and return what the terminal showed."""
    given = {"data": "/workbooks/labels.xlsx", "overrides": QUICK | settings}
    parameters = [part for name, value in given.items() for part in ("--param", f"{name}={json.dumps(value)}")]
    command = [PREFECT, "deployment", "run", "pii-finetune/main", "--watch", "--watch-timeout", "1200", *parameters]
    return subprocess.run(
        command, env=stack.environment("reader"), capture_output=True, text=True, timeout=1500, check=False
    )


def load_from_outside(stack, user):
    return subprocess.run(
        [sys.executable, "-c", LOAD], env=stack.environment(user), capture_output=True, text=True, check=False
    )


def ended_runs(stack):
    """Return the state of each flow run that is over; what is scheduled comes and goes by itself."""
    code = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    for run in client.read_flow_runs():
        if run.state.is_final():
            print(run.name, run.state.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=stack.environment("reader"), capture_output=True, text=True, check=True
    )
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def trained(stack):
    done = watch_a_run(stack)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}\n{stack.logs('worker')[-6000:]}"
    return stack


def test_a_workbook_goes_in_and_the_model_in_production_loads_outside(trained):
    done = load_from_outside(trained, "reader")
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert [set(each) >= {"sensitive", "probability"} for each in answers] == [True, True]


def test_all_is_there_after_down_and_up(trained):
    before = ended_runs(trained)
    assert "Completed" in before.values()
    trained.down()
    trained.up()
    assert before.items() <= ended_runs(trained).items()
    assert load_from_outside(trained, "reader").returncode == 0


def test_deploy_repeated_changes_nothing(trained):
    before = deployed(trained)
    trained.call("run", "--rm", "deploy")
    assert deployed(trained) == before


def deployed(stack):
    code = """
import json
import re
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    found = [
        [each.name, str(each.id), each.parameters, each.concurrency_limit, len(each.schedules)]
        for each in client.read_deployments()
    ]
    # Prefect makes those of a deployment's triggers anew each time it is deployed.
    automations = client.read_automations()
    found += [[each.name, "made anew" if "__automation_" in each.name else str(each.id)] for each in automations]
    found += [[each.name, str(each.id), each.concurrency_limit] for each in client.read_work_pools()]
print(json.dumps(sorted(found, key=str)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=stack.environment("reader"), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


NEWEST = """
import json
from pathlib import Path
from pii_finetune.checkpoints import MANIFEST, newest_whole
folder = max(Path("outputs").glob("**/checkpoints"), key=lambda path: path.stat().st_mtime)
found, skipped = newest_whole(folder)
print(json.dumps([found and found.name, sorted(path.name for path in found.iterdir()) if found else [], skipped]))
"""


def test_a_stopped_worker_leaves_its_run_cancelled_and_a_whole_checkpoint_from_which_the_next_goes_on(trained):
    before = ended_runs(trained)
    start_long_run(trained)
    trained.wait(lambda: re.search(r"step %d of %d.*\[20,5000", trained.logs("worker")), "the run did not train", 600)
    stop_worker(trained)
    ended = {name: state for name, state in ended_runs(trained).items() if name not in before}
    assert [state for state in ended.values() if state != "Completed"] == ["Cancelled"]  # looks at the data complete

    seen = trained.aside("worker", "python", "-c", NEWEST)
    name, files, skipped = json.loads([line for line in seen.splitlines() if line.startswith("[")][-1])
    assert skipped == []
    assert {"checkpoint.json", "adapter_model.safetensors", "optimizer.pt", "trainer_state.json"} <= set(files)
    step = int(name.removeprefix("checkpoint-"))
    assert step >= 20

    trained.run_engine("start", trained.container("worker"))
    start_long_run(trained)

    def steps_after_it():
        _, found, later = trained.logs("worker").partition(f'going on from {name}"')
        return found and re.findall(r"step %d of %d.*?\[(\d+),5000", later)

    assert int(trained.wait(steps_after_it, f"no run went on from {name}", 600)[0]) > step
    stop_worker(trained)
    trained.run_engine("start", trained.container("worker"))


def start_long_run(stack):
    given = {"data": "/workbooks/labels.xlsx", "overrides": QUICK | {"sft.max_steps": 5000, "seed": 3}}
    parameters = [part for name, value in given.items() for part in ("--param", f"{name}={json.dumps(value)}")]
    command = [PREFECT, "deployment", "run", "pii-finetune/main", *parameters]
    subprocess.run(command, env=stack.environment("reader"), check=True)


def stop_worker(stack):
    """As `docker compose stop` does: SIGTERM, and SIGKILL after the service's grace period."""
    asked = time.monotonic()
    stack.run_engine("stop", "--time", "75", stack.container("worker"))
    assert time.monotonic() - asked < 75


@pytest.mark.parametrize("service", ["prefect", "mlflow", "worker", "proxy"])
def test_nobody_is_root_and_nothing_of_the_image_can_be_written(stack, service):
    assert stack.inside(service, "id", "-u").strip() not in ("", "0")
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.inside(service, "sh", "-c", "touch /opt/there")
    status = stack.inside(service, "cat", "/proc/self/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"].strip() == "1"

"""What stands in deploy/kubernetes: valid for a cluster, strict, and without a secret."""

import importlib.util
import json
import re
import shlex

import kubernetes_validate
import pytest
import yaml
from prefect.utilities.templating import apply_values

from pii_finetune.lock import locked_versions
from pii_finetune.paths import ROOT
from pii_finetune.stopping import GRACE_SECONDS

FOLDER = ROOT / "deploy" / "kubernetes"
MANIFESTS = ("namespace", "secrets.template", "volumes", "mlflow", "network-policies", "disruption", "deploy-job")
TEMPLATE = json.loads((FOLDER / "base-job-template.json").read_text(encoding="utf-8"))
VARIABLES = TEMPLATE["variables"]["properties"]


def resources(name):
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def job(**values):
    """The job of a run, as Prefect's templating makes it; `make kubernetes-check` asks Prefect's own worker for it."""
    defaults = {name: variable["default"] for name, variable in VARIABLES.items() if "default" in variable}
    made = apply_values(
        TEMPLATE["job_configuration"]["job_manifest"], defaults | {"name": "a-run", "image": "i:1"} | values
    )
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["args"] = shlex.split(container["args"])  # as the worker does
    for misplaced in ("parallelism", "completions"):  # which the worker insists on, and Kubernetes drops
        del made["spec"]["template"]["spec"][misplaced]
    return made


def pods():
    yield "job", job()["spec"]["template"]["spec"]
    for name in ("mlflow", "deploy-job"):
        for each in resources(name):
            if "template" in each.get("spec", {}):
                yield name, each["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_every_manifest_and_the_job_of_a_run_are_valid_for_kubernetes(version):
    for resource in [each for name in MANIFESTS for each in resources(name)] + [job(), job(gpus=0)]:
        kubernetes_validate.validate(resource, version, strict=True)


def test_an_unknown_field_would_be_seen():
    wrong = job()
    wrong["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_every_manifest_is_applied_or_is_the_template_of_the_secrets():
    applied = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert {f"{name}.yaml" for name in MANIFESTS} - set(applied) == {"secrets.template.yaml"}


def test_every_placeholder_of_the_template_is_a_variable_and_every_variable_has_a_placeholder():
    asked = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))
    assert asked == set(VARIABLES)


def test_the_image_alone_must_be_named():
    assert {name for name, variable in VARIABLES.items() if "default" not in variable} == {"name", "image"}


def test_no_container_runs_as_root_writes_its_root_or_may_become_more():
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            strict = container["securityContext"]
            assert strict["readOnlyRootFilesystem"], name
            assert strict["allowPrivilegeEscalation"] is False, name
            assert strict["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_passwords_come_from_secrets_that_the_template_of_the_secrets_names():
    known = {each["metadata"]["name"]: set(each["stringData"]) for each in resources("secrets.template")}
    for name, pod in pods():
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for variable in container["env"]:
                asked = variable.get("valueFrom", {}).get("secretKeyRef")
                if asked is None:
                    assert not re.search("PASSWORD|SECRET|TOKEN|AUTH_STRING", variable["name"]), (name, variable)
                elif not asked.get("optional"):
                    assert asked["key"] in known[asked["name"]], (name, asked)


def test_the_template_of_the_secrets_holds_none():
    for each in resources("secrets.template"):
        assert {key: value for key, value in each["stringData"].items() if value} in (
            {},
            {"username": each["stringData"].get("username")},
        )


def test_a_run_is_not_retried_by_kubernetes_and_has_time_for_a_checkpoint():
    spec = job()["spec"]
    assert spec["backoffLimit"] == 0  # resuming is Prefect's
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 10 * GRACE_SECONDS


def test_a_run_starts_prefects_engine_in_the_pool_that_the_deployments_name():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    worker = yaml.safe_load((FOLDER / "prefect-worker.values.yaml").read_text(encoding="utf-8"))["worker"]
    assert {each["work_pool"]["name"] for each in deployments} == {worker["config"]["workPool"]} == {"gpu"}
    python, option, module = VARIABLES["command"]["default"].split()
    assert (python, option) == ("python", "-m")
    assert importlib.util.find_spec(module)


def test_a_run_tells_that_it_lives_and_a_dead_one_is_closed_in_mlflow_before_the_next_begins():
    pod = job()["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert float(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) < 180  # seconds of silence: tasks/automations.py
    assert "pii-finetune reconcile" in pod["initContainers"][0]["command"][-1]


def test_the_network_policies_know_the_pods():
    components = {resources("deploy-job")[0]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]}
    components.add(job()["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"])
    let_in = {
        value
        for policy in resources("network-policies")
        for rule in policy["spec"].get("ingress", [])
        for source in rule["from"]
        for expression in source["podSelector"]["matchExpressions"]
        for value in expression["values"]
    }
    assert let_in == components | {"worker"}  # which label Prefect's chart gives


def test_the_charts_take_the_locked_prefect():
    version = locked_versions(ROOT)["prefect"]
    server = yaml.safe_load((FOLDER / "prefect-server.values.yaml").read_text(encoding="utf-8"))
    worker = yaml.safe_load((FOLDER / "prefect-worker.values.yaml").read_text(encoding="utf-8"))
    assert server["global"]["prefect"]["image"]["prefectTag"] == f"{version}-python3.11"
    assert worker["worker"]["image"]["prefectTag"] == f"{version}-python3.11-kubernetes"

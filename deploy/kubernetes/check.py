"""Hold everything in this folder against the schemas of Kubernetes, and the template against Prefect's own worker.

`make kubernetes-check`. Where kubectl is on the PATH, what `kubectl kustomize` makes is looked at too; where helm is,
and the repository of the charts is known to it (docs/kubernetes.md), what the charts make of the values.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import kubernetes_validate
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

HERE = Path(__file__).resolve().parent
OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()
CHARTS = ("prefect-server", "prefect-worker")
CHART_VERSION = "2026.6.1154549"
# Prefect's worker insists on these two in a place where Kubernetes does not know them, and drops them.
_MISPLACED = ("parallelism", "completions")
_NO_RESOURCES = ("kustomization.yaml", *(f"{chart}.values.yaml" for chart in CHARTS))


def resources(text: str) -> Iterator[dict[str, Any]]:
    """Yield every resource of a YAML stream."""
    return (each for each in yaml.safe_load_all(text) if each)


def rendered_job(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the job that Prefect's worker makes of the template."""
    template = json.loads((HERE / "base-job-template.json").read_text(encoding="utf-8"))
    # The client is for references to blocks, of which there are none: without one, a server would be started.
    rendering = KubernetesWorkerJobConfiguration.from_template_and_values(
        template, variables, client=cast("Any", object())
    )
    configuration = asyncio.run(rendering)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="a-run"))
    job = configuration.job_manifest
    for name in _MISPLACED:
        job["spec"]["template"]["spec"].pop(name)
    return job


def faults(what: str, resource: dict[str, Any]) -> list[str]:
    """Return what the schemas say against a resource, unknown fields too."""
    found = []
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            place = ".".join(map(str, error.absolute_path)) or "top"
            found.append(f"{what}: Kubernetes {version}: {resource['kind']} at {place}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{what}: {error.message}")
    return found


def everything() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every resource, and where it is from."""
    for path in sorted(HERE.glob("*.yaml")):
        if path.name not in _NO_RESOURCES:
            yield from ((path.name, each) for each in resources(path.read_text(encoding="utf-8")))
    yield "base-job-template.json, a GPU", rendered_job({"image": "pii-finetune:1"})
    yield "base-job-template.json, no GPU", rendered_job({"image": "pii-finetune:1", "gpus": 0, "env": {"A": "b"}})
    if shutil.which("kubectl"):
        yield from (("kubectl kustomize", each) for each in resources(_output("kubectl", "kustomize", str(HERE))))
    else:
        print("kubectl is not here: kustomization.yaml is not looked at")
    if shutil.which("helm") and "prefecthq.github.io/prefect-helm" in _output("helm", "repo", "list", may_fail=True):
        for chart in CHARTS:
            options = ["--version", CHART_VERSION, "--namespace", "pii-finetune"]
            values = ["--values", str(HERE / f"{chart}.values.yaml")]
            made = _output("helm", "template", chart, f"prefect/{chart}", *options, *values)
            yield from ((f"chart {chart}", each) for each in resources(made))
    else:
        print("helm is not here, or does not know the charts: their values are not looked at")


def _output(*command: str, may_fail: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """Print what is wrong; exit code 1 if anything is."""
    looked_at = list(everything())
    found = [fault for what, resource in looked_at for fault in faults(what, resource)]
    print(*found, f"{len(looked_at)} resources, {len(found)} faults (Kubernetes {OLDEST} and {NEWEST})", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""prefect.yaml: what Prefect would ignore, or stumble over later, is told with its line."""

import textwrap
from pathlib import Path

import prefect
import pytest

from cli.deploy_check import lint
from cli.deploy_file import read_deploy_file
from cli.main import main
from pii_finetune.checks import Check
from pii_finetune.errors import BadConfigError
from pii_finetune.paths import ROOT

SOUND = """\
prefect-version: VERSION
name: sound
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: /srv
definitions:
  job: &job
    command: python -m prefect.engine
deployments:
  - name: main
    entrypoint: flows.py:weigh
    tags: [a]
    parameters:
      weight: 3
    work_pool:
      name: gpu
      job_variables: *job
    concurrency_limit:
      limit: 1
      collision_strategy: ENQUEUE
    schedules:
      - cron: "0 3 * * 0"
        active: false
      - interval: 900
    triggers:
      - type: event
        enabled: true
        expect: [something.happened]
        match:
          prefect.resource.id: "thing.*"
        parameters:
          weight: "{{ event.payload.weight }}"
"""

FLOWS = """\
from prefect import flow
@flow(name="weigh")
def weigh(weight: int = 1, unit: str = "g"): ...
@flow(name="needy")
def needy(file: str): ...
def no_flow(): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "flows.py").write_text(FLOWS, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults(folder: Path, text: str = SOUND) -> list[Check]:
    path = folder / "prefect.yaml"
    path.write_text(text.replace("VERSION", prefect.__version__), encoding="utf-8")
    return lint(read_deploy_file(path))


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_sound_file_has_no_fault(folder: Path):
    assert faults(folder) == []


def test_the_shipped_file_has_no_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PII_FINETUNE_ROOT", str(ROOT))
    assert lint(read_deploy_file(ROOT / "prefect.yaml")) == []


# Old text, new text, what is told. The fault is on the line of the new text.
CASES = {
    "top": ("name: sound", "nmae: sound", "nmae: Prefect knows no such key and ignores it (did you mean name?)"),
    "deployment": ("tags: [a]", "tag: [a]", "(did you mean tags?)"),
    "work pool": ("job_variables: *job", "job_varables: *job", "(did you mean job_variables?)"),
    "schedule": ("active: false", "actve: false", "(did you mean active?)"),
    "trigger": ("expect: [some", "expects: [some", "(did you mean expect?)"),
    "limit": ("collision_strategy:", "colision_strategy:", "(did you mean collision_strategy?)"),
    "step argument": ("directory: /srv", "directry: /srv", "(did you mean directory?)"),
    "step": (
        "- prefect.deployments.steps.set_working_directory:",
        "- prefect.deployments.steps.set_dir:",
        "cannot be imported",
    ),
    "kind": ("interval: 900", "interval: soon", "Input should be a valid timedelta"),
    "cron": ('cron: "0 3 * * 0"', 'cron: "61 3 * * 0"', "is no schedule"),
    "no file": ("entrypoint: flows.py:weigh", "entrypoint: flow.py:weigh", "there is no such file"),
    "no flow": ("entrypoint: flows.py:weigh", "entrypoint: flows.py:no_flow", "is not a flow"),
    "no function": ("entrypoint: flows.py:weigh", "entrypoint: flows.py:wiegh", "not found"),
    "import": ("entrypoint: flows.py:weigh", "entrypoint: broken.py:weigh", "No module named 'no_such_module_at_all'"),
    "parameter": ("      weight: 3", "      wieght: 3", "weigh has no such parameter (did you mean weight?)"),
    "value": ("weight: 3", "weight: much", "'much' is not of type 'integer'"),
    "trigger's parameter": ('weight: "{{ event', 'wait: "{{ event', "weigh has no such parameter"),
    "variable": ("tags: [a]", 'tags: ["{{ $NO_SUCH_VARIABLE }}"]', "NO_SUCH_VARIABLE is not set"),
    "output": ("tags: [a]", 'tags: ["{{ image_tag }}"]', "is the output of no build or push step"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_told_with_its_line(folder: Path, case: str):
    old, new, told = CASES[case]
    text = SOUND.replace(old, new, 1)
    found = faults(folder, text)
    assert f"prefect.yaml:{line_of(text, new)}" in [fault.name for fault in found]
    assert any(told in fault.found for fault in found)
    assert all(fault.level == "red" and fault.remedy for fault in found)


def test_a_schedule_that_cannot_begin_is_told(folder: Path):
    text = SOUND.replace("flows.py:weigh", "flows.py:needy").replace("    parameters:\n      weight: 3\n", "")
    lacking = [fault for fault in faults(folder, text) if "cannot begin without file" in fault.found]
    # The first schedule is off; the second, and the trigger, would start runs that fail.
    assert [fault.name for fault in lacking] == [
        f"prefect.yaml:{line_of(text, part)}" for part in ("- interval", "- type: event")
    ]


def test_a_variable_of_a_pull_step_may_be_the_workers(folder: Path):
    (fault,) = faults(folder, SOUND.replace("directory: /srv", 'directory: "{{ $NO_SUCH_VARIABLE }}"'))
    assert (fault.level, fault.name) == ("yellow", "prefect.yaml:5")
    assert "left to the worker" in fault.found


def test_a_variable_that_is_set_is_no_fault(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A_SET_VARIABLE", "x")
    assert faults(folder, SOUND.replace("tags: [a]", 'tags: ["{{ $A_SET_VARIABLE }}"]')) == []


def test_only_keys_of_anchors_that_are_used_may_have_any_name(folder: Path):
    (fault,) = faults(
        folder, SOUND.replace("definitions:\n  job: &job", "deployment:\n  job: &other").replace("*job", "{}")
    )
    assert "deployment: Prefect knows no such key" in fault.found
    assert "did you mean deployments?" in fault.found


def test_a_repeated_key_and_a_repeated_name_are_told(folder: Path):
    second = textwrap.indent(
        "- name: main\n  name: main\n  entrypoint: flows.py:weigh\n  work_pool: {name: gpu}\n", "  "
    )
    found = faults(folder, SOUND + second)
    assert any("stands here more than once" in fault.found for fault in found)
    assert any("line 10 has weigh/main too" in fault.found for fault in found)


def test_another_version_of_prefect_is_a_note(folder: Path):
    (fault,) = faults(folder, SOUND.replace("VERSION", "3.0.0"))
    assert (fault.level, fault.found) == ("yellow", f"prefect-version: 3.0.0, and installed is {prefect.__version__}")


def test_a_step_whose_package_is_not_here_is_not_installed(folder: Path, capfd: pytest.CaptureFixture[str]):
    build = "build:\n  - no_such_package.steps.make:\n      requires: no-such-package\n"
    (fault,) = faults(folder, build + SOUND)
    assert (fault.level, fault.name) == ("yellow", "prefect.yaml:2")
    assert "not installed here" in fault.found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("a: [", "is no YAML"),
        ("- a\n- b\n", "holds no keys"),
        ("", "holds no keys"),
        ("a: &a\n  b: *a\n", "holds itself"),
        ("a: \t'\x00'", "is no YAML"),
    ],
)
def test_what_is_no_such_file_is_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str):
    path = folder / "other.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfigError, match=reason):
        read_deploy_file(path)
    assert main(["deploy-check", "--file", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("text", "code"), [(SOUND, 0), (SOUND.replace("tags:", "tag:"), 1), ("deployments: []", 1)])
def test_without_a_server_the_file_alone_is_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
):
    (folder / "prefect.yaml").write_text(text.replace("VERSION", prefect.__version__), encoding="utf-8")
    assert main(["deploy-check"]) == code
    assert "no PREFECT_API_URL: what is deployed was not looked at" in capsys.readouterr().out

import ast
import dataclasses
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from peft import LoraConfig
from pydantic import BaseModel
from trl import DPOConfig, SFTConfig

from pii_finetune import config
from pii_finetune.config import DpoSettings, LoraSettings, RunConfig, Section, SftSettings, TrainingSection
from pii_finetune.paths import ROOT

PASSED_BY_NAME = {SftSettings: SFTConfig, DpoSettings: DPOConfig, LoraSettings: LoraConfig}
SECTIONS: dict[str, type[BaseModel]] = {
    name: kind
    for name, kind in vars(config).items()
    if isinstance(kind, type) and issubclass(kind, Section) and kind not in (Section, TrainingSection)
}
SOURCES = [
    path
    for folder in ("pii_finetune", "tasks", "flows", "cli")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "config.py"
]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LEAVES = next(each for each in CONTRACTS if each["name"] == "leaf modules import no heavy library")["source_modules"]


def kind_of(expression: ast.expr, variables: dict[str, type[BaseModel]]) -> type[BaseModel] | None:
    """Return the section that `config`, `config.data`, ... is, from the annotations of the function it stands in."""
    if isinstance(expression, ast.Name):
        return variables.get(expression.id)
    if isinstance(expression, ast.Attribute) and (outer := kind_of(expression.value, variables)):
        field = outer.model_fields.get(expression.attr)
        return SECTIONS.get(getattr(field.annotation, "__name__", "")) if field else None
    return None


def reads(source: str) -> Iterator[tuple[str, str]]:
    """Yield (section, field) for every field that is read as an attribute of something known to be that section."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = (*function.args.args, *function.args.kwonlyargs)
        variables = {
            a.arg: SECTIONS[a.annotation.id]
            for a in arguments
            if isinstance(a.annotation, ast.Name) and a.annotation.id in SECTIONS
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and (section := kind_of(node.value, variables)):
                yield section.__name__, node.attr


def unread(sections: dict[str, type[BaseModel]], sources: list[str]) -> list[str]:
    found = {read for source in sources for read in reads(source)}
    return [
        f"{name}.{field}"
        for name, section in sections.items()
        if section not in PASSED_BY_NAME
        for field in section.model_fields
        if (name, field) not in found
    ]


def test_every_setting_is_read_somewhere():
    assert unread(SECTIONS, [path.read_text(encoding="utf-8") for path in SOURCES]) == []


def test_a_setting_that_nothing_reads_is_found():
    source = "def f(config: RunConfig, name: str):\n    return config.gate.minimum_f1, name.batch_size"
    found = unread(SECTIONS, [source])
    assert "GateConfig.minimum_f1" not in found
    assert "EvaluationConfig.batch_size" in found


@pytest.mark.parametrize(("section", "library"), PASSED_BY_NAME.items(), ids=lambda kind: kind.__name__)
def test_every_training_setting_is_one_of_the_library_it_is_passed_to(section, library):
    assert set(section.model_fields) <= {field.name for field in dataclasses.fields(library)}


def test_every_section_is_part_of_a_run():
    parts = {field.annotation for field in RunConfig.model_fields.values()}
    assert set(SECTIONS.values()) - {RunConfig} <= parts


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_and_its_leaves_loads_no_heavy_library():
    assert "pii_finetune.config" in LEAVES
    heavy = {"torch", "transformers", "trl", "peft", "mlflow", "great_expectations", "prefect", "datasets"}
    assert heavy & loaded_by("pii_finetune", *LEAVES) == set()


def test_importing_the_package_switches_telemetry_off_unless_the_user_wants_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.delenv("GX_ANALYTICS_ENABLED", raising=False)
    code = "import os, pii_finetune; print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['GX_ANALYTICS_ENABLED'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["false", "false"]


def test_importing_creates_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[object] = []
    places = (str(ROOT), str(tmp_path))

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if watching and (writes or event == "os.mkdir") and isinstance(arguments[0], str | os.PathLike):
            path = os.path.abspath(arguments[0])  # noqa: PTH100  relative to the folder stood in at this moment
            if path.startswith(places) and "__pycache__" not in path and not path.startswith(sys.prefix):
                made.append((event, path))

    watching = True
    sys.addaudithook(watch)
    monkeypatch.chdir(tmp_path)
    for path in SOURCES:
        if path.parent.name in ("pii_finetune", "cli"):  # the others import Prefect, whose seconds a unit test has not
            name = f"{path.parent.name}.{path.stem}"
            exec(compile(path.read_text(encoding="utf-8"), path, "exec"), {"__name__": name, "__file__": str(path)})
    watching = False  # an audit hook cannot be taken away
    assert made == []
    assert list(tmp_path.iterdir()) == []

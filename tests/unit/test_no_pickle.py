"""Nothing of ours unpickles: a model or a workbook that somebody sent cannot run code."""

import ast
from pathlib import Path

import pytest

from pii_finetune.paths import ROOT

SOURCES = [path for folder in ("pii_finetune", "tasks", "flows", "cli") for path in (ROOT / folder).rglob("*.py")]
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "multiprocessing", "runpy"}
CALLS = {
    ("torch", "load"),
    ("torch", "jit"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
    ("np", "load"),
    ("numpy", "load"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
}
ARGUMENTS = {"trust_remote_code": True, "allow_pickle": True, "use_safetensors": False, "weights_only": False}


def dangers(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {(node.module, name.name) for name in node.names}
            found += [node.module] * (node.module.partition(".")[0] in MODULES)
            found += [f"{module}.{name}" for module, name in names & CALLS]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] * ((node.value.id, node.attr) in CALLS)
        elif isinstance(node, ast.keyword) and node.arg in ARGUMENTS:
            harmless = isinstance(node.value, ast.Constant) and node.value.value is not ARGUMENTS[node.arg]
            found += [node.arg] * (not harmless)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            found.append(node.func.id)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_can_unpickle_or_run_what_it_reads(path: Path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib.numpy_pickle as j",
        "from cloudpickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "pd.read_pickle('x')",
        "np.load('x', allow_pickle=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=asked)",
        "AutoModel.from_pretrained('x', use_safetensors=False)",
        "eval(text)",
    ],
)
def test_what_could_unpickle_is_found(source: str):
    assert dangers(source)


def test_what_cannot_unpickle_is_left_alone():
    assert dangers("import json\nmodel.eval()\nload(trust_remote_code=False, use_safetensors=True)") == []

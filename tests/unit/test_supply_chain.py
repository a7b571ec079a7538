"""The lock: every file by its hash, each package once, and an audit that says when it was none."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pii_finetune.lock import locked_versions
from pii_finetune.paths import ROOT
from supply_chain import audit
from supply_chain.relock import DEV, RUN, TOOLS, TORCH, TORCH_CPU

ENTRY = re.compile(
    r"^(?P<name>[^ #=]+)==(?P<version>\S+).*?\\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def entries(path):
    return {match["name"]: match["version"] for match in ENTRY.finditer(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", [RUN, DEV, TORCH, TORCH_CPU, TOOLS], ids=lambda path: path.name)
def test_every_entry_of_a_lock_has_hashes(path):
    text = path.read_text(encoding="utf-8")
    assert entries(path)
    assert re.fullmatch(r"# .*\n", ENTRY.sub("", text))  # nothing is left but the title


def test_no_package_is_locked_twice():
    assert not entries(RUN).keys() & entries(DEV).keys()
    assert not (entries(RUN) | entries(DEV)).keys() & entries(TORCH).keys()
    same = entries(RUN) | entries(DEV) | entries(TORCH)
    assert {name: version for name, version in entries(TOOLS).items() if same.get(name, version) != version} == {}


def test_both_builds_of_torch_are_the_same_version():
    assert entries(TORCH_CPU) == {"torch": f"{entries(TORCH)['torch']}+cpu"}


def test_everything_that_pyproject_asks_for_is_locked_at_a_version_that_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"].values()
    asked = [*project["project"]["dependencies"], *(each for group in optional for each in group)]
    asked += project["build-system"]["requires"]
    locked = entries(RUN) | entries(DEV) | entries(TORCH)
    for requirement in map(Requirement, asked):
        if requirement.name != "pii-finetune":
            assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_installed_versions_are_read_from_the_lock():
    versions = locked_versions(ROOT)
    assert versions["torch"] == entries(TORCH)["torch"]
    assert versions["pytest"] == entries(DEV)["pytest"]
    assert ("pywin32" in versions) == (sys.platform == "win32")  # what is wanted elsewhere is not wanted here


@pytest.mark.slow
def test_a_file_with_another_hash_is_not_installed(tmp_path):
    wheel = tmp_path / "harmless-1-py3-none-any.whl"
    wheel.write_bytes(b"changed on its way")
    lock = tmp_path / "lock"
    lock.write_text(f"harmless==1 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path), "--no-deps"]
    options = ["--require-hashes", "--only-binary", ":all:", "--target", str(tmp_path / "there"), "-r", str(lock)]
    assert "--require-hashes --only-binary :all: --no-deps" in (ROOT / "Makefile").read_text(encoding="utf-8")
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode
    assert "DO NOT MATCH THE HASHES" in done.stderr


@pytest.mark.parametrize(
    ("report", "code", "told"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 packages looked up, 0 with known vulnerabilities"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}], 1, "a 1: X-1, fixed in 2"),
        ([{"name": "a", "skip_reason": "not found"}], 2, "NOT AUDITED, of 1 packages the service knows none of them"),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "-"}], 2, "knows not b"),
        (None, 2, "NOT AUDITED, the service gave no answer: no route to host"),
    ],
)
def test_an_audit_says_what_was_looked_up(report, code, told, monkeypatch, capsys):
    def pip_audit(command, **_):
        if report is not None:
            target = next(each.removeprefix("--output=") for each in command if each.startswith("--output="))
            Path(target).write_text(json.dumps({"dependencies": report}), encoding="utf-8")
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nno route to host\n")

    monkeypatch.setattr(audit.subprocess, "run", pip_audit)
    assert audit.audit([]) == code
    assert told in capsys.readouterr().out

"""The project's containers, through the compose of whichever engine answers."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cli.backup.manifest import BackupError

ROOT = Path(__file__).resolve().parents[2]
_COMPOSES = (("docker", "docker compose"), ("podman", "podman-compose"), ("podman", "podman compose"))
_ANSWER_SECONDS = 60


def find_compose() -> list[str]:
    """Return the command of compose: COMPOSE if that is set, with its options, or that of the engine that answers.

    Raises:
        BackupError: none does.
    """
    if given := os.environ.get("COMPOSE"):
        return shlex.split(given)
    for engine, compose in _COMPOSES:
        command = compose.split()
        if _answers([engine, "info"]) and _answers([*command, "version"]):
            return command
    raise BackupError(
        "no container engine answers: start docker (with its compose plugin) or podman (with podman-compose), or set "
        "COMPOSE to the command, e.g. COMPOSE='docker compose -f docker-compose.yml -f docker/gpu.override.yml'"
    )


def _answers(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        return subprocess.run(command, capture_output=True, timeout=_ANSWER_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Containers:
    """Those of docker-compose.yml."""

    def __init__(self, compose: Sequence[str]) -> None:
        """Touch nothing yet; `compose` is the command with its options."""
        self._compose = list(compose)

    def inside(self, service: str) -> list[str]:
        """Return what to put before a command that is to run in the running container of a service."""
        return [*self._compose, "exec", "-T", service]

    def aside(self, service: str) -> list[str]:
        """Return what to put before a command that is to run in a container of its own, with the service's settings."""
        return [*self._compose, "run", "--rm", "--no-deps", "-T", service]

    def manage(self, *arguments: str) -> None:
        """Start or stop services."""
        capture([*self._compose, *arguments])


def capture(command: Sequence[str], stdin: IO[bytes] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        BackupError: it failed; the message ends with its last line.
    """
    done = _run(command, stdin, subprocess.PIPE)
    return done.stdout.decode("utf-8", "replace").strip()


def write_output(command: Sequence[str], target: Path) -> None:
    """Run a command whose output is a part of a backup; as `capture`."""
    with target.open("xb") as file:
        _run(command, None, file)


def _run(
    command: Sequence[str], stdin: IO[bytes] | None, stdout: int | IO[bytes]
) -> subprocess.CompletedProcess[bytes]:
    source = subprocess.DEVNULL if stdin is None else stdin
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=source, stdout=stdout, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        raise BackupError(f"{command[0]}: there is no such command") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        telling = [line for line in lines if "error" in line.lower()] or lines
        raise BackupError(f"`{shlex.join(command)[:200]}` failed: {telling[-1].strip()[:400]}")
    return done

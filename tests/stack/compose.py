"""A container engine, whichever answers, and the stack of docker-compose.yml in a project of its own."""

import os
import re
import secrets
import socket
import subprocess
import time
from pathlib import Path

import httpx

from cli.backup.containers import find_compose
from cli.backup.manifest import BackupError
from cli.make_secrets import SECRETS, fill

ROOT = Path(__file__).resolve().parents[2]
LONG = 1800  # seconds that building, or a start on busy cores, may take


def find_engine():
    """Return the engine and the command of its compose, if one answers, or None."""
    try:
        compose = find_compose()
    except BackupError:
        return None
    return ("docker" if compose[0] == "docker" else "podman"), compose


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stack:
    """The compose file as it is, with secrets, ports, volumes and networks of its own."""

    def __init__(self, engine, compose, folder, workbooks):
        self.engine, self._compose = engine, compose
        self.project = f"pii-test-{os.getpid()}"
        self.prefect_port, self.mlflow_port = free_port(), free_port()
        text, _ = fill((ROOT / ".env.example").read_text(encoding="utf-8"))
        text += (
            f"PREFECT_PORT={self.prefect_port}\nMLFLOW_PORT={self.mlflow_port}\nWORKBOOKS={workbooks}\nIMAGE_TAG=test\n"
        )
        self.secrets = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
        self._env_file = folder / "stack.env"
        self._env_file.touch(mode=0o600)
        self._env_file.write_text(text, encoding="utf-8")
        self.prefect = f"http://127.0.0.1:{self.prefect_port}"
        self.mlflow = f"http://127.0.0.1:{self.mlflow_port}"

    def call(self, *arguments, check=True, timeout=LONG, **variables):
        """Run the engine's compose on this project, and return what it said; variables stand before those of .env."""
        command = [*self._compose, "--project-name", self.project, "--env-file", str(self._env_file), *arguments]
        environment = os.environ | variables
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout + done.stderr

    def change_secrets(self):
        """Write another value for every secret, as `make secrets` does where a line was deleted; returns the old."""
        old = dict(self.secrets)
        text = self._env_file.read_text(encoding="utf-8")
        for name in SECRETS:
            self.secrets[name] = secrets.token_hex(24)
            text = text.replace(f"{name}={old[name]}", f"{name}={self.secrets[name]}")
        self._env_file.write_text(text, encoding="utf-8")
        return old

    def build(self):
        for service in ("prefect", "proxy"):  # the two images; podman-compose would build one for each service
            self.call("build", service)

    def up(self):
        self.call("up", "--detach")
        self.wait(self.is_ready, "the servers did not answer, or the deployments are not there")

    def down(self, *arguments):
        self.call("down", "--timeout", "30", *arguments, check=False)

    def is_ready(self):
        """Whether both servers answer and the last thing that `deploy` makes is there."""
        try:
            found = httpx.post(f"{self.prefect}/api/automations/filter", json={}, auth=self.prefect_user, timeout=10)
            reader = httpx.get(self.experiment_url, auth=("reader", self.secrets["MLFLOW_READER_PASSWORD"]), timeout=10)
        except httpx.HTTPError:
            return False
        return found.is_success and len(found.json()) >= 3 and reader.is_success and self.is_deployed()

    def is_deployed(self):
        """Whether `deploy` came to its end: on volumes that were there, all it makes may be there before."""
        told = self.run_engine("ps", "--all", "--format", "{{.Names}} {{.Status}}")
        return re.search(rf"^{self.project}[-_]deploy[-_]1 Exited \(0\)", told, re.MULTILINE) is not None

    @property
    def prefect_user(self):
        return "pii", self.secrets["PREFECT_PASSWORD"]

    @property
    def experiment_url(self):
        return f"{self.mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name=pii-finetune"

    def environment(self, user):
        """Return the variables of a client outside."""
        usual = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        return {
            **usual,
            "PREFECT_API_URL": f"{self.prefect}/api",
            "PREFECT_API_AUTH_STRING": ":".join(self.prefect_user),
            "PREFECT_HOME": str(self._env_file.parent / "prefect"),
            "MLFLOW_TRACKING_URI": self.mlflow,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.secrets[f"MLFLOW_{user.upper()}_PASSWORD"],
            "OMP_WAIT_POLICY": "passive",
        }

    def container(self, service):
        """Return the name of a service's container; composes differ in what they put between its parts."""
        names = self.run_engine("ps", "--all", "--format", "{{.Names}}").split()
        [name] = [each for each in names if re.fullmatch(rf"{self.project}[-_]{service}[-_]1", each)]
        return name

    def inside(self, service, *command):
        """Run a program in a service's container, and return what it printed."""
        return self.run_engine("exec", self.container(service), *command)

    def aside(self, service, *command):
        """Run a program in a container of its own with a service's settings and volumes, and return what it printed."""
        return self.call("run", "--rm", "--no-deps", "-T", service, *command)

    def run_engine(self, *arguments, stdin=None):
        done = subprocess.run(
            [self.engine, *arguments], input=stdin, capture_output=True, text=True, timeout=LONG, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def logs(self, service):
        done = subprocess.run(
            [self.engine, "logs", "--tail", "60", self.container(service)], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def wait(self, condition, otherwise, seconds=LONG):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(1)
        told = "\n".join(f"--- {name}\n{self.logs(name)[-2500:]}" for name in ("prefect", "mlflow", "deploy", "worker"))
        raise AssertionError(f"{otherwise} after {seconds} s\n{told}")

"""A dataset of the hub as a workbook: the real client, and a server that speaks as much of the hub as it asks for."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.slow
COMMIT = "0" * 39 + "1"
ROWS = [(f"label {at}", "English" if at % 3 else "French", "yes" if at % 2 else "no") for at in range(40)]


def _files() -> dict[str, bytes]:
    frame = pd.DataFrame(ROWS, columns=["label", "language", "sensitive"])
    return {
        "data/train-00000-of-00002.parquet": frame[:30].to_parquet(),
        "data/train-00001-of-00002.parquet": frame[30:].to_parquet(),
        "data/test-00000-of-00001.parquet": frame[:25].to_parquet(),
    }


class _Hub(BaseHTTPRequestHandler):
    files = _files()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api").removeprefix("/datasets/privacy/labels")
        if "/privacy/labels" not in self.path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.path.startswith("/api"):
            self._send(200, json.dumps(self._describe(path)).encode(), {"Content-Type": "application/json"})
        elif (content := self.files.get(path.split("/", 3)[-1])) is not None:
            digest = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}").get("paths", [])
        found = [self._entry(name) for name in self.files if name in asked]
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _describe(self, path: str) -> object:
        if path.startswith("/tree"):
            if path.count("/") > 2:
                return [self._entry(name) for name in self.files]
            return [{"type": "directory", "path": "data", "oid": COMMIT}]
        siblings = [{"rfilename": name} for name in self.files]
        return {"id": "privacy/labels", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

    def _entry(self, name: str) -> dict[str, object]:
        oid = hashlib.sha1(self.files[name]).hexdigest()  # as git names it
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": oid}

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def validate(hub: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_XET": "1",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "cli.main", "validate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def test_a_dataset_of_the_hub_is_read_like_a_workbook(hub: str, tmp_path: Path):
    done = validate(hub, tmp_path, "hf://privacy/labels")
    assert done.returncode == 0, done.stderr
    assert "40 rows, 40 used" in done.stdout
    other = validate(hub, tmp_path, "hf://privacy/labels@main", "--set", "data.sheet=test")
    assert "25 rows, 25 used" in other.stdout, other.stderr


def test_what_a_dataset_lacks_is_told_by_its_name(hub: str, tmp_path: Path):
    for arguments, reason in (
        (("hf://privacy/labels", "--set", "data.sheet=nope"), "hf://privacy/labels: has no split 'nope'; data.sheet"),
        (("hf://privacy/labels", "--set", "data.label_column=field"), "hf://privacy/labels: has no column 'field'"),
        (("hf://privacy/nothing",), "hf://privacy/nothing: could not be loaded from the Hugging Face hub"),
        (("hf://labels",), "hf://labels: names no dataset; write hf://owner/name"),
    ):
        done = validate(hub, tmp_path, *arguments)
        assert done.returncode == 2
        assert reason in done.stderr
        assert "Traceback" not in done.stderr

"""A base of the hub: the real client, and a server that answers, stalls, refuses, or has more than finds room."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pii_finetune.base_download import require_base
from pii_finetune.errors import MissingModelError
from pii_finetune.profiles import embedded

pytestmark = pytest.mark.slow
COMMIT = "0" * 39 + "1"
BASE = Path("data/embedded-base").resolve()
# What a run does first; the process is new, for the client reads its settings when it is imported.
ASK = """
import logging, sys
from pii_finetune.config import BaseConfig
from pii_finetune.errors import PiiFinetuneError
from pii_finetune.profiles import embedded
logging.basicConfig(level="WARNING", format="%(message)s")
from pii_finetune.base_download import require_base
from pii_finetune.base_model import load_tokenizer
import time
started = time.monotonic()
base = embedded().base.model_copy(update={"name": "owner/base", "revision": None})
try:
    require_base(base)
    load_tokenizer(base)
except PiiFinetuneError as error:
    print(error)
print(f"{time.monotonic() - started:.1f}", file=sys.stderr)
"""


class _Hub(BaseHTTPRequestHandler):
    size = 10**15
    asked = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        if self.path.startswith("/api/models/owner/stalls") or self.server.stalls:
            time.sleep(60)
            return
        names = {"config.json": 700, "tokenizer.json": 2000, "model.safetensors": self.size, "tf_model.h5": 10**17}
        siblings = [{"rfilename": name, "size": size} for name, size in names.items()]
        body = json.dumps({"id": "owner/base", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads, server.stalls = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(endpoint: str, home: Path) -> tuple[list[str], float, str]:
    """Return the lines that were said, how many seconds the answer took, and the warnings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), float(done.stderr.splitlines()[-1]), done.stderr


def cache(home: Path, *names: str) -> None:
    """Put files of the embedded base where the client keeps those of owner/base."""
    repository = home / "hub/models--owner--base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / f"snapshots/{COMMIT}").mkdir(parents=True)
    for name in names:
        shutil.copy(BASE / name, repository / f"snapshots/{COMMIT}/{name}")


def refusing() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_base_that_finds_no_room_is_refused_before_a_byte_is_fetched(hub, tmp_path):
    [line], _, _ = ask(f"http://127.0.0.1:{hub.server_port}", tmp_path)
    assert "base.name = 'owner/base': 3 files of 1,000,000,000,002,700 bytes" in line
    assert f"bytes are free in {tmp_path}/hub" in line
    assert "HF_HOME" in line


def test_a_hub_that_refuses_or_stalls_is_told_in_one_line_within_seconds_with_what_is_cached(hub, tmp_path):
    hub.stalls = True
    cache(tmp_path, "config.json", "tokenizer.json")
    for endpoint in (refusing(), f"http://127.0.0.1:{hub.server_port}"):
        [line], seconds, _ = ask(endpoint, tmp_path)
        assert f"the hub {endpoint} gave no answer" in line
        assert "only config.json, tokenizer.json are in" in line
        assert seconds < 15  # 5 and some, on a quiet machine


def test_a_base_that_is_here_is_used_without_a_hub_that_is_down(hub, tmp_path):
    hub.stalls = True
    cache(tmp_path, *(path.name for path in BASE.iterdir() if path.suffix != ".md"))
    said, seconds, warned = ask(f"http://127.0.0.1:{hub.server_port}", tmp_path)
    assert said == []
    assert "owner/base is used as it is on this machine" in warned
    assert seconds < 20


@pytest.mark.parametrize("damage", ["missing weights", "missing config", "cut short"])
def test_a_base_in_a_folder_with_missing_or_cut_off_files_is_told_in_one_line(tmp_path, damage):
    folder = tmp_path / "base"
    shutil.copytree(BASE, folder)
    weights = folder / "model.safetensors"
    if damage == "cut short":
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        (weights if damage == "missing weights" else folder / "config.json").unlink()
    with pytest.raises(MissingModelError) as told:
        require_base(embedded().base.model_copy(update={"name": str(folder)}))
    line = str(told.value)
    assert "\n" not in line
    assert str(folder / ("config.json" if damage == "missing config" else "model.safetensors")) in line

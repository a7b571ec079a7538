import hashlib
import json
import os
import re
import socket
import sys
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from cli.check_table import lines_of, print_lines
from cli.main import main
from pii_finetune import doctor, doctor_base, doctor_machine, doctor_tracking
from pii_finetune.checks import Check, begin
from pii_finetune.clock import skew_of
from pii_finetune.doctor import examine
from pii_finetune.paths import ROOT


def checks() -> dict[str, Check]:
    return {check.name: check for _, section in examine() for check in section}


def packages() -> Check:
    return doctor._packages()[0]


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder that holds nothing but an empty lock."""
    for module in (doctor, doctor_base, doctor_machine, doctor_tracking):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text("# nothing\n", encoding="utf-8")
    return tmp_path


@contextmanager
def http_server(status: int = 200, date: float | None = None, text: str = "{}"):
    """A server with a clock of its own; yields its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(status)
            self.send_header("Date", formatdate(date or time.time(), usegmt=True))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def silent_server():
    """A server that takes connections and says nothing; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_installed_project_has_no_red_light():
    assert not [check for check in checks().values() if check.level == "red"]


def test_whatever_is_not_green_says_what_to_do(bare: Path):
    assert all(check.remedy for check in checks().values() if check.level != "green")


def test_a_missing_base_and_workbook_are_red(bare: Path):
    found = checks()
    assert found["embedded base"].level == found["workbook"].level == "red"


def test_a_base_that_was_changed_or_is_not_whole_is_red(bare: Path):
    folder = bare / "data" / "embedded-base"
    folder.mkdir(parents=True)
    sums = (ROOT / "data" / "embedded-base" / "SHA256SUMS").read_text(encoding="utf-8")
    names = [line.split()[1] for line in sums.splitlines()]
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(names)
    for name in names:
        (folder / name).write_bytes(name.encode())
    own = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(own, encoding="utf-8")
    assert doctor_base.check_embedded_base().level == "green"
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert (doctor_base.check_embedded_base().level, doctor_base.check_embedded_base().found) == (
        *("red", "not as it was shipped: config.json"),
    )
    (folder / "config.json").unlink()
    assert doctor_base.check_embedded_base().found == "missing: config.json"


def test_another_version_than_the_locked_one_is_yellow(bare: Path):
    (bare / "requirements.lock").write_text("pytest==0.0.1\nno-such-package==1\n", encoding="utf-8")
    assert packages().level == "yellow"
    assert "(lock: 0.0.1)" in packages().found


def test_a_lock_with_hashes_is_read(bare: Path):
    lock = f"pytest=={pytest.__version__} \\\n    --hash=sha256:{'0' * 64}\nruff==0.0.1 ; python_version > '3'\n"
    (bare / "requirements.lock").write_text(lock, encoding="utf-8")
    assert "pytest" not in packages().found
    assert "(lock: 0.0.1)" in packages().found


def test_a_version_outside_of_what_is_known_to_work_is_red(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "requires", lambda _: ["pytest<1", "no-such-package; extra == 'dev'"])
    assert (packages().level, "(needed: <1)" in packages().found) == ("red", True)


def test_a_local_build_of_the_locked_version_is_the_locked_version(bare: Path):
    public = torch.__version__.partition("+")[0]
    (bare / "requirements.lock").write_text(f"torch=={public}\n", encoding="utf-8")
    assert packages().level == "green"


def test_a_doctor_does_not_die_of_what_it_finds(bare: Path):
    (bare / "requirements.lock").unlink()
    found = checks()["packages"]
    assert (found.level, found.found.split(":")[0]) == ("red", "FileNotFoundError")


def test_a_broken_store_is_red(bare: Path):
    (bare / "mlruns").mkdir()
    (bare / "mlruns" / "mlflow.db").write_bytes(b"not a database at all")
    assert checks()["MLflow"].level == "red"


def test_looking_makes_no_store(bare: Path):
    assert doctor_tracking.check_tracking()[0].level == "green"
    assert not (bare / "mlruns").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "postgresql://u@127.0.0.1:9/mlflow", "mlruns"])
def test_a_tracking_server_that_does_not_answer_is_red(bare: Path, monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert doctor_tracking.check_tracking()[0].level == "red"


def test_credentials_in_the_address_of_the_store_are_not_shown(bare: Path, monkeypatch: pytest.MonkeyPatch):
    for uri in ("http://user:hunter2@127.0.0.1:9", "postgresql://user:hunter2@db/mlflow"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        found = doctor_tracking.check_tracking()
        assert not [check for check in found if "hunter2" in check.found + check.remedy]


def test_another_kind_of_server_is_no_mlflow(monkeypatch: pytest.MonkeyPatch):
    with http_server(text="<html>") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        check = doctor_tracking.check_tracking()[0]
    assert (check.level, "no MLflow server in order" in check.found) == ("red", True)


@pytest.mark.parametrize(
    ("status", "text", "told"),
    [
        (401, "You are not authenticated", "wants credentials, and none are set"),
        (403, "Invalid Host header - possible DNS rebinding attack detected", "does not go by this name"),
        (403, "Permission denied", "does not let this user read"),
    ],
)
def test_a_refusal_is_told_by_its_cause(monkeypatch: pytest.MonkeyPatch, status: int, text: str, told: str):
    with http_server(status, text=text) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert told in doctor_tracking.check_tracking()[0].found


def test_a_server_that_holds_the_line_costs_its_limit_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_tracking, "ANSWER_SECONDS", 1)
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        (check,) = doctor_tracking.check_tracking()
    assert check.found == f"{address} gives no answer (it took too long)"


def test_what_never_ends_is_waited_for_no_longer_than_was_said():
    begun = time.monotonic()
    (check,) = begin("endless", Event().wait, seconds=0.3)()
    assert (check.level, check.found) == ("red", "no answer within 0.3 s")
    assert time.monotonic() - begun < 30


def test_what_fails_in_a_thread_is_told():
    assert begin("odd", lambda: 1 / 0)()[0].found == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [(0, "green", ""), (3, "green", ""), (-30, "yellow", "ahead of"), (30, "yellow", "behind"), (900, "red", "behind")],
)
def test_a_clock_that_is_off_is_told_by_how_much(monkeypatch: pytest.MonkeyPatch, seconds: int, level: str, words: str):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with http_server(date=time.time() + seconds) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        hub, clock = doctor_base.check_hub()
    assert (hub.level, clock.level) == ("green", level)
    assert words in clock.found


def test_an_answer_without_a_date_says_nothing_of_the_clock():
    assert skew_of("it", {}, time.time()) == skew_of("it", {"date": "yesterday"}, time.time()) == []


@pytest.mark.parametrize(("status", "told"), [(401, "refuses us (401)"), (502, "answers 502")])
def test_a_hub_that_gives_nothing_is_a_note(monkeypatch: pytest.MonkeyPatch, status: int, told: str):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with http_server(status) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        (hub,) = doctor_base.check_hub()
    assert (hub.level, told in hub.found) == ("yellow", True)


def test_a_base_that_is_here_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cached(_: str, name: str) -> str:
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    (hub,) = doctor_base.check_hub()
    assert hub.level == "green"
    assert "is on this machine; HF_HUB_OFFLINE is set" in hub.found


def test_a_gpu_that_this_pytorch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor_machine, "_driver", lambda: "driver 535.1 for CUDA 12.2")
    for build, remedy in ((None, "TORCH_INDEX="), ("13.0", "update the driver to one for CUDA 13.0")):
        monkeypatch.setattr(torch.version, "cuda", build)
        (check,) = doctor_machine.check_gpu()
        assert (check.level, remedy in check.remedy) == ("red", True)


@pytest.mark.parametrize(("free", "short"), [(70, ""), (10, "fast 12"), (5, "seed 8 and fast 12")])
def test_a_gpu_that_others_fill_is_a_note_for_the_profiles_concerned(
    monkeypatch: pytest.MonkeyPatch, free: int, short: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free * 2**30, 80 * 2**30))
    check = doctor_machine.check_gpu()[0]
    assert check.level == ("yellow" if short else "green")
    assert short in check.remedy


def test_a_disk_that_is_nearly_full_or_closed_is_told(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    assert {check.level for check in doctor_machine.check_disks()} == {"red"}
    monkeypatch.setattr(os, "access", lambda *_: False)
    told = [check.found for check in doctor_machine.check_disks()]
    assert f"outputs: {bare / 'outputs'} cannot be written to" in told


def test_a_container_s_limit_is_the_memory_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_machine, "_container_limit", lambda: (2.0, 1.5))
    check = doctor_machine.check_memory()
    assert (check.level, check.found.startswith("1.5 of 2 GiB free")) == ("yellow", True)


def test_a_variable_written_almost_right_is_told_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PREFECT_API_AUTH_STRNG", "user:hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_PASWORD", "hunter2")
    monkeypatch.setenv("PREFECT_PORT", "4200")  # the compose stack's own, near to nothing
    main(["doctor"])
    shown = capsys.readouterr().out
    assert "did you mean PREFECT_API_AUTH_STRING?" in shown
    assert "did you mean MLFLOW_TRACKING_PASSWORD?" in shown
    assert "hunter2" not in shown
    assert "PREFECT_PORT" not in shown


def test_the_variables_of_the_stack_are_no_misspellings(monkeypatch: pytest.MonkeyPatch):
    from cli.doctor_variables import check_variables

    read = [
        ROOT / "docker-compose.yml",
        ROOT / ".env.example",
        *(ROOT / "cli").glob("*.py"),
        *(ROOT / "tasks").glob("*.py"),
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in read)
    names = set(re.findall(r"\b(?:MLFLOW|PREFECT)_[A-Z0-9_]+[A-Z0-9]\b", text))
    assert len(names) > 10
    for name in names:
        monkeypatch.setenv(name, "x")
    assert check_variables() == []


def test_other_programs_get_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    code = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {"section", "name", "level", "found", "remedy"} == set(told[0])
    assert {each["section"] for each in told} == {"this machine", "base models and data", "MLflow", "Prefect"}


def test_a_red_light_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["doctor"]) == 1
    assert "1 to mend" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 120])
def test_long_findings_stay_in_their_columns(columns: int, capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    long = Check("a name", "red", "found " * 60 + "x" * 200, "do " * 80)
    print_lines(Console(width=columns, file=sys.stdout), [("section", lines_of([long]))])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(line.startswith("              ") for line in lines[2:])
    assert "x" * 200 in "".join(line.strip() for line in lines)

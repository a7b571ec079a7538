"""`mlflow models serve` with a registered model: every input format, and what is wrong with bad ones."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from pii_finetune.calibration import IDENTITY
from pii_finetune.model_folder import write_model_folder
from pii_finetune.registry import DPO_MODEL, promote, register
from pii_finetune.tracking import close_run, open_run, parent_run

pytestmark = pytest.mark.slow

JSON = "application/json"
CSV = "text/csv"
BOTH = [["prénom", "French"], ["file size", "English"]]


@pytest.fixture(scope="module")
def server(config, sft, tmp_path_factory):
    """The server of the model in production, as its README line starts it."""
    folder = tmp_path_factory.mktemp("serving")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        run = open_run(config, {})
        write_model_folder(folder / "model", sft[0].path, config.base, "f" * 64, IDENTITY)
        with parent_run(run):
            promote(DPO_MODEL, str(register(DPO_MODEL, folder / "model", {}, "").version))
        close_run(run, "FINISHED")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/pii-dpo/Production"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts `uvicorn` by its name
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--port", str(port)],
            cwd=folder,
            env=os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline, (folder / "log.txt").read_text()
            time.sleep(0.3)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def ask(server: httpx.Client, body: object, kind: str = JSON) -> httpx.Response:
    if isinstance(body, bytes):
        return server.post("/invocations", content=body, headers={"content-type": kind})
    return server.post("/invocations", json=body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"dataframe_split": {"columns": ["label", "language"], "data": BOTH}}, JSON),
        ({"dataframe_split": {"columns": ["language", "label"], "data": [row[::-1] for row in BOTH]}}, JSON),
        ({"dataframe_records": [dict(zip(("label", "language"), row, strict=True)) for row in BOTH]}, JSON),
        ({"instances": [dict(zip(("label", "language"), row, strict=True)) for row in BOTH]}, JSON),
        ({"inputs": {"label": [row[0] for row in BOTH], "language": [row[1] for row in BOTH]}}, JSON),
        ("label,language\nprénom,French\nfile size,English\n".encode(), CSV),
        ("language,label\nfr,prénom\nen,file size\n".encode(), f"{CSV}; charset=utf-8"),
    ],
)
def test_every_format_has_the_same_answers(server, body, kind):
    answer = ask(server, body, kind)
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [sorted(each) for each in predictions] == [["probability", "sensitive"]] * 2
    reference = ask(server, {"inputs": [{"label": row[0], "language": row[1]} for row in BOTH]}).json()["predictions"]
    for each, expected in zip(predictions, reference, strict=True):
        assert each["sensitive"] == expected["sensitive"]
        assert each["probability"] == pytest.approx(expected["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"dataframe_split": {"columns": ["label"], "data": [["prénom"], ["file size"]]}}, JSON),
        (
            {"dataframe_split": {"columns": ["label", "language"], "data": [["prénom", None], ["file size", None]]}},
            JSON,
        ),
        ({"dataframe_records": [{"label": "prénom"}, {"label": "file size", "language": None}]}, JSON),
        ({"instances": [{"label": "prénom"}, {"label": "file size"}]}, JSON),
        ({"inputs": {"label": ["prénom", "file size"]}}, JSON),
        ("label\nprénom\nfile size\n".encode(), CSV),
        ("label,language\nprénom,\nfile size,\n".encode(), CSV),
    ],
)
def test_a_language_can_be_left_out_in_every_format(server, body, kind):
    answer = ask(server, body, kind)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 2


NO_LABEL = "rows [1] (counted from 0) of 2 have no label; give each row a non-empty text"


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ({"dataframe_split": {"columns": ["name"], "data": [["a"]]}}, JSON, "Model is missing inputs ['label']"),
        ({"dataframe_records": [{"lable": "a"}]}, JSON, "Note that there were extra inputs: ['lable']"),
        ({"inputs": {"language": ["en"]}}, JSON, "Model is missing inputs ['label']"),
        ({"instances": ["first name"]}, JSON, "Model is missing inputs ['label']"),
        (b"name,language\na,en\n", CSV, "Model is missing inputs ['label']"),
        ({"dataframe_split": {"columns": ["label"], "data": [["a"], [""]]}}, JSON, NO_LABEL),
        ({"dataframe_records": [{"label": "a"}, {"label": None}]}, JSON, NO_LABEL),
        ({"instances": [{"label": "a"}, {"label": " "}]}, JSON, NO_LABEL),
        ({"inputs": {"label": ["a", ""]}}, JSON, NO_LABEL),
        (b"label,language\na,en\n,en\n", CSV, NO_LABEL),
        ({"dataframe_records": [{"label": "a"}, {"label": 7}]}, JSON, "rows [1] (counted from 0) of 2 have no text"),
        ({"dataframe_records": [{"label": "a", "language": 7}]}, JSON, "have no text in column 'language'"),
        ({"inputs": {"label": ["x" * 201]}}, JSON, "have a label of more than 200 characters"),
        ({"instances": []}, JSON, "Model is missing inputs ['label']"),
        ({"rows": [{"label": "a"}]}, JSON, "exactly one of the input fields"),
        ([{"label": "a"}], JSON, "Received a list"),
        (b"{not json", JSON, "Ensure that input is a valid JSON formatted string"),
        (b"\xff\xfe", CSV, "Ensure that input is a valid UTF-8 encoded string"),
        (b"", CSV, "Failed to parse input as a Pandas DataFrame"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(server, body, kind, reason):
    answer = ask(server, body, kind)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["message"]


def test_a_kind_of_content_that_is_not_known_is_refused(server):
    answer = ask(server, b"first name", "text/plain")
    assert answer.status_code == 415
    assert "text/csv" in answer.text


def test_the_server_still_answers_after_every_bad_request(server):
    assert ask(server, {"inputs": {"label": ["first name"]}}).status_code == 200

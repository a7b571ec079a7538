"""The proxy's own files by a real nginx where there is one, without containers: hosts and certificate."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time

import httpx
import pytest
from compose import ROOT, free_port

PROXY = ROOT / "docker" / "proxy"
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine"),
]


class Told(http.server.BaseHTTPRequestHandler):
    """Answers with the headers it was sent."""

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def behind():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def certificate(tmp_path):
    """A folder as docker/tls is to be: a certificate of pii.example.com and its key."""
    folder = tmp_path / "tls"
    folder.mkdir()
    made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-days", "2", "-subj", "/CN=pii.example.com"]
    curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-addext",
        "subjectAltName=DNS:pii.example.com",
    ]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *curve, *made], check=True, capture_output=True)
    return folder


@pytest.fixture
def prepare(tmp_path, behind):
    """Returns what copies the proxy's files, with other ports, another place to write to, and one server behind."""
    ports = {"4200": str(free_port()), "5000": str(free_port())}

    def changed(name, target):
        text = (PROXY / name).read_text(encoding="utf-8")
        for before, after in (
            ("/tmp/nginx", str(tmp_path / "nginx")),
            ("/etc/nginx/nginx.conf", str(tmp_path / "nginx.conf")),
            ("door 4200 prefect; door 5000 mlflow", f"door {ports['4200']} prefect; door {ports['5000']} mlflow"),
            ("http://$2:$1", f"http://127.0.0.1:{behind}"),
        ):
            text = text.replace(before, after)
        target.write_text(text, encoding="utf-8")
        return target

    changed("nginx.conf", tmp_path / "nginx.conf")
    return ["bash", changed("entrypoint.sh", tmp_path / "entrypoint.sh")], ports


@pytest.fixture
def start(prepare, tmp_path):
    """Returns what starts the proxy with further settings and gives its two addresses."""
    command, ports = prepare
    running = []

    def begin(**settings):
        environment = {"PUBLIC_HOST": "pii.example.com", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **settings}
        with (tmp_path / "log").open("w") as log:
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 60
        for port in ports.values():
            while not _is_open(port):
                assert running[0].poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
        return [f"127.0.0.1:{port}" for port in ports.values()]

    yield begin
    for process in running:
        process.terminate()
        process.wait(30)


def _is_open(port):
    try:
        httpx.get(f"http://127.0.0.1:{port}", timeout=5)
    except httpx.ConnectError:
        return False
    except httpx.HTTPError:
        pass
    return True


def test_with_a_certificate_both_ports_speak_https_alone_under_the_name_it_is_for(start, certificate):
    trusted = ssl.create_default_context(cafile=str(certificate / "tls.crt"))
    for address in start(TLS_FOLDER=str(certificate)):
        with httpx.Client(verify=trusted) as client:

            def ask(host, client=client, address=address):
                extensions = {"sni_hostname": "pii.example.com"}  # the name that the certificate is checked for
                return client.get(f"https://{address}/api", headers={"Host": host}, extensions=extensions)

            passed = ask("pii.example.com:4200")
            assert passed.status_code == 200
            assert passed.json()["host"] == "pii.example.com:4200"
            assert passed.json()["x-forwarded-proto"] == "https"
            assert ask("evil.example").status_code == 421
        plain = httpx.get(f"http://{address}/api", headers={"Host": "pii.example.com"})
        assert plain.status_code == 400


def test_without_one_both_speak_http_and_know_hosts_as_well(start):
    for address in start():
        passed = httpx.get(f"http://{address}/", headers={"Host": "localhost"})
        assert (passed.status_code, passed.json()["x-forwarded-proto"]) == (200, "http")
        assert httpx.get(f"http://{address}/", headers={"Host": "pii.example.com.evil.com"}).status_code == 421


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_where_https_was_asked_for_and_a_file_is_missing_there_is_no_door_and_a_line_says_why(
    prepare, certificate, missing
):
    command, ports = prepare
    (certificate / missing).unlink()
    environment = {"PUBLIC_HOST": "pii.example.com", "TLS_FOLDER": str(certificate), "PATH": "/usr/sbin:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"{missing} cannot be read: put it into docker/tls" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(_is_open(port) for port in ports.values())

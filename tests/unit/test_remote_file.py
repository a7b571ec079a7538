import os
import threading
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from make_data.workbook import Row, write_workbook
from pii_finetune.dataset_watch import has_other_rows, read_rows
from pii_finetune.errors import BadWorkbookError, SourceOutOfReachError
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.setup import configure_run
from pii_finetune.source_mark import source_mark


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


class _Refusing(BaseHTTPRequestHandler):
    status = HTTPStatus.SERVICE_UNAVAILABLE

    def do_GET(self) -> None:
        self.send_error(self.status)

    do_HEAD = do_GET  # noqa: N815  the name that http.server looks for

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A web server of the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of a workbook on a server that has other worries."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/labels.xlsx?signature=secret"
    server.shutdown()
    server.server_close()
    thread.join()


def config_of(source: str):
    return apply_overrides(embedded(), {"data.workbook": source})


def test_a_workbook_on_a_web_server_is_read_and_another_one_is_seen(
    served: ThreadingHTTPServer, tmp_path: Path, small_rows: list[Row]
):
    write_workbook(small_rows, tmp_path / "labels.xlsx")
    url = f"http://127.0.0.1:{served.server_port}/labels.xlsx"
    report = read_rows(config_of(url))
    assert len(report.records) == len(small_rows)
    assert report.where.startswith(f"{url}, sheet ")
    mark = source_mark(url)
    assert mark is not None
    assert source_mark(url) == mark
    write_workbook(small_rows[1:], tmp_path / "labels.xlsx")
    os.utime(tmp_path / "labels.xlsx", (0, 0))  # a web server tells times by the second
    assert source_mark(url) != mark
    assert has_other_rows(config_of(url), report.fingerprint, mark)


def test_a_message_about_rows_at_a_url_names_the_url_and_no_copy(
    served: ThreadingHTTPServer, tmp_path: Path, small_rows: list[Row]
):
    write_workbook([("first name", "English", "perhaps", "names"), *small_rows], tmp_path / "labels.xlsx")
    url = f"http://127.0.0.1:{served.server_port}/labels.xlsx"
    with pytest.raises(BadWorkbookError) as told:
        read_rows(config_of(url))
    assert str(told.value).startswith(f"{url}, sheet ")
    (tmp_path / "labels.xlsx").write_bytes(b"none")
    with pytest.raises(BadWorkbookError) as told:
        read_rows(config_of(url))
    assert str(told.value).startswith(f"{url}: ")


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_a_folder_at_a_url_is_read_like_one_here(protocol: str, tmp_path: Path, small_rows: list[Row]):
    place = f"{protocol}://{tmp_path}/tables"
    system, path = fsspec.core.url_to_fs(place)
    system.makedirs(path)
    write_workbook(small_rows[:100], tmp_path / "a.xlsx")
    write_workbook(small_rows[100:], tmp_path / "b.xlsx")
    for name in ("a.xlsx", "b.xlsx"):
        system.put_file(str(tmp_path / name), f"{path}/{name}")
    system.pipe_file(f"{path}/~$a.xlsx", b"open")
    report = read_rows(config_of(place))
    assert len(report.records) == len(small_rows)
    assert report.records[-1].row == f"{len(small_rows) - 100 + 1} of b.xlsx"
    assert report.where == place
    assert "not read (hidden or temporary): ~$a.xlsx" in report.notes
    mark = source_mark(place)
    system.rm_file(f"{path}/~$a.xlsx")
    assert source_mark(place) == mark
    system.rm_file(f"{path}/b.xlsx")
    assert source_mark(place) != mark
    system.rm_file(f"{path}/a.xlsx")
    with pytest.raises(BadWorkbookError, match="holds no table"):
        source_mark(place)


def test_a_server_that_is_down_or_in_trouble_says_nothing_about_the_rows(refusing: str):
    for url, reason in ((refusing, "status 503"), ("http://127.0.0.1:1/labels.xlsx", "ClientConnectorError")):
        with pytest.raises(SourceOutOfReachError, match=rf"labels\.xlsx: cannot be read now \({reason}\)") as told:
            has_other_rows(config_of(url), "f" * 64, "a mark")
        assert "secret" not in str(told.value)
        with pytest.raises(SourceOutOfReachError, match=reason):
            read_rows(config_of(url))
        with pytest.raises(SourceOutOfReachError, match=reason):
            configure_run("embedded", url, {})


def test_a_file_that_a_server_does_not_have_is_gone(served: ThreadingHTTPServer):
    url = f"http://127.0.0.1:{served.server_port}/none.xlsx"
    with pytest.raises(BadWorkbookError, match=r"none\.xlsx: there is no such file; check the URL"):
        source_mark(url)
    assert has_other_rows(config_of(url), "f" * 64, "a mark")


def test_a_server_that_tells_no_more_than_a_size_leaves_it_to_the_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pii_finetune.source_mark.describe_remote", lambda _: {"labels.xlsx": {"size": 3}})
    assert source_mark("https://server/labels.xlsx") is None

import random

import pytest

from make_data.workbook import write_workbook
from pii_finetune.dataset_watch import attempt_key, has_other_rows, read_rows, wait_until_stable
from pii_finetune.errors import BadWorkbookError
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.source_mark import source_mark


@pytest.fixture
def source(tmp_path, small_rows):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    config = apply_overrides(embedded(), {"data.workbook": str(path)})
    return path, config, source_mark(str(path)), read_rows(config).fingerprint


def test_a_file_that_was_not_written_holds_the_same_rows_unread(source, monkeypatch):
    _, config, mark, fingerprint = source
    monkeypatch.setattr("pii_finetune.dataset_watch.read_rows", lambda _: pytest.fail("read"))
    assert not has_other_rows(config, fingerprint, mark)


def test_rows_in_another_order_are_the_same_and_one_more_is_not(source, small_rows):
    path, config, mark, fingerprint = source
    shuffled = random.Random(1).sample(small_rows, len(small_rows))
    write_workbook(shuffled, path)
    assert source_mark(str(path)) != mark
    assert not has_other_rows(config, fingerprint, mark)
    write_workbook(shuffled[1:], path)
    assert has_other_rows(config, fingerprint, mark)


def test_a_file_that_is_gone_holds_other_rows_and_is_no_source(source):
    path, config, mark, fingerprint = source
    path.unlink()
    assert has_other_rows(config, fingerprint, mark)
    with pytest.raises(BadWorkbookError, match="there is no such file"):
        source_mark(str(path))


def test_a_file_that_is_being_written_is_waited_for_and_then_left_for_the_next_look(source, monkeypatch):
    path, _, _, _ = source
    marks = iter(["a", "b", "c", "c"])
    monkeypatch.setattr("pii_finetune.dataset_watch.source_mark", lambda _: next(marks))
    assert wait_until_stable(str(path), 0.01) == "c"
    counted = iter(range(10_000))
    monkeypatch.setattr("pii_finetune.dataset_watch.source_mark", lambda _: str(next(counted)))
    with pytest.raises(BadWorkbookError, match="is being written all the time"):
        wait_until_stable(str(path), 0.01)


def test_rows_that_come_back_after_others_are_another_attempt():
    assert attempt_key("s", "rows", "first") == attempt_key("s", "rows", "first")
    assert (
        len({attempt_key("s", "rows", "first"), attempt_key("s", "rows", "second"), attempt_key("s", "x", "first")})
        == 3
    )

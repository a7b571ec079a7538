import pytest

from make_data.workbook import write_workbook
from pii_finetune.errors import BadWorkbookError
from pii_finetune.measuring_rows import frozen_rows, unseen_rows
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "measure.xlsx"
    german = [(f"Wort {n}", "de", "yes" if n % 2 else "no", "") for n in range(30)]
    write_workbook([*german, ("mot", "fr", "yes", ""), ("autre", "French", "no", "")], path)
    return str(path)


def data(**changes):
    return apply_overrides(embedded(), {f"data.{name}": value for name, value in changes.items()}).data


@pytest.mark.parametrize(("setting", "rows"), [("unseen", unseen_rows), ("frozen_test", frozen_rows)])
def test_rows_that_measure_are_of_the_languages_of_the_run_and_may_be_few(table, setting, rows):
    assert len(rows(data(**{setting: table}))) == 32
    found = rows(data(**{setting: table, "languages": "fr"}))
    assert [(row.label, row.language, row.row) for row in found] == [("mot", "French", 32), ("autre", "French", 33)]
    assert len(rows(data(**{setting: table, "languages": "fr,nl"}))) == 2
    assert rows(data(**{setting: None, "languages": "fr"})) == ()


def test_no_unseen_rows_is_no_error_and_no_frozen_ones_is_one(table):
    assert unseen_rows(data(unseen=table, languages="nl")) == ()
    with pytest.raises(
        BadWorkbookError, match="data.frozen_test = .*: holds no row in Dutch or Hindi, which data.lang"
    ):
        frozen_rows(data(frozen_test=table, languages="hi,nl"))


def test_a_table_that_measures_is_judged_as_a_whole(tmp_path):
    path = tmp_path / "measure.xlsx"
    write_workbook(
        [(f"word {n}", "en", "yes" if n % 2 else "no", "") for n in range(30)] + [("x", "de", "hm", "")], path
    )
    with pytest.raises(BadWorkbookError, match="row 32"):
        unseen_rows(data(unseen=str(path), languages="en"))

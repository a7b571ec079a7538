from pathlib import Path

import great_expectations.expectations as gxe
import pandas as pd
import pytest

from pii_finetune.advice_expectations import advice_expectations
from pii_finetune.checkpoint import Checkpoint
from pii_finetune.expectations import Expectation, label_expectations

SUITES = {"labels": label_expectations(), "advice": advice_expectations(1000)}
EVEN = Expectation(
    "even", "a & b <i> are even", "odd", "ExpectColumnValuesToBeInSet", {"column": "n", "value_set": [0]}
)
MANY = Expectation("many", "many rows", "few", "ExpectTableRowCountToBeBetween", {"min_value": 1000}, "warning")
ABSENT = Expectation("absent", "is there", "is not", "ExpectColumnValuesToBeInSet", {"column": "m", "value_set": [0]})
ROWS = pd.DataFrame({"n": [0, 1, 0, 1]}, index=pd.Index([7, 9, 12, 40], name="row"))


def test_what_failed_is_returned_in_the_order_of_the_suite_with_rows_of_the_sheet():
    found = Checkpoint().run("numbers", [MANY, EVEN], ROWS)
    assert [(each.expectation.name, each.rows, each.error) for each in found] == [
        ("many", (), ""),
        ("even", (9, 40), ""),
    ]


def test_an_expectation_that_cannot_be_checked_says_why():
    (failure,) = Checkpoint().run("numbers", [ABSENT], ROWS)
    assert '"m" in BatchData does not exist' in failure.error
    assert failure.rows == ()


def test_the_data_docs_show_name_severity_rows_and_message_of_each_suite(tmp_path: Path):
    checkpoint = Checkpoint()
    checkpoint.run("numbers", [EVEN], ROWS)
    checkpoint.run("sizes", [MANY], ROWS)
    index = checkpoint.write_docs(tmp_path, {"even": "these are <odd>", "many": "add rows"})
    text = index.read_text(encoding="utf-8")
    pages = {page.parts[-4]: page.read_text(encoding="utf-8") for page in (tmp_path / "validations").rglob("*.html")}
    assert pages.keys() == {"numbers", "sizes"}
    assert all(f"validations/{name}/" in text for name in pages)
    assert "even (critical): a &amp; b &lt;i&gt; are even<br>These are &lt;odd&gt;.<br>Rows: 9, 40" in pages["numbers"]
    assert "many (warning): many rows<br>Add rows." in pages["sizes"]


def test_an_expectation_that_holds_is_shown_without_a_message(tmp_path: Path):
    checkpoint = Checkpoint()
    assert checkpoint.run("numbers", [EVEN], ROWS.iloc[[0, 2]]) == ()
    checkpoint.write_docs(tmp_path, {})
    (page,) = (tmp_path / "validations").rglob("*.html")
    assert "even (critical)" in page.read_text(encoding="utf-8")
    assert "Rows:" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "severities"), [("labels", {"critical"}), ("advice", {"warning", "info"})])
def test_a_suite_has_its_severities_and_a_name_a_kind_and_a_sentence_for_each(name: str, severities: set[str]):
    suite = SUITES[name]
    assert {each.severity for each in suite} == severities
    assert len({each.name for each in suite}) == len({each.holds for each in suite}) == len(suite)
    assert all(hasattr(gxe, each.kind) for each in suite)
    assert all(each.message.startswith("for information") == (each.severity == "info") for each in suite)

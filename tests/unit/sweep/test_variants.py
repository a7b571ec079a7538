import pytest

from cli.sweep import parse_variants
from pii_finetune.errors import BadConfigError
from pii_finetune.sweep.variants import plan_variants


def test_a_variant_has_the_settings_that_all_share_and_its_own():
    [hr, crm] = plan_variants("embedded", None, {"seed": 1}, {"hr": {"data.sheet": "a"}, "crm": {"seed": 2}}, False)
    assert (hr.name, hr.overrides) == ("hr", {"seed": 1, "data.sheet": "a", "variant": "hr"})
    assert (crm.name, crm.overrides) == ("crm", {"seed": 2, "variant": "crm"})


@pytest.mark.parametrize(
    ("overrides", "variants", "each_language", "told"),
    [
        ({"variant": "fr"}, {"crm": {"seed": 1}}, False, "leave it out"),
        ({"variant": "fr"}, {}, True, "leave it out"),
        ({}, {"hr": {"variant": "crm"}}, False, "its name already"),
        ({}, {"hr": {"seed": 1}}, True, "give one of them"),
        ({}, {"Production": {"seed": 1}}, False, "small letter"),
    ],
)
def test_a_name_that_would_be_passed_over_is_refused(overrides, variants, each_language, told):
    with pytest.raises(BadConfigError, match=told):
        plan_variants("embedded", None, overrides, variants, each_language)


def test_a_variant_of_several_settings_is_one():
    given = ["hr:data.workbook=hr.xlsx", "hr:data.sheet=x", "crm:data.workbook=crm.xlsx"]
    assert parse_variants(given) == {
        "hr": {"data.workbook": "hr.xlsx", "data.sheet": "x"},
        "crm": {"data.workbook": "crm.xlsx"},
    }


def test_two_workbooks_under_one_name_are_refused():
    with pytest.raises(BadConfigError, match="hr has data.workbook = 'a.xlsx' already"):
        parse_variants(["hr:data.workbook=a.xlsx", "hr:data.workbook=b.xlsx"])

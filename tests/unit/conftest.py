import pytest

from pii_finetune.profiles import embedded
from pii_finetune.validation import ValidationReport, validate
from pii_finetune.workbook import read_workbook


@pytest.fixture(scope="session")
def shipped() -> ValidationReport:
    """The workbook in data/, validated."""
    return validate(read_workbook(embedded().data), None)

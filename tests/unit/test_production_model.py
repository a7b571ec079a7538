import pandas as pd
import pytest

from pii_finetune.production_model import ProductionModel


@pytest.mark.parametrize("label", [None, "", "  ", "\u200b", float("nan"), 7])
def test_a_row_without_a_label_gets_no_answer_but_its_number(label: object):
    with pytest.raises(ValueError, match=r"rows \[1\] \(counted from 0\) of 2 have no label; give each row"):
        ProductionModel().predict(None, pd.DataFrame({"label": ["first name", label]}, dtype=object))

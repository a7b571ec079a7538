import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.labels import fold_label, spell_out
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.splits import Splits, split
from pii_finetune.validation import ValidationReport

WORDS = ("first", "last", "name", "id", "date", "of", "birth", "code", "url", "tax", "file", "color")
FORMS = (
    " ".join,
    "_".join,
    lambda words: "".join(map(str.capitalize, words)),
    lambda words: f"tbl.{'_'.join(words)}s",
    lambda words: f"crm.{'_'.join(words)}",  # folds to the key of the words alone
    lambda words: f"CRM {' '.join(words)}",  # has a key of its own, and is read as the one above
)
CONFIG = DataConfig(validation_fraction=0.1, test_fraction=0.2, seed=3)


def sides(splits: Splits) -> tuple[tuple[Record, ...], ...]:
    return splits.train, splits.validation, splits.test


@st.composite
def datasets(draw: st.DrawFn) -> list[Record]:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(tuple)
    row = st.tuples(words, st.sampled_from(FORMS), st.sampled_from(["English", "French", "Hindi"]), st.booleans())
    rows = draw(st.lists(row, min_size=20, max_size=80))
    unique = {(form(words), language): answer for words, form, language, answer in rows}
    return [Record(label, language, yes, at) for at, ((label, language), yes) in enumerate(unique.items(), start=2)]


@settings(max_examples=40, deadline=None)
@given(datasets(), st.integers(0, 2**32 - 1), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_rows_with_one_key_or_one_spelling_are_never_on_two_sides(
    records: list[Record], seed: int, validation_fraction: float, test_fraction: float
):
    config = DataConfig(validation_fraction=validation_fraction, test_fraction=test_fraction, seed=seed)
    try:
        parts = sides(split(records, config))
    except BadWorkbookError:
        return  # too few keys of an answer
    for key in (fold_label, spell_out):
        keys = [{key(r.label) for r in part} for part in parts]
        assert sum(map(len, keys)) == len(set.union(*keys))
    assert sorted(r.row for part in parts for r in part) == [r.row for r in records]
    assert all({r.answer for r in part} == {"yes", "no"} for part in parts)


def keys_of(records: Sequence[Record]) -> set[str]:
    return {key(r.label) for r in records for key in (fold_label, spell_out)}


@settings(max_examples=40, deadline=None)
@given(datasets(), datasets(), st.integers(0, 80), st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_no_row_that_is_learnt_from_is_a_variant_of_a_frozen_one(
    records: list[Record], others: list[Record], num_shared: int, seed: int
):
    frozen = {(r.label, r.language): r for r in [*others[:8], *records[:num_shared]]}.values()
    try:
        splits = split(records, CONFIG.model_copy(update={"seed": seed}), [*frozen])
    except BadWorkbookError:
        return  # too few keys of an answer
    assert sorted(splits.test, key=str) == sorted(frozen, key=str)
    assert not keys_of(frozen) & keys_of([*splits.train, *splits.validation])
    assert not keys_of(splits.train) & keys_of(splits.validation)
    num_tested = sum(
        (r.label, r.language, r.sensitive) in {(f.label, f.language, f.sensitive) for f in frozen} for r in records
    )
    assert len(splits.train) + len(splits.validation) + splits.num_withheld + num_tested == len(records)


def workbook(num_rows: int = 60) -> list[Record]:
    return [Record(f"label {at}x", "English", at % 2 == 0, at) for at in range(num_rows)]


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_frozen_rows_are_the_test_split_whether_the_workbook_has_them_or_not():
    absent = [Record("iban", "German", True, 2), Record("colour", "French", False, 3)]
    whole = split(workbook(), CONFIG, absent)
    assert set(whole.test) == set(absent)
    assert (len(whole.train) + len(whole.validation), whole.num_withheld) == (60, 0)
    present = workbook()[:10]
    without = split(workbook(), CONFIG, present)
    assert set(without.test) == set(present)
    assert (len(without.train) + len(without.validation), without.num_withheld) == (50, 0)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_variants_of_frozen_rows_and_the_same_label_answered_otherwise_are_withheld_and_counted():
    frozen = [
        Record("LABEL_2X", "English", True, 2),
        Record("label 3x", "English", True, 3),
        Record("a", "Dutch", False, 4),
    ]
    splits = split(workbook(), CONFIG, frozen)
    assert splits.num_withheld == 2
    assert not {"label 2x", "label 3x"} & {r.label for r in (*splits.train, *splits.validation)}


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_labels_that_only_a_frozen_one_connects_are_withheld_together():
    # The first and the second fold to one key, the second and the third are read as one.
    frozen = [Record("event.cash_flow", "English", True, 2), Record("hue", "English", False, 3)]
    twins = [Record("cash flow", "English", True, 2), Record("Event cash flow", "French", False, 3)]
    splits = split([*workbook(), *twins], CONFIG, frozen)
    assert splits.num_withheld == 2
    assert not set(twins) & {*splits.train, *splits.validation}


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_every_run_with_a_frozen_test_set_is_measured_on_the_same_rows():
    frozen = workbook()[:10]
    sides = [
        split(rows, CONFIG.model_copy(update={"seed": seed}), frozen[::step])
        for rows, seed, step in ((workbook(60), 1, 1), (workbook(90)[::-1], 2, -1))
    ]
    assert sides[0].test == sides[1].test


def test_the_validation_side_keeps_its_share_beside_a_frozen_test_set(shipped: ValidationReport):
    frozen = split(shipped.records, embedded().data).test
    splits = split(shipped.records, embedded().data.model_copy(update={"seed": 7}), frozen)
    assert splits.test == frozen
    remaining = len(splits.train) + len(splits.validation)
    assert remaining == len(shipped.records) - len(frozen)
    assert len(splits.validation) / remaining == pytest.approx(embedded().data.validation_fraction, rel=0.05)


def test_a_frozen_test_set_has_both_answers():
    with pytest.raises(BadWorkbookError, match=r"data\.frozen_test: all 30 rows are answered 'yes'"):
        split(workbook(), CONFIG, workbook()[::2])


def test_a_workbook_that_is_all_frozen_leaves_nothing_to_train_on():
    with pytest.raises(
        BadWorkbookError, match="beside variants of labels in data.frozen_test the workbook has 0 distinct"
    ):
        split(workbook(), CONFIG, workbook())


@pytest.fixture(scope="module")
def shipped_splits(shipped: ValidationReport) -> Splits:
    return split(shipped.records, embedded().data)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_the_split_depends_on_the_seed_and_not_on_the_order_of_rows(shipped: ValidationReport):
    records = shipped.records[:300]
    shuffled = random.Random(0).sample(records, len(records))
    assert split(shuffled, CONFIG) == split(records, CONFIG)
    assert split(records, CONFIG.model_copy(update={"seed": 4})) != split(records, CONFIG)


def test_the_shipped_workbook_is_split_into_the_shares_asked_for(shipped: ValidationReport, shipped_splits: Splits):
    data = embedded().data
    assert len(shipped_splits.test) / len(shipped.records) == pytest.approx(data.test_fraction, rel=0.05)
    assert len(shipped_splits.validation) / len(shipped.records) == pytest.approx(data.validation_fraction, rel=0.05)


def test_every_side_has_every_language_and_answer_in_like_shares(shipped: ValidationReport, shipped_splits: Splits):
    whole = Counter((r.language, r.answer) for r in shipped.records)
    for side in sides(shipped_splits):
        part = Counter((r.language, r.answer) for r in side)
        for stratum, count in whole.items():
            assert part[stratum] / len(side) == pytest.approx(count / len(shipped.records), abs=0.02)


@pytest.mark.parametrize("answers", [[True] * 40, [True] * 38 + [False] * 2])
def test_too_few_labels_of_an_answer_are_told_with_the_numbers(answers: list[bool]):
    records = [Record(f"label {at}x", "English", yes, at) for at, yes in enumerate(answers)]
    with pytest.raises(
        BadWorkbookError, match=rf"{sum(answers)} distinct sensitive and {answers.count(False)} distinct"
    ):
        split(records, CONFIG)


def test_no_rows_are_too_few():
    with pytest.raises(BadWorkbookError, match="0 distinct sensitive and 0 distinct other labels"):
        split([], CONFIG)

import numpy as np
import pytest

from pii_finetune import baselines
from pii_finetune.baselines import NgramBaseline, fit_ngram_baseline
from pii_finetune.labels import fold_label
from pii_finetune.metrics import compute_metrics
from pii_finetune.records import Record
from pii_finetune.scores import Scores

SENSITIVE = ("name", "birth", "salary", "passport", "phone")
HARMLESS = ("invoice", "warehouse", "printer", "colour", "server")
BESIDE = ("old", "new", "main", "primary", "second", "former", "current", "legal", "local", "other", "next", "latest")


def make_rows(words: tuple[str, ...] = BESIDE) -> list[Record]:
    return [
        Record(f"{word} {thing}", language, thing in SENSITIVE, at)
        for at, (word, thing, language) in enumerate(
            (word, thing, language)
            for word in words
            for thing in (*SENSITIVE, *HARMLESS)
            for language in ("English", "French")
        )
    ]


@pytest.fixture(scope="module")
def fitted() -> NgramBaseline:
    return fit_ngram_baseline(make_rows(BESIDE[:8]), 0)


def ask(model: NgramBaseline, records: list[Record]) -> Scores:
    return model([(r.label, r.language) for r in records])


def test_labels_it_has_not_seen_are_answered_by_their_spelling(fitted: NgramBaseline):
    beyond = make_rows(BESIDE[8:])
    scores = ask(fitted, beyond)
    metrics = compute_metrics([r.sensitive for r in beyond], scores.probability, scores.valid)
    assert metrics.accuracy > 0.95
    assert metrics.format_validity == 1.0


def test_it_reads_a_label_as_the_language_model_does(fitted: NgramBaseline):
    forms = ["birth name", "BIRTH_NAME", "birthName", "tbl_birth-name"]
    assert len({*fitted([(form, "English") for form in forms]).margin.tolist()}) == 1


def test_margins_are_log_odds(fitted: NgramBaseline):
    texts = [baselines._write("old name", "English")]
    yes = fitted.pipeline.predict_proba(texts)[0, 1]
    assert fitted([("old name", "English")]).probability[0] == pytest.approx(yes)


def test_the_language_is_a_feature_of_its_own():
    rows = [Record(f"{word} {thing}", "French", True, 1) for word in BESIDE for thing in HARMLESS]
    rows += [Record(f"{word} {thing}", "German", False, 1) for word in BESIDE for thing in HARMLESS]
    model = fit_ngram_baseline(rows, 0)
    assert model([("other thing", "French"), ("other thing", "German")]).answers.tolist() == [True, False]


def test_an_unknown_language_is_answered_all_the_same(fitted: NgramBaseline):
    assert fitted([("old name", None), ("old name", "Finnish"), ("old server", None)]).answers.tolist() == [1, 1, 0]


def test_the_same_rows_and_seed_give_the_same_answers(fitted: NgramBaseline):
    again = fit_ngram_baseline(make_rows(BESIDE[:8]), 0)
    rows = make_rows(BESIDE[8:])
    assert ask(again, rows).margin.tolist() == ask(fitted, rows).margin.tolist()
    assert (again.ngram_range, again.c) == (fitted.ngram_range, fitted.c)


def test_what_is_chosen_is_one_of_the_grid_and_not_always_the_same(fitted: NgramBaseline):
    rng = np.random.default_rng(0)
    noise = [Record(r.label, r.language, bool(rng.random() < 0.5), r.row) for r in make_rows()]
    random = fit_ngram_baseline(noise, 0)
    assert {fitted.ngram_range, random.ngram_range} <= {*baselines._NGRAM_RANGES}
    assert random.c == min(baselines._CS) < fitted.c  # nothing can be learnt: the strongest penalty is best


@pytest.mark.parametrize("ranges", [((9, 9), (2, 4)), ((2, 4), (9, 9))])
def test_the_n_gram_lengths_that_foretell_best_are_chosen(ranges: tuple, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(baselines, "_NGRAM_RANGES", ranges)
    assert fit_ngram_baseline(make_rows(), 0).ngram_range == (2, 4)  # few words have nine letters


def test_no_group_of_labels_is_on_both_sides_of_a_fold():
    labels = [form for word in BESIDE for form in (f"{word} name", f"{word.upper()}_NAME", f"{word}Names")]
    groups = baselines.group_labels(labels)
    folds = baselines._fold(np.array([at // 3 % 2 == 0 for at in range(len(labels))]), groups, 0)
    assert len(folds) == 3
    for train, held_out in folds:
        assert not {fold_label(labels[at]) for at in train} & {fold_label(labels[at]) for at in held_out}


def test_rows_too_few_to_choose_by_are_fitted_with_the_first_setting():
    rows = [Record("first name", "English", True, 2), Record("colour", "English", False, 3)]
    model = fit_ngram_baseline(rows, 0)
    assert (model.ngram_range, model.c) == (baselines._NGRAM_RANGES[0], baselines._CS[0])
    assert ask(model, rows).answers.tolist() == [True, False]


def test_of_more_rows_than_the_limit_a_sample_is_fitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(baselines, "MAX_ROWS", 60)
    monkeypatch.setattr(baselines, "_MAX_TO_CHOOSE_BY", 40)
    assert fit_ngram_baseline(make_rows(), 0).num_rows == 60


def test_no_questions_have_no_answers(fitted: NgramBaseline):
    assert fitted([]).margin.shape == (0,)

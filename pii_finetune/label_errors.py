"""Rows whose answer contradicts what the other rows teach: suspected label errors."""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from pii_finetune.labels import spell_out
from pii_finetune.records import Record
from pii_finetune.splits import group_labels

MAX_CHECKED = 20_000  # a random sample above it: all of a million rows would take minutes and gigabytes
_NUM_FOLDS = 5
_FIRST_PRIVATE = 0xE000  # private-use characters stand for languages: a name's n-grams would be read as a label's


def answer_probability(records: Sequence[Record], seed: int) -> np.ndarray:
    """Compare each answer with that of a character n-gram classifier that has not seen the row, nor any row like it.

    On the shipped workbook, where it is right on 3 rows of 4, 5 of 20 flipped answers come among the 100 least probable
    of 4942 (mean of 10 seeds; 0.4 by chance): a list to start with, not a proof that the rest is right.

    Returns:
        The probability of each row's given answer, float64 of shape (len(records),). NaN: not checked, for there are
        too few different labels of an answer to cross-validate, or the row is not in the sample of MAX_CHECKED.

    Source: out-of-sample probabilities of the given label are the signal of confident learning (Northcutt et al. 2021,
    arXiv:1911.00068); a fixed threshold on them is simpler than its per-class ones.
    """
    checked = np.arange(len(records))
    if len(records) > MAX_CHECKED:
        checked = np.sort(np.random.default_rng(seed).choice(len(records), MAX_CHECKED, replace=False))
    sample = [records[at] for at in checked.tolist()]
    found = np.full(len(records), np.nan)
    probabilities = _out_of_fold(sample, seed)
    if probabilities is None:
        return found
    sensitive = np.array([r.sensitive for r in sample])
    for rows in (sensitive, ~sensitive):
        if np.median(probabilities[rows]) < 0.5:  # it has not learnt this answer, rare or not to be told by spelling
            probabilities[rows] = 1  # so that it contradicts most of its rows says nothing of any one
    found[checked] = probabilities
    return found


def _out_of_fold(records: Sequence[Record], seed: int) -> np.ndarray | None:
    """Return the probability of each row's given answer, float64 of shape (len(records),)."""
    groups = group_labels([r.label for r in records])
    sensitive = np.array([r.sensitive for r in records])
    num_groups = Counter(answer for _, answer in {*zip(groups, sensitive.tolist(), strict=True)})
    if min(num_groups[True], num_groups[False]) < _NUM_FOLDS:
        return None
    tokens = {name: chr(_FIRST_PRIVATE + at) for at, name in enumerate(sorted({r.language for r in records}))}
    # Fitted once, on all rows: document frequencies know nothing of the answers.
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, lowercase=False)
    texts = [f"{spell_out(r.label)} {tokens[r.language]}" for r in records]
    features = csr_array(vectorizer.fit_transform(texts), dtype=np.float32)  # float64 takes several times as long
    # Balanced, so that a rare answer is not improbable from the start.
    model = LogisticRegression(C=30, class_weight="balanced", max_iter=100)
    yes = np.empty(len(records))
    folds = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # not quite converged is good enough to rank by
        for train, held_out in folds.split(features, sensitive, groups):
            if len(set(sensitive[train])) < 2:
                return None  # groups with both answers, of very different sizes, can crowd one answer into one fold
            yes[held_out] = model.fit(features[train], sensitive[train]).predict_proba(features[held_out])[:, 1]
    return np.where(sensitive, yes, 1 - yes)

"""What spelling alone teaches: a character n-gram classifier of the same training side, for a model to beat."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline

from pii_finetune.labels import spell_out
from pii_finetune.languages import LANGUAGES
from pii_finetune.records import Record
from pii_finetune.scores import Question, Scores
from pii_finetune.splits import group_labels

MAX_ROWS = 100_000  # a random sample above it: a million rows would take minutes and gigabytes
_MAX_TO_CHOOSE_BY = 5_000  # settings are chosen on a random sample of these, which needs 28 fits to do, not one
_NUM_FOLDS = 3
_NGRAM_RANGES = ((2, 4), (1, 3), (2, 5))  # the first, and the first C, where there are too few rows to choose by
_CS = (10.0, 3.0, 30.0)
# A private-use character stands for each language: a name's n-grams would be read as a label's.
_TOKENS = {name: chr(0xE000 + at) for at, name in enumerate(LANGUAGES)}


@dataclass(frozen=True)
class NgramBaseline:
    """A fitted classifier, to be asked like any model, and what was chosen for it."""

    pipeline: Pipeline
    ngram_range: tuple[int, int]
    c: float  # inverse strength of the L2 penalty
    num_rows: int  # it was fitted to

    def __call__(self, questions: Sequence[Question]) -> Scores:
        """Answer N questions; every answer has the right form."""
        texts = [_write(label, language) for label, language in questions]
        margin = self.pipeline.decision_function(texts) if texts else np.empty(0)
        return Scores(np.asarray(margin, dtype=np.float64), np.ones(len(texts), dtype=bool))


def fit_ngram_baseline(train: Sequence[Record], seed: int) -> NgramBaseline:
    """Fit TF-IDF of character n-grams and a logistic regression to the training side, with both answers in it.

    It reads what the language model reads: the label spelled out, and the language. N-gram lengths and C are those of
    the least log loss in a cross-validation that keeps labels of one group together, as the split does.
    """
    rows = _sample(train, MAX_ROWS, seed)
    ngram_range, c = _choose(_sample(rows, _MAX_TO_CHOOSE_BY, seed), seed)
    pipeline = make_pipeline(_vectorizer(ngram_range), _classifier(c))
    pipeline.fit([_write(r.label, r.language) for r in rows], [r.sensitive for r in rows])
    return NgramBaseline(pipeline, ngram_range, c, len(rows))


def _sample(records: Sequence[Record], size: int, seed: int) -> Sequence[Record]:
    if len(records) <= size:
        return records
    return [records[at] for at in np.sort(np.random.default_rng(seed).choice(len(records), size, replace=False))]


def _choose(records: Sequence[Record], seed: int) -> tuple[tuple[int, int], float]:
    texts = [_write(r.label, r.language) for r in records]
    sensitive = np.array([r.sensitive for r in records])
    folds = _fold(sensitive, group_labels([r.label for r in records]), seed)
    if not folds:
        return _NGRAM_RANGES[0], _CS[0]
    searches: list[tuple[float, tuple[int, int], float]] = []
    for ngram_range in _NGRAM_RANGES:
        # Fitted once, on all of these rows: document frequencies know nothing of the answers.
        features = csr_array(_vectorizer(ngram_range).fit_transform(texts))
        search = GridSearchCV(_classifier(1), {"C": _CS}, scoring="neg_log_loss", cv=folds, refit=False)
        search.fit(features, sensitive)
        searches.append((float(search.best_score_), ngram_range, float(search.best_params_["C"])))
    _, ngram_range, c = max(searches)
    return ngram_range, c


def _fold(sensitive: np.ndarray, groups: list[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds in which both sides have both answers; none if there are too few groups of an answer."""
    num_groups = Counter(answer for _, answer in {*zip(groups, sensitive.tolist(), strict=True)})
    if min(num_groups[True], num_groups[False]) < _NUM_FOLDS:
        return []
    folds = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=seed).split(sensitive, sensitive, groups)
    return [sides for sides in folds if all(len(set(sensitive[rows])) == 2 for rows in sides)]


def _vectorizer(ngram_range: tuple[int, int]) -> TfidfVectorizer:
    # float64 takes several times as long.
    kind: Any = np.float32
    return TfidfVectorizer(analyzer="char_wb", ngram_range=ngram_range, sublinear_tf=True, lowercase=False, dtype=kind)


def _classifier(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=1000)


def _write(label: str, language: str | None) -> str:
    return f"{spell_out(label)} {_TOKENS.get(language or '', '')}"

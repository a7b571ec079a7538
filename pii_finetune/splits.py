"""Train, validation and test: stratified by language and answer, and leak-free."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.labels import fold_label, spell_out
from pii_finetune.records import Record

_NUM_FOLDS = 20  # a split is a whole number of folds, so shares come out within about 5 % of what was asked


@dataclass(frozen=True)
class Splits:
    """The three sides; every record of the dataset is on exactly one."""

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]


def split(records: Sequence[Record], config: DataConfig) -> Splits:
    """Split so that rows whose labels fold to one key, or are read as one by the model, are never on two sides.

    The result depends on the rows and on `data.seed` only, not on their order.

    Raises:
        BadWorkbookError: a side would be without one of the two answers.
    """
    ordered = sorted(records, key=lambda r: (fold_label(r.label), r.label, r.language, r.answer))
    groups = _group([r.label for r in ordered])
    num_groups = {
        answer: len({g for g, r in zip(groups, ordered, strict=True) if r.answer == answer}) for answer in ("yes", "no")
    }
    num_folds = min(_NUM_FOLDS, *num_groups.values())
    num_test = max(1, round(config.test_fraction * num_folds))
    num_validation = max(1, round(config.validation_fraction * num_folds))
    if num_folds < num_test + num_validation + 1:
        raise BadWorkbookError(_too_few(num_groups))
    strata = _merge_rare([f"{r.language} {r.answer}" for r in ordered], [r.answer for r in ordered], num_folds)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=config.seed)
    fold_of = np.empty(len(ordered), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a language rarer than the folds is merged below, not an error
        for number, (_, rows) in enumerate(folds.split(ordered, strata, groups)):
            fold_of[rows] = number
    first_train = num_test + num_validation

    def side(start: int, stop: int) -> tuple[Record, ...]:
        return tuple(record for record, fold in zip(ordered, fold_of, strict=True) if start <= fold < stop)

    sides = Splits(test=side(0, num_test), validation=side(num_test, first_train), train=side(first_train, num_folds))
    if any(len({r.answer for r in side}) < 2 for side in (sides.train, sides.validation, sides.test)):
        raise BadWorkbookError(_too_few(num_groups))
    return sides


def _group(labels: Sequence[str]) -> list[str]:
    """Return the group of each label: all that are connected by a folded key or a spelling, named by its first key.

    Neither is enough: `first_name` and `event.first_name` fold to one key and are read differently, while
    `event.first_name` and `event first name` are read as one and have two keys.
    """
    folded = [fold_label(label) for label in labels]
    nodes = {key: at for at, key in enumerate(dict.fromkeys(folded))}
    spelled = {text: at for at, text in enumerate(dict.fromkeys(map(spell_out, labels)), start=len(nodes))}
    edges = [nodes[key] for key in folded], [spelled[spell_out(label)] for label in labels]
    size = len(nodes) + len(spelled)
    _, component = connected_components(coo_array((np.ones(len(labels)), edges), shape=(size, size)), directed=False)
    first_key: dict[int, str] = {}
    for key in sorted(nodes):
        first_key.setdefault(component[nodes[key]], key)
    return [first_key[component[nodes[key]]] for key in folded]


def _merge_rare(strata: list[str], answers: list[str], num_folds: int) -> list[str]:
    """Stratify by answer alone where a language has too few rows to be spread over all folds."""
    counts = Counter(strata)
    return [s if counts[s] >= num_folds else a for s, a in zip(strata, answers, strict=True)]


def _too_few(num_groups: dict[str, int]) -> str:
    return (
        f"the workbook has {num_groups['yes']} distinct sensitive and {num_groups['no']} distinct other labels: "
        "too few to train on, to validate with and to test on; "
        "add rows (at least 10 distinct labels of each answer, better hundreds)"
    )

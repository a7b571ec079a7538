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
    """The three sides; every record of the dataset is on exactly one, but for those withheld for a frozen test set."""

    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    num_withheld: int = 0  # rows of the workbook that are variants of a frozen row: on no side, or they would leak


def split(records: Sequence[Record], config: DataConfig, frozen: Sequence[Record] = ()) -> Splits:
    """Split so that rows whose labels fold to one key, or are read as one by the model, are never on two sides.

    `frozen` rows, if any, are the test side, whether or not they are in the workbook too. The result depends on the
    rows and on `data.seed` only, not on their order.

    Raises:
        BadWorkbookError: a side would be without one of the two answers.
    """
    if frozen and len({r.answer for r in frozen}) < 2:
        raise BadWorkbookError(
            f"data.frozen_test: all {len(frozen):,} rows are answered {frozen[0].answer!r}; nothing can be measured on "
            "one answer, so add rows of the other, or set data.frozen_test=null"
        )
    usable = sorted(_without_variants(records, frozen) if frozen else records, key=_in_order)
    groups = group_labels([r.label for r in usable])
    num_groups = {
        answer: len({g for g, r in zip(groups, usable, strict=True) if r.answer == answer}) for answer in ("yes", "no")
    }
    num_folds = min(_NUM_FOLDS, *num_groups.values())
    num_test = 0 if frozen else max(1, round(config.test_fraction * num_folds))
    num_validation = max(1, round(config.validation_fraction * num_folds))
    if num_folds < num_test + num_validation + 1:
        raise BadWorkbookError(_too_few(num_groups, bool(frozen)))
    fold_of = _assign_folds(usable, groups, num_folds, config.seed)
    first_train = num_test + num_validation
    tested = {_identity(r) for r in frozen}

    def side(start: int, stop: int) -> tuple[Record, ...]:
        return tuple(record for record, fold in zip(usable, fold_of, strict=True) if start <= fold < stop)

    sides = Splits(
        test=tuple(sorted(frozen, key=_in_order)) if frozen else side(0, num_test),
        validation=side(num_test, first_train),
        train=side(first_train, num_folds),
        num_withheld=len(records) - len(usable) - sum(_identity(r) in tested for r in records),
    )
    if any(len({r.answer for r in side}) < 2 for side in (sides.train, sides.validation, sides.test)):
        raise BadWorkbookError(_too_few(num_groups, bool(frozen)))
    return sides


def _identity(record: Record) -> tuple[str, str, str]:
    return record.label, record.language, record.answer


def _in_order(record: Record) -> tuple[str, ...]:
    return fold_label(record.label), *_identity(record)


def _assign_folds(records: Sequence[Record], groups: Sequence[str], num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each record, (N,) int, stratified by language and answer."""
    strata = _merge_rare([f"{r.language} {r.answer}" for r in records], [r.answer for r in records], num_folds)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    fold_of = np.empty(len(records), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a language rarer than the folds is merged above, not an error
        for number, (_, rows) in enumerate(folds.split(records, strata, groups)):
            fold_of[rows] = number
    return fold_of


def _without_variants(records: Sequence[Record], frozen: Sequence[Record]) -> list[Record]:
    """Return the records of no group with a frozen row; grouped as one, for a third label may connect two."""
    groups = group_labels([r.label for r in (*frozen, *records)])
    held = set(groups[: len(frozen)])
    return [record for record, group in zip(records, groups[len(frozen) :], strict=True) if group not in held]


def group_labels(labels: Sequence[str]) -> list[str]:
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


def number_groups(labels: Sequence[str]) -> np.ndarray:
    """Return the number (N,) int of each label's group: rows of one number are no independent evidence."""
    return np.unique(group_labels(labels), return_inverse=True)[1]


def _merge_rare(strata: list[str], answers: list[str], num_folds: int) -> list[str]:
    """Stratify by answer alone where a language has too few rows to be spread over all folds."""
    counts = Counter(strata)
    return [s if counts[s] >= num_folds else a for s, a in zip(strata, answers, strict=True)]


def _too_few(num_groups: dict[str, int], has_frozen_test: bool) -> str:
    counted = f"{num_groups['yes']} distinct sensitive and {num_groups['no']} distinct other labels"
    problem = (
        f"beside variants of labels in data.frozen_test the workbook has {counted}: "
        "too few to train on and to validate with"
        if has_frozen_test
        else f"the workbook has {counted}: too few to train on, to validate with and to test on"
    )
    return f"{problem}; add rows (at least 10 distinct labels of each answer, better hundreds)"

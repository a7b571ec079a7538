"""Whether a candidate may take the place of the model in production: a pure function of answers and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pii_finetune.config import GateConfig
from pii_finetune.metrics import Metrics
from pii_finetune.paired_tests import f1_gain_lower_bound, mcnemar_p_value

Severity = Literal["veto", "warning"]


@dataclass(frozen=True, eq=False)  # arrays have no one equality
class Evidence:
    """What a model showed on the N rows of the test split; models are compared row by row, so the rows are the same."""

    metrics: Metrics
    expected: np.ndarray  # (N,) bool: sensitive
    answered: np.ndarray  # (N,) bool: held for sensitive
    groups: np.ndarray  # (N,) int: rows of one group are variants of one label, and not independent
    by_language: Mapping[str, Metrics]


@dataclass(frozen=True)
class Rule:
    """One condition: what was measured, what it had to be, whether it is, and that in a sentence."""

    name: str
    value: float
    threshold: float
    passed: bool
    severity: Severity  # a veto refuses the candidate, a warning is only told
    explanation: str


@dataclass(frozen=True)
class Decision:
    """Promoted or not, and why, in one sentence."""

    promote: bool
    reason: str
    rules: tuple[Rule, ...]


def decide(
    candidate: Evidence, production: Evidence | None, baselines: Mapping[str, Evidence], config: GateConfig
) -> Decision:
    """Judge the candidate by its figures, against production and against baselines by name, all on the same rows.

    A figure that is not a number passes no rule. Without a model in production the rules that compare with it are
    absent.

    Raises:
        ValueError: the models were not asked about the same rows.
    """
    for other in (production, *baselines.values()):
        if other is not None and not np.array_equal(candidate.expected, other.expected):
            raise ValueError("models can be compared only on the same rows in the same order")
    rules = [*_floors(candidate.metrics, config)]
    if production is not None:
        rules += [
            _is_better(candidate.metrics, production.metrics),
            _is_not_worse(candidate, production, config),
            _keeps_languages(candidate.by_language, production.by_language, config),
        ]
    rules += [
        _beats(candidate.metrics, name, baseline.metrics, "veto" if config.baselines == "veto" else "warning")
        for name, baseline in baselines.items()
    ]
    vetoes = [_clause(rule) for rule in rules if not rule.passed and rule.severity == "veto"]
    if vetoes:
        return Decision(False, f"Not promoted: {', and '.join(vetoes)}.", tuple(rules))
    warnings = [_clause(rule) for rule in rules if not rule.passed]
    return Decision(True, f"Promoted: {', although '.join([_success(rules), *warnings])}.", tuple(rules))


def _floors(metrics: Metrics, config: GateConfig) -> list[Rule]:
    return [
        _rule(
            "minimum F1",
            metrics.f1,
            config.minimum_f1,
            metrics.f1 >= config.minimum_f1,
            f"its F1 {metrics.f1:.4f} reaches the minimum {config.minimum_f1:g}",
            f"its F1 {metrics.f1:.4f} does not reach gate.minimum_f1 = {config.minimum_f1:g}",
        ),
        _rule(
            "minimum recall",
            metrics.recall,
            config.minimum_recall,
            metrics.recall >= config.minimum_recall,
            f"it finds {metrics.recall:.1%} of the sensitive labels; {config.minimum_recall:.1%} are asked for",
            f"it finds only {metrics.recall:.1%} of the sensitive labels, "
            f"below the {config.minimum_recall:.1%} of gate.minimum_recall",
        ),
        _rule(
            "minimum format validity",
            metrics.format_validity,
            config.minimum_format_validity,
            metrics.format_validity >= config.minimum_format_validity,
            f"it answers {metrics.format_validity:.1%} of the rows with a plain yes or no",
            f"it answers only {metrics.format_validity:.1%} of the rows with a plain yes or no, "
            f"below the {config.minimum_format_validity:.1%} of gate.minimum_format_validity",
        ),
    ]


def _is_better(candidate: Metrics, production: Metrics) -> Rule:
    return _rule(
        "better than Production",
        candidate.f1,
        production.f1,
        candidate.f1 > production.f1,
        f"its F1 {candidate.f1:.4f} is above the {production.f1:.4f} of the model in Production on the same rows",
        f"its F1 {candidate.f1:.4f} is {'equal to' if candidate.f1 == production.f1 else 'not above'} "
        f"the {production.f1:.4f} of the model in Production on the same rows",
    )


def _is_not_worse(candidate: Evidence, production: Evidence, config: GateConfig) -> Rule:
    name = "not worse than Production"
    if config.paired_test == "mcnemar":
        p_value = mcnemar_p_value(candidate.expected, candidate.answered, production.answered)
        figures = f"(McNemar p = {p_value:.4f}, gate.alpha = {config.alpha:g})"
        return _rule(
            name,
            p_value,
            config.alpha,
            p_value >= config.alpha,
            f"where only one of them is right, it is the model in Production no oftener than chance explains {figures}",
            f"where only one of them is right, it is the model in Production oftener than chance explains {figures}",
        )
    bound = f1_gain_lower_bound(
        candidate.expected, candidate.answered, production.answered, candidate.groups, config.alpha
    )
    figures = f"{max(-bound, 0.0):.4f} below that of the model in Production"
    return _rule(
        name,
        bound,
        -config.noninferiority_margin,
        bound > -config.noninferiority_margin,
        f"allowing for chance, its F1 is at most {figures}, within the {config.noninferiority_margin:g} tolerated",
        f"the rows do not exclude that its F1 is {figures}, "
        f"and gate.noninferiority_margin tolerates less than {config.noninferiority_margin:g}",
    )


def _keeps_languages(candidate: Mapping[str, Metrics], production: Mapping[str, Metrics], config: GateConfig) -> Rule:
    num_rows = {name: min(candidate[name].num_rows, production[name].num_rows) for name in sorted(candidate)}
    judged = [name for name, rows in num_rows.items() if rows >= config.min_language_rows]
    changes = {name: candidate[name].f1 - production[name].f1 for name in judged}
    limit = config.max_language_regression
    kept = {name for name, change in changes.items() if change >= -limit}  # no language whose change is NaN
    fallen = ", ".join(f"{name} ({change:+.4f})" for name, change in changes.items() if name not in kept)
    few = ", ".join(f"{name} {rows}" for name, rows in num_rows.items() if name not in changes)
    unjudged = f" (not judged, with fewer than {config.min_language_rows} rows: {few})" if few else ""
    return _rule(
        "no language regresses",
        float(np.min([*changes.values()])) if changes else 0.0,
        -limit,
        not fallen,
        f"its F1 fell by more than {limit:g} in none of {len(changes)} languages{unjudged}",
        f"its F1 fell by more than the {limit:g} of gate.max_language_regression in {fallen}{unjudged}",
    )


def _beats(candidate: Metrics, name: str, baseline: Metrics, severity: Severity) -> Rule:
    return _rule(
        f"better than {name}",
        candidate.f1,
        baseline.f1,
        candidate.f1 > baseline.f1,
        f"its F1 {candidate.f1:.4f} is above the {baseline.f1:.4f} of the baseline {name}",
        f"its F1 {candidate.f1:.4f} is not above the {baseline.f1:.4f} of the baseline {name}",
        severity,
    )


def _rule(
    name: str,
    value: float,
    threshold: float,
    passed: bool,
    success: str,
    failure: str,
    severity: Severity = "veto",
) -> Rule:
    clause = success if passed else failure
    return Rule(name, value, threshold, bool(passed), severity, f"{clause[0].upper()}{clause[1:]}.")


def _clause(rule: Rule) -> str:
    return rule.explanation[0].lower() + rule.explanation[1:].removesuffix(".")


def _success(rules: list[Rule]) -> str:
    minimum, *others = rules
    better = next((rule for rule in others if rule.name == "better than Production"), None)
    if better is None:
        return f"{_clause(minimum)}, and there was no model in Production"
    return f"{_clause(better)}, and it passes every rule that can refuse it"

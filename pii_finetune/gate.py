"""Whether a candidate may take the place of the model in production: a pure function of figures."""

import math
from dataclasses import dataclass

from pii_finetune.config import GateConfig
from pii_finetune.metrics import Metrics


@dataclass(frozen=True)
class Rule:
    """One condition: what was measured, what it had to be, and whether it is."""

    name: str
    value: float
    threshold: float
    passed: bool
    failure: str  # the sentence to say if it did not pass


@dataclass(frozen=True)
class Decision:
    """Promoted or not, and why, in one sentence."""

    promote: bool
    reason: str
    rules: tuple[Rule, ...]


def decide(candidate: Metrics, production: Metrics | None, config: GateConfig) -> Decision:
    """Judge the candidate's figures against the minimum and against production's on the same rows.

    A figure that is not a number passes no rule. Without a model in production only the minimum counts.
    """
    rules = [
        Rule(
            "minimum F1",
            candidate.f1,
            config.minimum_f1,
            not math.isnan(candidate.f1) and candidate.f1 >= config.minimum_f1,
            f"its F1 {candidate.f1:.4f} does not reach gate.minimum_f1 = {config.minimum_f1:g}",
        )
    ]
    if production is not None:
        rules.append(
            Rule(
                "better than production",
                candidate.f1,
                production.f1,
                not math.isnan(candidate.f1) and (math.isnan(production.f1) or candidate.f1 > production.f1),
                f"its F1 {candidate.f1:.4f} is {'equal to' if candidate.f1 == production.f1 else 'not above'} "
                f"the {production.f1:.4f} of the model in Production on the same test split",
            )
        )
    if failed := [rule.failure for rule in rules if not rule.passed]:
        return Decision(False, f"Not promoted: {', and '.join(failed)}.", tuple(rules))
    compared = (
        "there was no model in Production" if production is None else f"the model in Production has {production.f1:.4f}"
    )
    return Decision(
        True, f"Promoted: F1 {candidate.f1:.4f} reaches the minimum {config.minimum_f1:g} and {compared}.", tuple(rules)
    )

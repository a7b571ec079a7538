"""What a model is asked, and what it says: plain figures, whatever kind of model gave them."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

Question = tuple[str, str | None]  # label, language (None: not known)


@dataclass(frozen=True)
class Scores:
    """What a model said of N labels."""

    margin: np.ndarray  # (N,) float64: log P(yes) - log P(no), in nats, where the answer stands
    valid: np.ndarray  # (N,) bool: the answer is exactly `yes` or `no`, then the end of the turn

    @property
    def probability(self) -> np.ndarray:
        """(N,) float64 in [0, 1]: P(yes) / (P(yes) + P(no))."""
        return expit(self.margin)

    @property
    def answers(self) -> np.ndarray:
        """(N,) bool: the model holds the label for sensitive."""
        return self.margin >= 0

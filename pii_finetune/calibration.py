"""From a model's log-odds to probabilities that mean what they say, and to the answers a person should see."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from scipy.optimize import minimize_scalar
from scipy.special import expit

from pii_finetune.config import CalibrationConfig
from pii_finetune.errors import BadCalibrationError
from pii_finetune.review_band import CONFIDENCE, NEVER_NO, NEVER_YES, choose_band

# Platt's targets already keep T off 0 where a margin separates the answers. The bounds hold where all margins are next
# to 0 (they are sharpened 20 times at most) and where they say nothing (at 1000 a margin of 40 still means 0.51).
TEMPERATURE_BOUNDS = (0.05, 1000.0)
MIN_GROUPS = 50  # distinct labels of each answer for isotonic regression to be tried: 10 in each fold
_NUM_FOLDS = 5

Method = Literal["none", "temperature", "isotonic"]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Calibration:
    """How margins become probabilities, and which probabilities go to review; plain numbers, for JSON.

    What is served answers yes where the calibrated probability is at least 0.5. With a temperature that is where the
    margin is at least 0; isotonic regression may put the limit elsewhere, and then it is the calibrated probability
    that counts.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    method: Method = "none"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    knots: tuple[tuple[float, Probability], ...] = ()  # isotonic: margin and probability, straight lines between
    review_precision: Probability | None = None  # what the band was chosen for; None: there is no band
    review_low: Annotated[float, Field(ge=NEVER_NO, le=0.5)] = 0.5  # below it the answer is no
    review_high: Annotated[float, Field(ge=0.5, le=NEVER_YES)] = 0.5  # from it on the answer is yes
    num_rows: Annotated[int, Field(ge=0)] = 0  # that it was fitted on
    note: str = ""

    @property
    def has_review_band(self) -> bool:
        """Whether answers may be left to a person."""
        return self.review_precision is not None

    def probability(self, margin: np.ndarray) -> np.ndarray:
        """Return P(yes) (N,) float64 in [0, 1] for log-odds (N,); it never falls as the margin grows."""
        margin = np.asarray(margin, dtype=np.float64)
        if self.method != "isotonic":
            return expit(margin / self.temperature)
        knots, heights = np.array(self.knots).T
        next_height = heights[np.minimum(np.searchsorted(knots, margin, side="right"), len(knots) - 1)]
        return np.minimum(np.interp(margin, knots, heights), next_height)  # rounding may lift it above by one bit

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """Return yes, no or review (N,) for calibrated probabilities (N,); what is not a number goes to review."""
        return np.select([probability >= self.review_high, probability < self.review_low], ["yes", "no"], "review")

    def describe(self) -> str:
        """Return one sentence for the report."""
        sentence = {
            "none": "Probabilities are the model's own, not calibrated",
            "temperature": f"Probabilities are calibrated by temperature scaling (T = {self.temperature:.3g}) "
            f"on {self.num_rows:,} validation rows",
            "isotonic": f"Probabilities are calibrated by isotonic regression ({len(self.knots)} knots) "
            f"on {self.num_rows:,} validation rows",
        }[self.method]
        if self.review_precision is not None:
            sentence += (
                f"; to have at least {self.review_precision:.1%} of its yes and of its no right (at {CONFIDENCE:.0%} "
                f"confidence, on labels like those of the validation split), {self._describe_band()}"
            )
        return f"{sentence}{f' ({self.note})' if self.note else ''}."

    def _describe_band(self) -> str:
        if self.review_low == self.review_high:
            return "no answer needs a person"
        if self.review_low == NEVER_NO and self.review_high == NEVER_YES:
            return "every answer goes to a person"
        if self.review_low == NEVER_NO:
            return f"what is below {self.review_high:.3g} goes to a person"
        if self.review_high == NEVER_YES:
            return f"what is not below {self.review_low:.3g} goes to a person"
        return f"what is from {self.review_low:.3g} up to {self.review_high:.3g} goes to a person"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_dict` gave, also after a journey through JSON.

        Raises:
            BadCalibrationError: a value is missing, or cannot be what it says it is.
        """
        problems = [f"{field.name} is missing" for field in fields(cls) if field.name not in values]
        try:
            calibration = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            problems += [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        else:
            if (calibration.method == "isotonic") != bool(calibration.knots):
                problems.append("knots: isotonic regression has them, and no other method")
            elif calibration.knots and np.any(np.diff(calibration.knots, axis=0) < 0):
                problems.append("knots: margin and probability must rise together")
            if not problems:
                return calibration
        raise BadCalibrationError(
            f"this is no calibration ({'; '.join(problems)}); take the calibration.json that was written with the model"
        )


IDENTITY = Calibration()  # the model's own probability; nothing goes to review


def fit_calibration(
    margin: np.ndarray, expected: np.ndarray, groups: np.ndarray, config: CalibrationConfig, seed: int
) -> Calibration:
    """Fit on the validation split: log-odds (N,) float, sensitive (N,) bool, groups (N,) int of dependent rows.

    "auto" takes isotonic regression if its log loss on held-out groups is lower than that of temperature scaling and
    there are `MIN_GROUPS` groups of each answer. Rows that all have one answer say nothing of probabilities: they are
    left as they are.

    Source: temperature scaling is Guo et al. (2017), section 4.2; isotonic regression Zadrozny and Elkan (2002).
    """
    margin = np.asarray(margin, dtype=np.float64)
    fitted, note = IDENTITY, ""
    if len(np.unique(expected)) < 2:
        note = "the validation rows do not have both answers"
    elif config.method != "none":
        method, note = _choose(margin, expected, groups, seed) if config.method == "auto" else (config.method, "")
        fitted = _FITS[method](margin, expected)
    low, high = 0.5, 0.5
    if config.review_precision is not None:
        low, high = choose_band(fitted.probability(margin), expected, groups, config.review_precision)
        unsure = [answer for answer, never in (("yes", high == NEVER_YES), ("no", low == NEVER_NO)) if never]
        if unsure:
            unsure_of = f"too few validation rows, or too many mistakes, to be sure of any {' or '.join(unsure)}"
            note = "; ".join(filter(None, [note, unsure_of]))
    return Calibration(
        fitted.method, fitted.temperature, fitted.knots, config.review_precision, low, high, len(margin), note
    )


def _fit_temperature(margin: np.ndarray, expected: np.ndarray) -> Calibration:
    """Minimise the log loss over T, with the targets of Platt (1999) in place of 0 and 1.

    A margin that separates the answers without a mistake would else have T = 0, and probabilities of 0 and 1.
    """
    num_yes = int(expected.sum())
    target = np.where(expected, (num_yes + 1) / (num_yes + 2), 1 / (len(expected) - num_yes + 2))

    def loss(log_temperature: float) -> float:
        scaled = margin / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - target * scaled))

    found: Any = minimize_scalar(loss, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded")
    return Calibration("temperature", temperature=float(np.exp(found.x)))


def _fit_isotonic(margin: np.ndarray, expected: np.ndarray) -> Calibration:
    """Fit a rising line; as in Laplace's rule of succession, N rows justify no more than 1 - 1 / (N + 2)."""
    from sklearn.isotonic import IsotonicRegression  # a served model gets by without scikit-learn

    least = 1 / (len(margin) + 2)
    line = IsotonicRegression(y_min=least, y_max=1 - least).fit(margin, expected.astype(float))
    return Calibration(
        "isotonic", knots=tuple(zip(line.X_thresholds_.tolist(), line.y_thresholds_.tolist(), strict=True))
    )


_FITS = {"temperature": _fit_temperature, "isotonic": _fit_isotonic}


def _choose(margin: np.ndarray, expected: np.ndarray, groups: np.ndarray, seed: int) -> tuple[str, str]:
    """Return the method that predicts held-out groups better, and a note if there were too few to tell."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    num_groups = min(len(np.unique(groups[expected == answer])) for answer in (True, False))
    if num_groups < MIN_GROUPS:
        return "temperature", f"isotonic regression was not tried on fewer than {MIN_GROUPS} labels of an answer"
    probability = {name: np.empty(len(margin)) for name in _FITS}
    folds = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=seed)
    for train, held_out in folds.split(margin, expected, groups):
        for name, fit in _FITS.items():
            probability[name][held_out] = fit(margin[train], expected[train]).probability(margin[held_out])
    loss = {name: log_loss(expected, each) for name, each in probability.items()}
    return ("isotonic" if loss["isotonic"] < loss["temperature"] else "temperature"), ""

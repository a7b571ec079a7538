"""Settings of runs that are made to be watched, killed or counted, not for the model that comes out."""

from typing import Any

# The gate passes whatever a few steps have taught; labels of unseen concepts would cost another scoring of each model.
UNJUDGED: dict[str, Any] = {
    "data.unseen": None,
    "gate.minimum_f1": 0,
    "gate.minimum_recall": 0,
    "gate.minimum_format_validity": 0,
}
# And it tells often how far it is. Whoever takes it says how many steps there are.
SHORT_RUN = UNJUDGED | {"sft.logging_steps": 5, "dpo.logging_steps": 5}

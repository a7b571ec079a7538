"""What the two models of a run are called: the common pair, or for each variant a pair of its own."""

import re
from typing import NamedTuple

_DPO, _SFT = "pii-dpo", "pii-sft"
_VARIANT = r"[a-z][A-Za-z0-9._-]{0,99}"  # MLflow refuses "/" and ":" in a name, and its databases more than 256 letters
_NAME = re.compile(rf"(?:{_DPO}|{_SFT})(?:-({_VARIANT}))?")


class ModelPair(NamedTuple):
    """The registered models of a run, promoted together; the first is what people load."""

    dpo: str
    sft: str

    @property
    def variant(self) -> str | None:
        """What `model_names` makes this pair from."""
        return self.dpo.removeprefix(_DPO).removeprefix("-") or None


def is_variant(text: str) -> bool:
    """Whether a pair can be called by it."""
    return re.fullmatch(_VARIANT, text) is not None


def model_names(variant: str | None) -> ModelPair:
    """Return the pair of a variant; None: the common one."""
    ending = "" if variant is None else f"-{variant}"
    return ModelPair(f"{_DPO}{ending}", f"{_SFT}{ending}")


def pair_of(name: str) -> ModelPair | None:
    """Return the pair that a registered model is one of, by its name; None: of none."""
    found = _NAME.fullmatch(name)
    return model_names(found[1]) if found else None

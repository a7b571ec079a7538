"""Models of their own for several datasets or languages, beside the common one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pii_finetune.config import RunConfig
from pii_finetune.dataset_watch import read_rows
from pii_finetune.errors import BadConfigError
from pii_finetune.languages import language_code
from pii_finetune.setup import build_config


@dataclass(frozen=True)
class Variant:
    """A model that is to be made: its name, None for the common one, and the settings that all its trials share."""

    name: str | None
    overrides: Mapping[str, Any] = field(default_factory=dict)


def plan_variants(
    profile: str,
    data: str | None,
    overrides: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]],
    each_language: bool,
) -> list[Variant]:
    """Return the models to make: one for each named variant, one for each language of the dataset, or the common one.

    Raises:
        BadConfigError: variants and languages are both asked for, or a setting is wrong.
        BadWorkbookError: languages are asked for, and the dataset cannot be read.
    """
    if variants and each_language:
        raise BadConfigError("variants and each_language are both given; give one of them")
    if (variants or each_language) and "variant" in overrides:
        raise BadConfigError(
            f"variant = {overrides['variant']!r}: several models are to be made, each with its own name; leave it out"
        )
    if twice := [name for name, own in variants.items() if "variant" in own]:
        raise BadConfigError(f"variant of {', '.join(twice)}: is its name already; leave the setting out")
    if each_language:
        languages = {record.language for record in read_rows(build_config(profile, data, overrides)).records}
        named = {_name(each): {"data.languages": [each]} for each in sorted(languages)}
    else:
        named = {name: dict(own) for name, own in variants.items()}
    if not named:
        return [Variant(None, dict(overrides))]
    made = [Variant(name, {**overrides, **own, "variant": name}) for name, own in named.items()]
    for each in made:
        config_of(each, profile, data)
    return made


def config_of(variant: Variant, profile: str, data: str | None) -> RunConfig:
    """Return what all its trials have in common."""
    return build_config(profile, data, variant.overrides)


def _name(language: str) -> str:
    return language_code(language) or re.sub(r"[^a-z0-9]+", "-", language.casefold()).strip("-")

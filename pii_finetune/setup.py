"""From what the user typed to a config that this machine can run."""

import difflib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pii_finetune.config import RunConfig
from pii_finetune.distributed.share import share_of_batch
from pii_finetune.errors import BadConfigError, BadWorkbookError
from pii_finetune.hub_dataset import is_hub_dataset
from pii_finetune.overrides import apply_overrides, flatten
from pii_finetune.paths import resolve
from pii_finetune.profiles import PROFILES
from pii_finetune.remote_file import shown_source
from pii_finetune.source_mark import source_mark


def build_config(profile: str, data: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Return the profile's config with the user's workbook and settings.

    Raises:
        BadConfigError: there is no such profile or setting, or a value is wrong.
    """
    if profile not in PROFILES:
        near = difflib.get_close_matches(profile, PROFILES, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadConfigError(f"there is no profile {profile!r}: choose one of {', '.join(PROFILES)}{hint}")
    if "profile" in overrides:
        raise BadConfigError(
            "profile cannot be set among other settings; choose it with --profile (or the parameter `profile`)"
        )
    given = {"data.workbook": data} if data is not None else {}
    return apply_overrides(PROFILES[profile](), {**given, **overrides})


def configure_run(profile: str, data: str | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Return the run's config, after checking that workbook and device are there.

    Raises:
        BadConfigError: as build_config; or output_dir cannot be written to, there is no such optimizer, or the base
            has no such LoRA targets.
        BadWorkbookError: the workbook is not there, or in a folder there is none.
        MissingDeviceError: the config needs CUDA and there is none.
        MissingModelError: the base model is not to be had.
        DiskFullError: there is no room to fetch it.
    """
    config = build_config(profile, data, overrides)
    source = config.data.workbook
    if not is_hub_dataset(source):
        source_mark(source)
    for name, path in (("data.unseen", config.data.unseen), ("data.frozen_test", config.data.frozen_test)):
        if path is not None and not is_hub_dataset(path) and not resolve(path).is_file():
            raise BadWorkbookError(
                f"{name} = {path!r}: there is no such file; give a workbook, or {name}=null for none"
            )
    _require_writable(resolve(config.output_dir))
    from pii_finetune import base_model  # imports torch: seconds that a mistyped setting need not cost
    from pii_finetune.base_download import require_base

    base_model.require_device(config.base, config.runtime.num_here)
    require_base(config.base)
    _require_optimizers(config)
    for stage, section in (("sft", config.sft), ("dpo", config.dpo)):
        share_of_batch(stage, section, max(1, config.runtime.num_processes))
    base_model.require_lora_targets(config.base, config.lora)
    return config


def describe_settings(config: RunConfig) -> dict[str, str]:
    """Return every setting by its path, as a page may show it: a URL without the query that signs it or a password."""
    return {path: shown_source(str(value)) for path, value in flatten(config).items()}


def changed_rules(config: RunConfig) -> dict[str, str]:
    """Return the rules of the gate that are not as the profile has them: by path, what they are and would be."""
    usual = flatten(PROFILES[config.profile]())
    return {
        path: f"{value} (profile {config.profile}: {usual[path]})"
        for path, value in flatten(config).items()
        if path.startswith("gate.") and value != usual[path]
    }


def _require_optimizers(config: RunConfig) -> None:
    from transformers.training_args import OptimizerNames

    known = [each.value for each in OptimizerNames]
    for stage, section in (("sft", config.sft), ("dpo", config.dpo)):
        if config.runtime.sharding != "none" and ("8bit" in section.optim or "paged" in section.optim):
            raise BadConfigError(
                f"{stage}.optim = {section.optim!r} works on whole weights, and runtime.sharding="
                f"{config.runtime.sharding} shares them out; set {stage}.optim=adamw_torch_fused"
            )
        if section.optim not in known:
            near = difflib.get_close_matches(section.optim, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadConfigError(
                f"{stage}.optim = {section.optim!r} is none of the optimizers of transformers "
                f"(adamw_torch, paged_adamw_8bit, ...){hint}"
            )


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadConfigError(
            f"output_dir = {str(folder)!r}: nothing can be written there ({error.strerror}); name a folder of your own"
        ) from None

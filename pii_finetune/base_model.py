"""The base model: where it is, what it is, and loading it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pii_finetune.config import BaseConfig, LoraSettings
from pii_finetune.errors import BadConfigError, MissingDeviceError, MissingModelError
from pii_finetune.paths import ROOT, resolve

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class BaseIdentity:
    """What a base model is, wherever it stands: enough to refuse an adapter that was trained on another one."""

    name: str
    revision: str | None
    config_sha256: str

    def as_dict(self) -> dict[str, str | None]:
        """Return plain values for a manifest."""
        return asdict(self)


def require_device(base: BaseConfig, num_gpus: int = 1) -> None:
    """Check that this machine has what the profile needs, before any work is done.

    Raises:
        MissingDeviceError: the profile needs CUDA and there is none, or fewer GPUs than processes.
    """
    if base.device == "cuda" and not torch.cuda.is_available():
        build = "this PyTorch is a CPU build" if torch.version.cuda is None else "no NVIDIA GPU or driver was found"
        raise MissingDeviceError(
            f"base.device is 'cuda' but CUDA cannot be used: {build}. Run on a machine with an NVIDIA GPU "
            "(`pii-finetune doctor` shows what is seen), or use the profile made for CPUs: --profile embedded"
        )
    if base.device == "cuda" and torch.cuda.device_count() < num_gpus:
        raise MissingDeviceError(
            f"runtime.num_processes asks for {num_gpus} GPUs on this machine, one for each process, and "
            f"{torch.cuda.device_count()} can be seen; take fewer processes (CUDA_VISIBLE_DEVICES may hide some)"
        )


def gpus_of(base: BaseConfig, num_gpus: int = 1) -> list[str]:
    """Return what tells the GPUs in use from the host's others, whatever CUDA_VISIBLE_DEVICES shows; none on a CPU."""
    used = range(num_gpus if base.device == "cuda" else 0)
    return [str(torch.cuda.get_device_properties(number).uuid) for number in used]


def require_lora_targets(base: BaseConfig, lora: LoraSettings) -> None:
    """Check that the base has layers of the names LoRA is to be put on; its weights are not read.

    Raises:
        BadConfigError: no layer has such a name.
        MissingModelError: the base is not to be had.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    if lora.target_modules == "all-linear":
        return
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_from_pretrained(AutoConfig, base))
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    wanted = LoraConfig(target_modules=lora.target_modules)
    if not any(check_target_module_exists(wanted, name) for name in layers):
        kinds = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
        raise BadConfigError(
            f"lora.target_modules = {lora.target_modules!r} names no layer of the base {base.name!r}; "
            f'its layers are {kinds} (or "all-linear" for all of them)'
        )


def local_folder(base: BaseConfig) -> Path | None:
    """Return the folder the base is in, or None if its name is a hub id."""
    folder = resolve(base.name)
    return folder if folder.is_dir() else None


def identify(base: BaseConfig) -> BaseIdentity:
    """Return the identity of the configured base."""
    config = _from_pretrained(AutoConfig, base)
    described = {k: v for k, v in config.to_dict().items() if not k.startswith("_") and k not in _NOT_IDENTITY}
    revision = base.revision
    if local_folder(base) is None:  # config.json is in a folder named after the commit that a branch means now
        revision = Path(hf_hub_download(base.name, "config.json", revision=base.revision)).parent.name
    digest = hashlib.sha256(repr(sorted(_plain(described).items())).encode()).hexdigest()
    return BaseIdentity(portable_name(base), revision, digest)


# Written by one version of transformers and not by another, or changed by how the model is loaded.
_NOT_IDENTITY = {"transformers_version", "dtype", "torch_dtype", "use_cache", "pad_token_id"}


def portable_name(base: BaseConfig) -> str:
    """Return the base's name as it is true on every machine: a hub id, or a path relative to the project."""
    folder = local_folder(base)
    return str(folder.relative_to(ROOT)) if folder is not None and folder.is_relative_to(ROOT) else base.name


def load_tokenizer(base: BaseConfig) -> PreTrainedTokenizerBase:
    """Load the base's tokenizer, padding on the left so that the last position is always the answer's."""
    tokenizer = _from_pretrained(AutoTokenizer, base)
    tokenizer.padding_side = "left"
    return tokenizer


def load_base(base: BaseConfig, sharded: bool = False) -> PreTrainedModel:
    """Load the base model on its device, in nf4 if configured.

    Args:
        base: which, and how.
        sharded: whether FSDP will share it out, which it does with numbers of the kind it computes with: four times
            four bits are then kept as one of them.
    """
    require_device(base)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=_DTYPES[base.dtype],
        bnb_4bit_quant_storage=_DTYPES[base.dtype] if sharded else torch.uint8,
    )
    extra: dict[str, Any] = {"quantization_config": quantization} if base.quantization == "nf4" else {}
    return _from_pretrained(
        AutoModelForCausalLM,
        base,
        dtype=_DTYPES[base.dtype],
        # By its number: each process of a training has a GPU of its own, and Accelerate looks whether it is that one.
        device_map={"": torch.cuda.current_device() if base.device == "cuda" else base.device},
        use_safetensors=True,
        **extra,
    )


_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DECIDING = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def base_folder(base: BaseConfig) -> Path:
    """Return the folder the base's files are in: its own, or the hub's copy on this machine, fetched if need be."""
    if (folder := local_folder(base)) is not None:
        return folder
    small = ["*.json", "*.jinja", "*.txt", _SINGLE]
    folder = Path(snapshot_download(base.name, revision=base.revision, allow_patterns=small))
    if not (folder / _SINGLE).is_file():
        snapshot_download(base.name, revision=base.revision, allow_patterns=weight_files(folder))
    return folder


def deciding_files(base: BaseConfig) -> dict[str, Path]:
    """Return the files that decide what the base answers, by name: the weights that are loaded, tokenizer, template."""
    folder = base_folder(base)
    return {name: folder / name for name in (*weight_files(folder), *_DECIDING) if (folder / name).is_file()}


def weight_files(folder: Path) -> list[str]:
    """Return the names of the files of weights that transformers would load from the folder."""
    if (folder / _SINGLE).is_file() or not (folder / _INDEX).is_file():  # transformers' own order
        return [_SINGLE]
    return sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))


def _from_pretrained(kind: Any, base: BaseConfig, **arguments: Any) -> Any:
    folder = local_folder(base)
    if folder is None and (parent := resolve(base.name).parent).is_dir():  # meant as a folder: not a word to the hub
        raise MissingModelError(
            f"base.name = {base.name!r}: there is no such folder in {parent}; "
            "give a folder that holds a model, or the hub's id of one"
        )
    try:
        return kind.from_pretrained(
            folder or base.name,
            revision=base.revision if folder is None else None,
            trust_remote_code=False,  # said aloud: unsaid, transformers asks at the terminal whether to run it
            **arguments,
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise BadConfigError(
            f"base.name = {base.name!r}: this model comes with code of its own, which is never run; "
            "choose one that transformers can load by itself"
        ) from None
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise MissingModelError(
            f"base.name = {base.name!r}: there is no such folder, and the hub gave no such model ({reason}). "
            "Give a folder that holds a model, or a hub id this machine can reach (HF_TOKEN, HF_ENDPOINT, HF_HOME)"
        ) from None


def _plain(value: Mapping[str, Any]) -> dict[str, str]:
    return {key: repr(inner) for key, inner in value.items()}

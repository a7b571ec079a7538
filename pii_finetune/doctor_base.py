"""What `pii-finetune doctor` says of the base models and the workbook."""

import hashlib
import time
from pathlib import Path

import httpx

from pii_finetune.checks import ANSWER_SECONDS, Check
from pii_finetune.clock import skew_of
from pii_finetune.paths import ROOT
from pii_finetune.profiles import embedded, seed

_SUMS = "SHA256SUMS"


def check_embedded_base() -> Check:
    """Compare the files of the base in data/ with the digests beside them."""
    folder = ROOT / "data" / "embedded-base"
    remedy = "git checkout data/embedded-base"
    if not (folder / _SUMS).is_file():
        return Check("embedded base", "red", f"missing: {folder / _SUMS}", remedy)
    expected = _read_sums(folder / _SUMS)
    missing = [name for name in expected if not (folder / name).is_file()]
    if missing:
        return Check("embedded base", "red", f"missing: {', '.join(missing)}", remedy)
    changed = [name for name in expected if _digest(folder / name) != expected[name]]
    if changed:
        return Check("embedded base", "red", f"not as it was shipped: {', '.join(changed)}", remedy)
    size = (folder / "model.safetensors").stat().st_size / 2**20
    return Check("embedded base", "green", f"{size:.1f} MiB, {len(expected)} files as they were shipped")


def check_hub() -> list[Check]:
    """Return whether the base of profiles seed and fast is on this machine, and else whether the hub answers."""
    from huggingface_hub import constants, get_token, try_to_load_from_cache

    name = seed().base.name
    remedy = "profile embedded needs neither; HF_ENDPOINT names the hub, and a folder with the model can be base.name"
    cached = all(isinstance(try_to_load_from_cache(name, part), str) for part in ("config.json", "model.safetensors"))
    here = f"{name} is on this machine" if cached else f"{name} is not on this machine"
    if constants.is_offline_mode():
        offline = f"{here}; HF_HUB_OFFLINE is set: the hub is not asked"
        return [Check("hub", "green" if cached else "yellow", offline, f"unset HF_HUB_OFFLINE once; {remedy}")]
    began = time.time()
    token = get_token()
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{constants.ENDPOINT}/api/models/{name}"
        answer = httpx.get(url, headers=headers, timeout=ANSWER_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = f"{here}; {constants.ENDPOINT} gives no answer ({type(error).__name__})"
        return [Check("hub", "green" if cached else "yellow", told, remedy)]
    if answer.status_code in (401, 403):
        told = f"{here}; {constants.ENDPOINT} refuses us ({answer.status_code})"
        return [Check("hub", "green" if cached else "yellow", told, "set a valid HF_TOKEN, or unset it")]
    if not answer.is_success:
        told = f"{here}; {constants.ENDPOINT} answers {answer.status_code}"
        return [Check("hub", "green" if cached else "yellow", told, remedy)]
    return [Check("hub", "green", f"{here}; {constants.ENDPOINT} answers"), *skew_of("the hub", answer.headers, began)]


def check_workbook() -> Check:
    """Return whether the shipped workbook is there."""
    path = ROOT / embedded().data.workbook
    size = f", {path.stat().st_size / 2**10:.0f} KiB" if path.is_file() else " is missing"
    return Check("workbook", "green" if path.is_file() else "red", f"{path.name}{size}", "make data builds it")


def _read_sums(path: Path) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What `pii-finetune doctor` says of this machine: GPU, memory, disks."""

import contextlib
import importlib.util
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from pii_finetune.checks import Check
from pii_finetune.paths import ROOT

# Peak memory of a whole run, rounded up: benchmarks/README.md. 11.6 GiB with 100,000 rows.
_PROFILE_GIB = {"seed": 8, "fast": 12}
_WANTED_GIB = 4  # PyTorch, MLflow and Prefect loaded, and a training of the embedded profile
_MIN_FREE_GIB = 5


def check_gpu() -> list[Check]:
    """Return what PyTorch can use, and what stands in its way."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    driver = _driver()
    if torch.cuda.is_available():
        return [_usable(f"torch {torch.__version__}, {driver or build}"), _bitsandbytes()]
    if driver is None:
        remedy = "profile embedded needs none; seed and fast need an NVIDIA GPU"
        return [Check("GPU", "yellow", f"none (torch {torch.__version__})", remedy)]
    if torch.version.cuda is None:
        remedy = "install PyTorch's CUDA build: make clean install TORCH_INDEX="
    else:
        remedy = f"update the driver to one for CUDA {torch.version.cuda}, or install a build of torch for the driver's"
    return [Check("GPU", "red", f"there, with {driver}, but torch {torch.__version__} ({build}) cannot use it", remedy)]


def _usable(found: str) -> Check:
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    free = torch.cuda.mem_get_info(0)[0] / 2**30
    told = f"{torch.cuda.get_device_name()}, {free:.0f} of {memory:.0f} GiB free, {found}"
    short = [name for name, wanted in _PROFILE_GIB.items() if free < wanted]
    if not short:
        return Check("GPU", "green", told)
    wanted = " and ".join(f"{name} {_PROFILE_GIB[name]}" for name in short)
    remedy = f"{wanted} GiB at their peak; stop what else uses the GPU, or a run goes on in smaller batches"
    return Check("GPU", "yellow", told, remedy)


def _driver() -> str | None:
    """Return the versions of the driver and of the newest CUDA it runs, or None where there is no GPU to be seen."""
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            if not pynvml.nvmlDeviceGetCount():
                return None
            cuda = pynvml.nvmlSystemGetCudaDriverVersion()
            return f"driver {pynvml.nvmlSystemGetDriverVersion()} for CUDA {cuda // 1000}.{cuda % 1000 // 10}"
        finally:
            pynvml.nvmlShutdown()
    return None


def _bitsandbytes() -> Check:
    if importlib.util.find_spec("bitsandbytes") is None:
        remedy = "profiles seed and fast need it: pip install bitsandbytes -c requirements.lock"
        return Check("bitsandbytes", "yellow", "not installed", remedy)
    return Check("bitsandbytes", "green", version("bitsandbytes"))


def check_memory() -> Check:
    """Return what is free, within the limit of the container if there is one."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    limit = _container_limit()
    if limit is not None and limit[0] < total:
        total, free = limit[0], min(free, limit[1])
    remedy = f"a run wants {_WANTED_GIB} GiB: stop other programs, or raise the container's limit"
    level = "green" if free >= _WANTED_GIB else "yellow"
    return Check("memory", level, f"{free:.1f} of {total:.0f} GiB free, {os.cpu_count()} CPU cores", remedy)


def _container_limit() -> tuple[float, float] | None:
    """Return the limit of this control group, and what is left of it, in GiB; None without one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = float((group / "memory.max").read_text())
        used = float((group / "memory.current").read_text())
    except (OSError, ValueError):  # no control groups of version 2; or "max"
        return None
    return limit / 2**30, (limit - used) / 2**30


def check_disks() -> list[Check]:
    """Return for each place that is written to whether it can be, and how much is free there."""
    from huggingface_hub import constants

    places = {
        "outputs": ROOT / "outputs",
        "mlruns": ROOT / "mlruns",
        "hub's cache": Path(constants.HF_HUB_CACHE),
        "temporary files": Path(tempfile.gettempdir()),
    }
    if os.environ.get("MLFLOW_TRACKING_URI"):
        del places["mlruns"]  # the server's business
    by_disk: dict[int, list[str]] = {}
    checks = []
    for name, folder in places.items():
        there = _existing(folder)
        if not os.access(there, os.W_OK):
            remedy = f"let this user write to {there}, or mount a volume there"
            checks.append(Check("disk", "red", f"{name}: {folder} cannot be written to", remedy))
        by_disk.setdefault(there.stat().st_dev, []).append(name)
        places[name] = there
    for names in by_disk.values():
        free = shutil.disk_usage(places[names[0]]).free / 2**30
        level = "green" if free >= _MIN_FREE_GIB else "yellow" if free >= 1 else "red"
        remedy = f"make room: a run wants {_MIN_FREE_GIB} GiB"
        checks.append(Check("disk", level, f"{free:.1f} GiB free for {', '.join(names)}", remedy))
    return checks


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder

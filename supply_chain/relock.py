"""Write the lock files from pyproject.toml, keeping every version that is locked: `make lock`.

Arguments go to `uv pip compile`: `make lock ARGS='--upgrade-package requests'`.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "requirements.lock"
DEV, TORCH, TORCH_CPU, TOOLS = (
    ROOT / "supply_chain" / f"{name}.lock" for name in ("dev", "torch", "torch-cpu", "tools")
)
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"

# PyTorch of the default index, and what only that build needs. nvidia-ml-py reads figures of a GPU and is everyone's.
_OF_TORCH = re.compile(r"(torch|triton|cuda-.+|nvidia-(?!ml-py$).+)$")
_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+).*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_CPU_WHEEL = r'torch-{}%2Bcpu-cp3\d+-cp3\d+-manylinux[^"#]*\.whl#sha256=([0-9a-f]{{64}})'
_TITLE = "# {} Written by `make lock`; docs/supply-chain.md.\n"


def relock(options: list[str]) -> None:
    """Resolve once with the tools of development and once without; what differs is theirs."""
    known = "".join(path.read_text(encoding="utf-8") for path in (RUN, DEV, TORCH) if path.is_file())
    everything = _resolve(["pyproject.toml", "-", "--extra", "dev"], known, options)
    # Same versions: what was just chosen is known, and nothing is to be upgraded any more.
    run = _resolve(["pyproject.toml", "-"], "".join(everything.values()), [])
    torch = {name for name in everything if _OF_TORCH.fullmatch(name)}
    _write(RUN, "What a run needs, but PyTorch.", {name: run[name] for name in run if name not in torch})
    _write(DEV, "What developing needs besides.", {name: everything[name] for name in everything.keys() - run.keys()})
    _write(TORCH, "PyTorch of the default index, with CUDA on Linux.", {name: everything[name] for name in torch})
    _lock_cpu_build(_version(everything["torch"]))
    # One version of a package wherever it is used: there is less to look up, and pip-audit refuses two.
    tools = _entries(TOOLS.read_text(encoding="utf-8") if TOOLS.is_file() else "") | everything
    _write(
        TOOLS, "Tools of supply_chain/tools.in.", _resolve(["supply_chain/tools.in"], "".join(tools.values()), options)
    )


def _resolve(sources: list[str], known: str, options: list[str]) -> dict[str, str]:
    """Return the entry of every package: its version, when it is wanted, and the hashes of all its files.

    The source `-` is what builds the project: it is built in the environment itself, not in one that is fetched unseen.
    """
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock"
        lock.write_text(known, encoding="utf-8")  # uv keeps the versions that it finds in its output file
        command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", *sources, "--output-file", str(lock)]
        # Without a configuration and with PyPI alone: a lock is the same wherever it is made.
        command += ["--no-config", "--default-index", "https://pypi.org/simple", "--quiet"]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
        subprocess.run([*command, *options], cwd=ROOT, input="\n".join(build), text=True, check=True)
        return _entries(lock.read_text(encoding="utf-8"))


def _entries(text: str) -> dict[str, str]:
    return {match["name"]: match[0] for match in _ENTRY.finditer(text)}


def _lock_cpu_build(version: str) -> None:
    """Write the hashes of PyTorch's CPU builds for Linux; without its index, those of this version stay."""
    try:
        with urllib.request.urlopen(CPU_INDEX, timeout=30) as answer:
            page = answer.read().decode()
    except OSError as error:
        if TORCH_CPU.is_file() and f"torch=={version}+cpu" in TORCH_CPU.read_text(encoding="utf-8"):
            print(
                f"make lock: {CPU_INDEX} did not answer ({error}); {TORCH_CPU.name} has this version and stays as it is"
            )
            return
        raise SystemExit(
            f"make lock: {CPU_INDEX} did not answer ({error}): the hashes of torch {version}+cpu are only there"
        ) from None
    hashes = sorted(set(re.findall(_CPU_WHEEL.format(re.escape(version)), page)))
    if not hashes:
        raise SystemExit(f"make lock: {CPU_INDEX} has no CPU build of torch {version} with a hash")
    lines = " \\\n".join([f"torch=={version}+cpu", *(f"    --hash=sha256:{each}" for each in hashes)])
    _write(TORCH_CPU, "PyTorch without CUDA, for Linux, of PyTorch's own index.", {"torch": lines + "\n"})


def _version(entry: str) -> str:
    return entry.partition("==")[2].split()[0]


def _write(path: Path, title: str, entries: dict[str, str]) -> None:
    path.write_text(_TITLE.format(title) + "".join(entries[name] for name in sorted(entries)), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(entries)} packages")


if __name__ == "__main__":
    relock(sys.argv[1:])

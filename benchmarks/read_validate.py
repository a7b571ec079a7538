"""Reading and validating .xlsx workbooks of 1,000, 100,000 and 1,000,000 rows, advice included: time, peak memory.

    python -m benchmarks.read_validate

Each size runs in a process of its own, which starts the reader's process as always. Memory is the peak resident set of
both added up, which is more than they ever use together. Writes benchmarks/results/read_validate.json.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from openpyxl import Workbook

RESULTS = Path(__file__).parent / "results" / "read_validate.json"
SIZES = (1_000, 100_000, 1_000_000)
_WORDS = ("customer", "account", "invoice", "street", "phone", "order", "device", "salary", "branch", "ticket")


def main() -> None:
    """Write the workbooks, measure each, print and write the figures."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.xlsx"
            _write_workbook(path, size)
            command = [sys.executable, "-m", "benchmarks.read_validate", str(path)]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(json.dumps(runs[-1]))
    machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    packages = {name: version(name) for name in ("python-calamine", "pandas", "pyarrow", "great-expectations")}
    text = json.dumps({"runs": runs, "machine": machine, "packages": packages}, indent=2)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def measure(path: Path) -> dict[str, float | int]:
    """Read and validate one workbook in this process."""
    from pii_finetune.profiles import embedded
    from pii_finetune.validation import validate
    from pii_finetune.workbook import read_workbook

    config = embedded().data.model_copy(update={"workbook": str(path)})
    start = time.perf_counter()
    table = read_workbook(config)
    read = time.perf_counter()
    report = validate(table, None, config, advice_seed=config.seed).require_valid()
    end = time.perf_counter()
    peaks = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "num_rows": report.num_rows,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "read_seconds": round(read - start, 2),
        "validate_seconds": round(end - read, 2),
        "seconds": round(end - start, 2),
        "cpu_seconds": round(sum(os.times()[:4]), 2),  # of both processes, imports included
        "peak_gib": round(sum(peaks), 2),
        "reader_peak_gib": round(peaks[1], 2),
    }


def _write_workbook(path: Path, size: int) -> None:
    book = Workbook(write_only=True)
    sheet = book.create_sheet("labels")
    sheet.append(["label", "language", "sensitive"])
    for at in range(size):
        words = f"{_WORDS[at % 10]} {_WORDS[at // 10 % 10]} {at}"
        sheet.append([words, ("English", "de", "French")[at % 3], ("yes", "no")[at % 2]])
    book.save(path)


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
    else:
        main()

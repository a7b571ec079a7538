"""`pii-finetune score` on .csv files: rows a second and peak memory, with many distinct labels and with many rows.

    python -m benchmarks.score_file

Each file is scored by a process of its own, with a model trained for a few steps. Memory is the peak resident set of
that process and of the one that reads the file, whichever is larger, and must not grow with the number of rows. The
last file is scored again, killed half-way and gone on with. Writes benchmarks/results/score_file.json.
"""

import argparse
import csv
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "score_file.json"
_WORDS = ("customer", "account", "invoice", "street", "phone", "order", "device", "salary", "branch", "ticket")


def main() -> None:
    """Make a model and the files, measure each, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distinct", type=int, default=100_000, help="labels of the file in which each is distinct")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200_000, 1_000_000], help="rows of few labels")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        subprocess.run([sys.executable, "-m", "benchmarks.score_file", "model", name], check=True, env=environment)
        runs = [_measure(folder, environment, flags.distinct, flags.distinct)]
        runs += [_measure(folder, environment, size, 2_000) for size in flags.sizes]
        resumed = _measure_resuming(folder, environment, flags.sizes[-1])
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "mlflow", "pyarrow")}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}
    text = json.dumps({"runs": runs, "resumed": resumed, "packages": packages, "machine": machine}, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def make_model(folder: Path) -> None:
    """Register a model of a few steps and put it in production."""
    from pii_finetune.calibration import IDENTITY
    from pii_finetune.model_folder import write_model_folder
    from pii_finetune.overrides import apply_overrides
    from pii_finetune.profiles import embedded
    from pii_finetune.quiet import quiet_libraries
    from pii_finetune.registry import DPO_MODEL, promote, register
    from pii_finetune.sft import train_sft
    from pii_finetune.splits import split
    from pii_finetune.tracking import close_run, open_run, parent_run
    from pii_finetune.validation import validate
    from pii_finetune.workbook import read_workbook

    quiet_libraries()
    config = apply_overrides(embedded(), {"sft.max_steps": 20, "sft.eval_steps": 10_000})
    splits = split(validate(read_workbook(config.data), None).require_valid().records, config.data)
    adapter = train_sft(splits, config, folder / "sft", lambda _: None)
    run = open_run(config, {})
    write_model_folder(folder / "model", adapter.path, config.base, "f" * 64, IDENTITY)
    with parent_run(run):
        promote(DPO_MODEL, str(register(DPO_MODEL, folder / "model", {}, "").version))
    close_run(run, "FINISHED")


def _measure(folder: Path, environment: dict[str, str], num_rows: int, num_labels: int) -> dict[str, Any]:
    source = folder / f"{num_rows}.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "language", "owner"])
        for at in range(num_rows):
            label = at % num_labels
            words = f"{_WORDS[label % 10]} {_WORDS[label // 10 % 10]} {label}"
            rows.writerow([words, ("English", "de", "French")[label % 3], f"team {at}"])
    started = time.perf_counter()
    process = subprocess.Popen(_command(source), env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"scoring ended with status {status}")
    seconds = time.perf_counter() - started
    processor = usage.ru_utime + usage.ru_stime
    result = {
        "num_rows": num_rows,
        "num_labels": num_labels,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "rows_per_second": round(num_rows / seconds),
        "rows_per_processor_second": round(num_rows / processor),
        "peak_mib": usage.ru_maxrss // 1024,
    }
    print(json.dumps(result), flush=True)
    return result


def _measure_resuming(folder: Path, environment: dict[str, str], num_rows: int) -> dict[str, Any]:
    """Kill a scoring at half its parts, go on, and compare with the file that was written at once."""
    source, target = folder / f"{num_rows}.csv", folder / f"{num_rows}-out.csv"
    whole = target.read_bytes()
    target.unlink()
    half = folder / f".{target.name}.unfinished" / f"part-{num_rows // 4_096 // 2:06d}.parquet"
    seconds, processor = [], []
    for kill in (True, False):
        started = time.perf_counter()
        process = subprocess.Popen(_command(source), env=environment, stdout=subprocess.DEVNULL)
        if kill:
            while not half.exists():
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        _, _, usage = os.wait4(process.pid, 0)
        seconds.append(round(time.perf_counter() - started, 1))
        processor.append(round(usage.ru_utime + usage.ru_stime, 1))
    return {
        "num_rows": num_rows,
        "seconds": seconds,
        "processor_seconds": processor,
        "same_bytes": target.read_bytes() == whole,
    }


def _command(source: Path) -> list[str]:
    target = source.with_name(f"{source.stem}-out.csv")
    return [sys.executable, "-m", "cli.main", "score", str(source), "--out", str(target)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["model"]:
        make_model(Path(sys.argv[2]))
    else:
        main()

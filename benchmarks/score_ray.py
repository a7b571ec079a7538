"""The local engine of `score` beside Ray with one and two workers: rows a second on the same rows, and their answers.

    python -m benchmarks.score_ray

Every label is distinct, so each row is asked of the model, on its CPU. Turns are taken in order, `--turns` times, each
in a process of its own. The rate of the whole command is with its start; the rate of answering is from the first
finished part to the last, so what more rows take; that by processor seconds, of Ray's own processes too, is less at the
mercy of what else the machine does. Writes benchmarks/results/score_ray.json.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results" / "score_ray.json"
ENGINES = {"local": None, "ray, 1 worker": 1, "ray, 2 workers": 2}
_WORDS = ("customer", "account", "invoice", "street", "phone", "order", "device", "salary", "branch", "ticket")


def main() -> None:
    """Make a model and the rows, measure each engine in turns, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32_768, help="rows, each with a label of its own")
    parser.add_argument("--rows-per-part", type=int, default=4_096)
    parser.add_argument("--turns", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="score-ray-") as name:
        folder = Path(name)
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        subprocess.run([sys.executable, "-m", "benchmarks.score_file", "model", name], check=True, env=environment)
        _write_rows(folder / "rows.csv", flags.rows)
        runs = []
        for turn in range(flags.turns):
            for engine, num_workers in ENGINES.items():
                command = [sys.executable, "-m", "benchmarks.score_ray", "one", name]
                command += [str(num_workers or 0), str(flags.rows_per_part)]
                load = os.getloadavg()[0]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                figures = json.loads(done.stdout.splitlines()[-1])
                runs.append({"engine": engine, "turn": turn, "load_before": round(load, 1), **figures})
                print(json.dumps(runs[-1]), flush=True)
        distance = _distance(folder)
    result = {
        "rows": flags.rows,
        "rows_per_part": flags.rows_per_part,
        "rows_per_second_answering": {name: _rates(runs, name, "answering_rows_per_second") for name in ENGINES},
        "rows_per_processor_second_answering": {
            name: _rates(runs, name, "answering_rows_per_processor_second") for name in ENGINES
        },
        "rows_per_second_whole": {name: _rates(runs, name, "rows_per_second") for name in ENGINES},
        "largest_difference_of_probability": distance,
        "runs": runs,
        "packages": {name: version(name) for name in ("ray", "torch", "transformers", "peft", "pyarrow")},
        "machine": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def score_once(folder: Path, num_workers: int, rows_per_part: int) -> None:
    """Score the rows with one engine, and print the figures as the last line."""
    from pii_finetune.quiet import quiet_libraries
    from pii_finetune.ray_scoring.cluster import RaySettings
    from pii_finetune.score_copy import USUAL_COLUMNS
    from pii_finetune.score_engine import score_source

    quiet_libraries()
    target = folder / (f"out-{num_workers}" if num_workers else "out.parquet")
    shutil.rmtree(target, ignore_errors=True)
    settings = RaySettings(num_workers, rows_per_part) if num_workers else None
    seen: list[tuple[float, float, int]] = []
    started = time.perf_counter()
    report = score_source(
        str(folder / "rows.csv"),
        str(target),
        "models:/pii-dpo/Production",
        USUAL_COLUMNS,
        settings,
        lambda done, _all: seen.append((time.perf_counter(), _processor_seconds(), done)),
    )
    seconds = time.perf_counter() - started
    # From the first part that is finished, by when every worker has its model, to the last one.
    (begin, begin_processor, before), (end, end_processor, after) = next(each for each in seen if each[2]), seen[-1]
    figures = {
        "seconds": round(seconds, 1),
        "rows_per_second": round(report.num_rows / seconds),
        "answering_rows_per_second": round((after - before) / (end - begin)),
        "answering_rows_per_processor_second": round((after - before) / (end_processor - begin_processor)),
    }
    print(json.dumps(figures))


def _processor_seconds() -> float:
    """Return what this process, its descendants and those of them that ended have taken: of Ray's own processes too."""
    us = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (us, *us.children(recursive=True)))


def _write_rows(path: Path, num_rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "language", "number"])
        for at in range(num_rows):
            words = f"{_WORDS[at % 10]} {_WORDS[at // 10 % 10]} {at}"
            rows.writerow([words, ("English", "de", "French")[at % 3], at])


def _distance(folder: Path) -> dict[str, float]:
    import numpy as np
    import pandas as pd

    local = pd.read_parquet(folder / "out.parquet").set_index("number")
    found = {}
    for engine, num_workers in ENGINES.items():
        if num_workers:
            parts = pd.read_parquet(folder / f"out-{num_workers}").set_index("number")
            if sorted(parts.index) != sorted(local.index):
                raise RuntimeError(f"{engine}: rows are missing, or there twice")
            expected = local.loc[parts.index, "probability"].to_numpy()
            found[engine] = float(np.abs(parts["probability"].to_numpy() - expected).max())
    return found


def _rates(runs: list[dict[str, Any]], engine: str, name: str) -> dict[str, float]:
    rates = [run[name] for run in runs if run["engine"] == engine]
    return {"median": median(rates), "least": min(rates), "most": max(rates)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        score_once(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()

"""What is paid before a run does anything for its user: imports, Prefect's and MLflow's start, the base, the workbook.

    python -m benchmarks.startup

Each part in processes of its own, `--rounds` times; medians. Imports count what those before them had not imported yet.
Writes benchmarks/results/startup.json.
"""

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.training import RESULTS, environment

_CLOCK = "import time; begun = time.perf_counter()\n"
_READER = "from pii_finetune.profiles import embedded; from pii_finetune.workbook import read_workbook"
_PRINT = "\nprint(time.perf_counter() - begun)"
# What has to be there before the part that is timed; the part.
PARTS = {
    "pii-finetune --help": (
        "import sys",
        "import subprocess; subprocess.run([sys.executable, '-m', 'cli.main', '--help'], capture_output=True)",
    ),
    "import torch": ("", "import torch"),
    "import transformers, peft, trl": (
        "import torch",
        "import transformers, peft; from trl import SFTTrainer, DPOTrainer",
    ),
    "import mlflow": ("import torch", "import mlflow"),
    "import prefect": ("", "import prefect"),
    "import great_expectations": ("import pandas", "import great_expectations"),
    "import flows.finetune, all of the above but trl": ("", "import flows.finetune"),
    "Prefect's temporary server": (
        "from cli.run import _start_prefect",
        "_start_prefect()",
    ),
    "MLflow's store, made anew": (
        "import tempfile, mlflow; folder = tempfile.mkdtemp()",
        "mlflow.MlflowClient(f'sqlite:///{folder}/mlflow.db').search_experiments()",
    ),
    "read the shipped workbook": (
        _READER,
        "read_workbook(embedded().data)",
    ),
    "validate it": (
        _READER + "; from pii_finetune.validation import validate; table = read_workbook(embedded().data)",
        "validate(table, None)",
    ),
    "load the embedded base": (
        "from pii_finetune.profiles import embedded; from pii_finetune.base_model import load_base, load_tokenizer",
        "load_base(embedded().base); load_tokenizer(embedded().base)",
    ),
}


def main() -> None:
    """Time each part, print and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(flags.rounds):
        for part, (before, timed) in PARTS.items():
            program = f"{before}\n{_CLOCK}{timed}{_PRINT}"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            seconds[part].append(float(done.stdout.split()[-1]))
            print(f"{part}: {seconds[part][-1]:.2f} s", flush=True)
    medians = {part: round(statistics.median(each), 2) for part, each in seconds.items()}
    text = json.dumps({**environment(), "rounds": flags.rounds, "median_seconds": medians}, indent=1)
    print(text)
    (RESULTS / "startup.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

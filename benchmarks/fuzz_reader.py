"""Mutants of real workbooks, read under the limits of the reader's process: none may hang or crash it.

    python -m benchmarks.fuzz_reader [NUM_MUTANTS] [SEED]

Half of the mutants change bytes of the file, half change XML parts inside it (and are packed again, so that the ZIP is
sound). Each is read in a forked child with 2 GiB of address space and 20 s. What can come of it: rows, a refusal with a
message, an unexpected exception, death by a signal, or a timeout; the last three are counted as failures and their
mutants kept in the folder that is named. Rows that come of it are validated: fully for every 50th, normalised for all.
Writes benchmarks/results/fuzz_reader.json.
"""

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

from openpyxl import load_workbook

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.paths import ROOT
from pii_finetune.profiles import embedded
from pii_finetune.spreadsheets import read_xlsx  # noqa: F401  loaded before the forks
from pii_finetune.tables import read_table
from pii_finetune.validation import validate
from pii_finetune.workbook import Table

RESULTS = Path(__file__).parent / "results" / "fuzz_reader.json"
_MEMORY = 2 << 30
_SECONDS = 20
_TOKENS = (
    *(b"0", b"-1", b"99999999999", b"1e400", b"NaN", b"A1", b"XFD1048576", b"#N/A", b"<", b">", b'"', b"&", b"&lt;"),
    *(b"\x00", b"\xff\xfe", b"<f>1+1</f>", b"<!DOCTYPE a>", b't="e"', b'r="1"', b"</row>", b"<c/>"),
)


def main() -> None:
    """Make, read and count the mutants."""
    num_mutants = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rng = random.Random(seed)  # noqa: S311  mutants need no cryptographic randomness
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    sources = _sources(folder)
    config = embedded().data
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    start = time.monotonic()
    for at in range(num_mutants):
        path = folder / f"mutant-{at}.xlsx"
        mutate = _mutate_bytes if at % 2 else _mutate_parts
        path.write_bytes(mutate(rng.choice(sources), rng))
        began = time.monotonic()
        outcome = _read_in_child(path, config, check_rows=at % 50 == 0)
        slowest = max(slowest, time.monotonic() - began)
        outcomes[outcome] += 1
        if outcome in ("rows", "refusal"):
            path.unlink()
        if at % 500 == 499:
            print(f"{at + 1:,} mutants in {time.monotonic() - start:.0f} s: {dict(outcomes)}", flush=True)
    failures = {name: count for name, count in outcomes.items() if name not in ("rows", "refusal")}
    summary = {
        "num_mutants": num_mutants,
        "seed": seed,
        "outcomes": dict(outcomes),
        "seconds": round(time.monotonic() - start),
        "slowest_seconds": round(slowest, 2),
        "peak_mib_of_a_reader": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    print(json.dumps(summary, indent=2))
    RESULTS.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if failures:
        print(f"failures: {failures}; their files are in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


def _sources(folder: Path) -> list[bytes]:
    """Return the shipped workbook cut to 60 rows, and one with formulas, errors, merged cells and hidden rows."""
    shipped = load_workbook(ROOT / "data" / "PII_dataset_2.xlsx")
    sheet = shipped.worksheets[0]
    sheet.delete_rows(62, sheet.max_row)
    plain = io.BytesIO()
    shipped.save(plain)
    sheet.append(["=A2", "English", "no"])
    sheet.append(["#N/A", "English", True])
    sheet.append([12.5, None, "no"])
    sheet.merge_cells("A10:B11")
    sheet.row_dimensions[5].hidden = True
    shipped.create_sheet("more").sheet_state = "hidden"
    odd = io.BytesIO()
    shipped.save(odd)
    sources = [plain.getvalue(), odd.getvalue()]
    for at, content in enumerate(sources):
        (folder / f"source-{at}.xlsx").write_bytes(content)
    return sources


def _mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        _mutate_once(mutant, rng)
    return bytes(mutant)


def _mutate_parts(content: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    # The sheet, the workbook and the strings matter most.
    names = [name for name in parts if "sheet" in name or "workbook" in name or "String" in name] * 4 + list(parts)
    for _ in range(rng.choice((1, 1, 2, 8))):
        name = rng.choice(names)
        if name not in parts:
            continue
        if rng.random() < 0.03:
            del parts[name]
            continue
        part = bytearray(parts[name])
        _mutate_once(part, rng)
        parts[name] = bytes(part)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return packed.getvalue()


def _mutate_once(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((1, 2, 8, 40, 400)))
    match rng.randrange(6):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:end]
        case 2:
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        case 3:
            data[at:at] = rng.choice(_TOKENS)
        case 4:
            data[at:end] = rng.randbytes(end - at)
        case _:
            token = rng.choice(_TOKENS)
            data[at : at + len(token)] = token


def _read_in_child(path: Path, config: DataConfig, *, check_rows: bool) -> str:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + _address_space(), _MEMORY + _address_space()))
        signal.alarm(_SECONDS)
        os._exit(_read(path, config, check_rows=check_rows))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) == signal.SIGALRM else f"signal {os.WTERMSIG(status)}"
    return ("rows", "refusal", "exception")[os.WEXITSTATUS(status)]


def _read(path: Path, config: DataConfig, *, check_rows: bool) -> int:
    try:
        found = read_table(path, config)
        frame = found.rows.to_pandas().astype(object)
        table = Table(path, found.sheet, frame.where(frame.notna(), None), found.extra_columns, found.notes)
        if check_rows and len(frame):
            report = validate(table, None, config)
            assert bool(report.problems) != bool(report.records)  # noqa: S101  a claim of this run
    except BadWorkbookError:
        return 1
    except BaseException as error:  # noqa: BLE001  the point of the exercise is to see it
        path.with_suffix(".txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        return 2
    return 0


def _address_space() -> int:
    """Bytes of address space that this process has already, which a forked child inherits."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()

"""`pii-finetune data from-ai4privacy SOURCE --out FILE`."""

import math
from collections import Counter
from pathlib import Path

from rich.table import Table

from cli.console import open_console
from pii_finetune.ai4privacy import Choice, Harvest, choose, harvest
from pii_finetune.ai4privacy_rows import read_rows
from pii_finetune.errors import BadConfigError
from pii_finetune.workbook_writer import check_target, write_rows


def from_ai4privacy(source: str, target: Path, min_count: int, negatives_per_positive: float) -> int:
    """Build a workbook from rows in the ai4privacy format, and say what was mended and left out."""
    if min_count < 1:
        raise BadConfigError(f"--min-count {min_count}: must be at least 1; a word that never occurs is no label")
    if not (math.isfinite(negatives_per_positive) and negatives_per_positive > 0):
        raise BadConfigError(
            f"--negatives-per-positive {negatives_per_positive}: must be above 0; a model needs both answers"
        )
    check_target(target)
    console = open_console()
    with console.status(f"reading {source}"):
        found = harvest(read_rows(source), source)
    choice = choose(found, min_count, negatives_per_positive)
    write_rows(choice.rows, target)
    for line in _summary(found, choice):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    table = Table()
    for column in ("language", "sensitive", "not sensitive"):
        table.add_column(column, justify="left" if column == "language" else "right")
    counts = Counter((language, answer) for _, language, answer in choice.rows)
    for language in sorted({language for language, _ in counts}):
        table.add_row(language, f"{counts[language, 'yes']:,}", f"{counts[language, 'no']:,}")
    console.print(table)
    console.print(f"{target}: {len(choice.rows):,} labels", highlight=False, markup=False, soft_wrap=True)
    return 0


def _summary(found: Harvest, choice: Choice) -> list[str]:
    num_bad = found.bad_rows.total()
    lines = [
        f"{found.num_rows:,} rows read, {found.num_rows - num_bad:,} used, {num_bad:,} skipped",
        *(f"  skipped, {reason}: {count:,}" for reason, count in sorted(found.bad_rows.items())),
        *(f"  {line}" for line in found.first_bad),
    ]
    if num_bad > len(found.first_bad):
        lines.append(f"  and {num_bad - len(found.first_bad):,} more")
    lines.append(
        f"{found.num_spans:,} spans; offsets corrected: {found.num_corrected:,}; "
        f"spans not found: {found.num_not_found:,}"
    )
    lines.append(
        f"left out: {choice.num_conflicts:,} words that are sensitive labels too, "
        f"{choice.num_values:,} words before a colon that are values elsewhere"
    )
    return lines

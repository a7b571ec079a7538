"""`pii-finetune score FILE --out FILE`."""

from pathlib import Path

from rich.console import Console

from pii_finetune.quiet import quiet_libraries
from pii_finetune.score_table import score_table
from pii_finetune.tracking import require_server


def score(source: Path, target: Path, model_uri: str) -> int:
    """Score a table and say what came of it."""
    quiet_libraries()
    require_server()
    scored = score_table(source, target, model_uri)
    num_sensitive = scored["sensitive"].tolist().count("yes")
    Console().print(
        f"{target}: {len(scored):,} labels, {num_sensitive:,} of them sensitive", highlight=False, markup=False
    )
    return 0

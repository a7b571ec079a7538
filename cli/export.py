"""`pii-finetune export --out FOLDER`."""

from pathlib import Path

from cli.console import open_console
from pii_finetune.export import export_adapter, export_merged
from pii_finetune.quiet import quiet_libraries
from pii_finetune.tracking_server import require_server


def export(target: Path, model_uri: str, merged: bool) -> int:
    """Write a model to a folder and say what can be done with it."""
    quiet_libraries()
    require_server()
    (export_merged if merged else export_adapter)(model_uri, target)
    what = "adapter and base as one model" if merged else "the adapter"
    open_console().print(
        f"{target}: {what}; README.md there says how to ask it", highlight=False, markup=False, soft_wrap=True
    )
    return 0

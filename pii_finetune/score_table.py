"""Scoring a table of labels from a file, with the model in production, into a file."""

import os
import re
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from pii_finetune.errors import BadWorkbookError, MissingModelError
from pii_finetune.registry import require_plain_code
from pii_finetune.tracking import configure_tracking

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")  # an .xlsx file cannot hold these
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def score_table(source: Path, target: Path, model_uri: str) -> pd.DataFrame:
    """Answer every row of `source` and write it, with columns `sensitive` and `probability` added, to `target`.

    Columns of the source that have these names are kept as `given_sensitive` and `given_probability`.

    The target is written whole or not at all; cells a spreadsheet would take for formulas are neutralised in it.

    Raises:
        BadWorkbookError: the source or target cannot be used, or a row has no label.
        MissingModelError: there is no such model.
    """
    if target.suffix not in (".csv", ".xlsx"):
        raise BadWorkbookError(f"--out {target}: the ending must be .csv or .xlsx, which says what to write")
    if not target.parent.is_dir():
        raise BadWorkbookError(f"--out {target}: there is no folder {target.parent}; make it first")
    _require_writable(target)
    if target.resolve() == source.resolve():
        raise BadWorkbookError(f"--out {target}: is the table itself, which would be lost; name another file")
    rows = _read(source)
    model = _load(model_uri)
    questions = pd.DataFrame({"label": rows["label"].astype(str)})
    if "language" in rows:
        questions["language"] = [value if isinstance(value, str) else None for value in rows["language"]]
    answers = model.predict(questions)
    scored = rows.rename(columns={name: f"given_{name}" for name in ("sensitive", "probability")}).assign(
        sensitive=answers["sensitive"].to_numpy(), probability=answers["probability"].round(6).to_numpy()
    )
    _write(scored.map(_neutralise), target)
    return scored


def _require_writable(target: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            reason = "is a folder" if target.is_dir() else None
    except OSError as error:
        reason = f"nothing can be written to {target.parent} ({error.strerror})"
    if reason:
        raise BadWorkbookError(f"--out {target}: {reason}; name a file in a folder you can write to")


def _read(source: Path) -> pd.DataFrame:
    try:
        if source.suffix == ".csv":
            rows = pd.read_csv(source, dtype=str, keep_default_na=False, header=None, skip_blank_lines=False)
        else:
            rows = pd.read_excel(source, engine="calamine", dtype=object, keep_default_na=False, header=None)
    except Exception as error:  # noqa: BLE001  whatever a parser says of a broken file, the user needs the same answer
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:200].strip()
        raise BadWorkbookError(
            f"{source}: cannot be read as a .csv or .xlsx table ({reason}); "
            "save it as 'CSV UTF-8' with commas, or as .xlsx"
        ) from None
    if rows.empty:
        raise BadWorkbookError(f"{source}: is empty; the first row must name the columns, one of them 'label'")
    names = [str(cell) for cell in rows.iloc[0]]  # read as a row, since pandas would rename a second `label`
    rows = rows.iloc[1:].reset_index(drop=True)
    rows.columns = [name.strip().lower() if name.strip().lower() in ("label", "language") else name for name in names]
    counts = {name: list(rows.columns).count(name) for name in ("label", "language")}
    if counts["label"] != 1 or counts["language"] > 1:
        found = ", ".join(repr(c) for c in rows.columns) or "none"
        raise BadWorkbookError(
            f"{source}: needs exactly one column 'label', and at most one 'language' (columns found: {found})"
            + ("; a .csv file is read with commas between its columns" if source.suffix == ".csv" else "; rename them")
        )
    if rows.empty:
        raise BadWorkbookError(f"{source}: has no rows below its header; give at least one label")
    if empty := [at + 2 for at, value in enumerate(rows["label"]) if not str(value).strip()]:
        shown = ", ".join(map(str, empty[:100]))
        raise BadWorkbookError(f"{source}, column 'label': no label in row {shown}; type one, or delete the row")
    return rows


def _load(model_uri: str) -> PyFuncModel:
    configure_tracking()
    try:
        require_plain_code(model_uri)
        return mlflow.pyfunc.load_model(model_uri)
    except MlflowException as error:
        raise MissingModelError(
            f"{model_uri}: could not be loaded from {mlflow.get_tracking_uri()} ({error.message.splitlines()[0]}); "
            "make a model with `pii-finetune run`, or point MLFLOW_TRACKING_URI to the server that has it"
        ) from None


def _neutralise(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    printable = _ILLEGAL.sub("\ufffd", cell)
    return f"'{printable}" if printable.startswith(_FORMULA_STARTS) else printable


def _write(table: pd.DataFrame, target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
    os.close(handle)
    try:
        if target.suffix == ".csv":
            table.to_csv(name, index=False)
        else:
            table.to_excel(name, index=False, engine="openpyxl")
        Path(name).chmod(0o644)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)

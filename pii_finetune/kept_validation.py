"""The verdict on a table, kept as MLflow artifacts, so that the same rows are not judged twice."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from pydantic import TypeAdapter

from pii_finetune.advice import Advice
from pii_finetune.errors import DamagedResultError
from pii_finetune.kept import KeptStage, fetch_files, log_manifest
from pii_finetune.patience import patiently
from pii_finetune.validation import Problem, ValidationReport, Verdict, judged_before
from pii_finetune.workbook import Table

_FOLDER, _FINDINGS, _DOCS = "validation", "findings.json", "data-docs.zip"
_KEPT = {"dropped": tuple[Problem, ...], "num_expectations": int, "advice": tuple[Advice, ...]}


def keep_validation(report: ValidationReport, docs: Path) -> None:
    """Log what was found in a valid table to the active run, so that `fetch_validation` finds it."""
    findings = {name: TypeAdapter(kind).dump_python(getattr(report, name)) for name, kind in _KEPT.items()}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / _FOLDER
        folder.mkdir()
        (folder / _FINDINGS).write_text(json.dumps(findings), encoding="utf-8")
        shutil.make_archive(str(folder / _DOCS.removesuffix(".zip")), "zip", docs)
        patiently(mlflow.log_artifacts, str(folder), _FOLDER)
        log_manifest(Path(parent), folder, {"fingerprint": report.fingerprint})


def fetch_validation(kept: KeptStage, table: Table, docs: Path) -> ValidationReport:
    """Return the report on a table that was found valid before; its Data Docs are put into `docs`.

    The rows are cleaned and fingerprinted anew: only what Great Expectations found is taken from what was kept.

    Raises:
        DamagedResultError: a file is missing or not as it was logged, or the rows are not those that were judged.
    """
    with tempfile.TemporaryDirectory() as parent:
        facts = fetch_files(kept, _FOLDER, Path(parent))
        folder = Path(parent) / _FOLDER
        found: dict[str, Any] = json.loads((folder / _FINDINGS).read_text(encoding="utf-8"))
        shutil.unpack_archive(folder / _DOCS, docs)
    findings: dict[str, Any] = {name: TypeAdapter(kind).validate_python(found[name]) for name, kind in _KEPT.items()}
    report = judged_before(table, Verdict(problems=(), docs=docs / "index.html", **findings))
    if report.fingerprint != facts["fingerprint"]:
        raise DamagedResultError(f"{kept.where}: what it kept is of other rows; the stage is done again")
    return report

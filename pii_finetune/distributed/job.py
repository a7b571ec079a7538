"""What a training in several processes is given: written by the process that asks for it, read by those that do it."""

import base64
import json
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pii_finetune.config import RunConfig
from pii_finetune.records import Record
from pii_finetune.splits import Splits

Stage = Literal["sft", "dpo"]
FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """One stage of a run."""

    stage: Stage
    config: RunConfig  # with this process's share of a batch
    splits: Splits  # without the test side, which no training sees
    folder: Path
    start: Path | None = None  # the adapter that DPO starts from
    is_first_node: bool = True
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)


def write_job(job: Job) -> Path:
    """Write it into its folder, and return the file."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / FILE).write_text(as_text(job), encoding="utf-8")
    return job.folder / FILE


def read_job(path: Path) -> Job:
    """Read what `write_job` wrote."""
    return _job_of(json.loads(path.read_text(encoding="utf-8")))


def as_text(job: Job, with_start: bool = False) -> str:
    """Return all of a job as text; for another machine with the adapter it starts from, not only its place."""
    content: dict[str, Any] = {
        "stage": job.stage,
        "config": job.config.model_dump(mode="json"),
        "train": [asdict(record) for record in job.splits.train],
        "validation": [asdict(record) for record in job.splits.validation],
        "folder": str(job.folder),
        "start": None if job.start is None else str(job.start),
        "is_first_node": job.is_first_node,
        "identity": job.identity,
    }
    if with_start and job.start is not None:
        content["files"] = {
            path.name: base64.b64encode(path.read_bytes()).decode() for path in job.start.iterdir() if path.is_file()
        }
    return json.dumps(content, ensure_ascii=False)


def job_from(text: str, folder: Path) -> Job:
    """Return the job of another machine's text, at home in a folder of this one."""
    content = json.loads(text)
    files = content.pop("files", {})
    start = folder / "start"
    for name, file in files.items():
        start.mkdir(parents=True, exist_ok=True)
        (start / Path(name).name).write_bytes(base64.b64decode(file))
    own = {"folder": str(folder), "start": str(start) if files else None, "is_first_node": False}
    return _job_of(content | own)


def _job_of(content: dict[str, Any]) -> Job:
    train, validation = (tuple(Record(**each) for each in content.pop(side)) for side in ("train", "validation"))
    content["config"] = RunConfig.model_validate(content["config"])
    content["folder"] = Path(content["folder"])
    content["start"] = None if content["start"] is None else Path(content["start"])
    return Job(splits=Splits(train, validation, ()), **content)

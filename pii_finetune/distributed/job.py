"""What a training in several processes is given: written by the process that asks for it, read by those that do it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pii_finetune.config import RunConfig
from pii_finetune.records import Record
from pii_finetune.splits import Splits

Stage = Literal["sft", "dpo"]


@dataclass(frozen=True)
class Job:
    """One stage of a run."""

    stage: Stage
    config: RunConfig  # with this process's share of a batch
    splits: Splits  # without the test side, which no training sees
    folder: Path
    start: Path | None = None  # the adapter that DPO starts from

    def write(self) -> Path:
        """Write it into its folder, and return the file."""
        path = self.folder / "job.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "stage": self.stage,
            "config": self.config.model_dump(mode="json"),
            "train": [asdict(record) for record in self.splits.train],
            "validation": [asdict(record) for record in self.splits.validation],
            "folder": str(self.folder),
            "start": None if self.start is None else str(self.start),
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path


def read_job(path: Path) -> Job:
    """Read what `write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    train, validation = (tuple(Record(**each) for each in content[side]) for side in ("train", "validation"))
    return Job(
        content["stage"],
        RunConfig.model_validate(content["config"]),
        Splits(train, validation, ()),
        Path(content["folder"]),
        None if content["start"] is None else Path(content["start"]),
    )

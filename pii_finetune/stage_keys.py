"""What a stage's result depends on, as one hash: the same key, the same result.

A key is over the data by fingerprint, the settings that matter, the code and the keys of the stages before. Left out is
what changes no result:

- `profile` is a name for settings that are in the key themselves.
- `variant` says what the models are called, and so only with which one they are compared.
- `output_dir`, `tracking`: where results go, not what they are.
- `data`: acts through the rows, and these are in the key as they were split.
- `save_strategy`, `save_steps`, `save_total_limit`: a training goes on bitwise from a checkpoint.
- `runtime.num_nodes`, `rendezvous`, `max_restarts`: where the same processes run, and how often again.
- `gate`: judges results; it is asked anew in every run.

`fused`, `runtime.num_processes`, batch sizes for evaluation and gradient checkpointing stay in: sums in another order
round otherwise.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from pii_finetune.code_version import code_version
from pii_finetune.config import BaseConfig, RunConfig, TrainingSection
from pii_finetune.model_names import model_names
from pii_finetune.records import Record, fingerprint
from pii_finetune.splits import Splits
from pii_finetune.workbook import Table

SAVING = frozenset({"save_strategy", "save_steps", "save_total_limit"})


def run_key(config: RunConfig, source_mark: str, tags: Mapping[str, str]) -> str:
    """Return the key of a whole run: every setting, for each is a param of the run, and the file as it was found.

    The rows are not known yet when a run begins; stages have their keys from them. Tags tell a sweep, and a trial of
    one, from an ordinary run.
    """
    settings = config.model_dump(mode="json")
    return _hash({"config": settings, "source": source_mark, "code": code_version(), "tags": dict(tags)})


def validation_key(config: RunConfig, table: Table) -> str:
    """Return the key of a verdict: every cell as it was read, and how rows are judged."""
    rows = pa.Table.from_pandas(table.rows, preserve_index=False)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return _hash(
        {
            "stage": "validate",
            "code": code_version(),
            "great_expectations": version("great-expectations"),
            "rows": hashlib.sha256(sink.getvalue()).hexdigest(),
            "files": [asdict(each) for each in table.files],
            "data": config.data.model_dump(mode="json", include={"on_bad_row", "max_dropped_share", "seed"}),
        }
    )


def sft_key(config: RunConfig, splits: Splits) -> str:
    """Return the key of the SFT adapter."""
    return _hash(
        {
            "stage": "sft",
            "code": code_version(),
            "train": fingerprint(splits.train),
            "validation": fingerprint(splits.validation),
            "seed": config.seed,
            "base": _base(config.base),
            "lora": config.lora.model_dump(mode="json"),
            "trainer": config.trainer,
            "runtime": config.runtime.model_dump(mode="json", include={"num_processes", "sharding"}),
            "fused": config.fused.model_dump(mode="json"),
            "sft": _training(config.sft),
        }
    )


def dpo_key(config: RunConfig, splits: Splits) -> str:
    """Return the key of the DPO adapter."""
    return _hash({"stage": "dpo", "sft": sft_key(config, splits), "dpo": _training(config.dpo)})


def evaluation_key(config: RunConfig, splits: Splits, unseen: Sequence[Record], production: str | None) -> str:
    """Return the key of the comparison, in which the model in production takes part: the variant's, of that version."""
    compared_with = None if production is None else f"{model_names(config.variant).dpo} {production}"
    return _hash(
        {
            "stage": "evaluate",
            "dpo": dpo_key(config, splits),
            "test": _rows(splits.test),
            "unseen": _rows(unseen),
            "production": compared_with,
            "evaluation": config.evaluation.model_dump(mode="json"),
            "calibration": config.calibration.model_dump(mode="json"),
        }
    )


def model_key(stage_key: str, calibration: Mapping[str, Any]) -> str:
    """Return the key of a registered model: an adapter and what makes probabilities of its margins."""
    return _hash({"adapter": stage_key, "calibration": calibration})


def _training(section: TrainingSection) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=set(SAVING))


def _base(base: BaseConfig) -> dict[str, Any]:
    """Return the settings, what the base is, and for one in a folder of ours its weights: they may be replaced."""
    from pii_finetune.base_model import deciding_files, identify, local_folder
    from pii_finetune.manifest import digest

    files = deciding_files(base) if local_folder(base) is not None else {}
    contents = {name: digest(path).sha256 for name, path in files.items()}
    return base.model_dump(mode="json") | {"identity": identify(base).as_dict(), "files": contents}


def _rows(records: Sequence[Record]) -> str:
    # Category and row are in the tables of an evaluation, though not in the data's fingerprint.
    return _hash({"rows": sorted([r.label, r.language, r.answer, r.category, r.row] for r in records)})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

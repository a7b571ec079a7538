"""Parts through a pool of workers: Ray Data hands them out, restarts workers that die, and has parts done again."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pii_finetune import errors
from pii_finetune.errors import PiiFinetuneError, WorkersLostError
from pii_finetune.isolation import split_isolated
from pii_finetune.ray_scoring.cluster import Cluster
from pii_finetune.ray_scoring.part import Summary, Work, answer_part
from pii_finetune.ray_scoring.plan import Part
from pii_finetune.ray_scoring.tables import Table, readable
from pii_finetune.row_range import RowRange
from pii_finetune.score_copy import Columns

_MAX_ATTEMPTS = 4  # at one part; a part that kills every worker would be tried for ever


def split_tables(
    tables: Sequence[Table], columns: Columns, rows_per_part: int, cluster: Cluster
) -> dict[str, list[RowRange]]:
    """Read every table once, each by a task of its own, and return their rows as ranges.

    Raises:
        BadWorkbookError: one cannot be read, or has rows without a good label; the first by name is told.
    """

    def split(row: dict[str, Any]) -> dict[str, Any]:
        def ranges() -> list[dict[str, int]]:
            table = Table(**json.loads(row["table"]))
            with readable(table, cluster.workplace) as source:
                required = columns.language is not None
                found = split_isolated(source, table.settings(columns), required, rows_per_part)
            return [asdict(rows) for rows in found]

        return {"at": row["at"], "outcome": _outcome(ranges)}

    rows = [{"at": at, "table": json.dumps(asdict(table))} for at, table in enumerate(tables)]
    found = {row["at"]: json.loads(row["outcome"]) for row in _consume(_items(rows).map(split, num_cpus=1))}
    return {table.name: [RowRange(**rows) for rows in _result(found[at])] for at, table in enumerate(tables)}


def answer_parts(
    parts: Sequence[Part], tables: Mapping[str, Table], work: Work, model: Path, cluster: Cluster
) -> Iterator[tuple[int, Summary]]:
    """Have the parts answered and written; yields the number and the summary of each as it is finished.

    Args:
        parts: those that are missing.
        tables: by name.
        work: what is the same for all of them.
        model: the model's folder, whose files go to the workers: these need no MLflow, and all have the same model.
        cluster: where they work.

    Raises:
        PiiFinetuneError: whatever a worker raised; the others' finished parts stay.
        WorkersLostError: a part's workers died again and again.
    """
    import ray
    from ray.data import ActorPoolStrategy

    files = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    attempts = ray.remote(num_cpus=0)(_Attempts).remote()
    rows = [
        {"number": part.number, "part": json.dumps(asdict(part)), "table": json.dumps(asdict(tables[part.table]))}
        for part in parts
    ]
    answered = _items(rows).map_batches(
        _Worker,
        batch_size=1,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=min(cluster.num_workers, len(parts)), max_tasks_in_flight_per_actor=1),
        fn_constructor_kwargs={"files": ray.put(files), "work": work, "attempts": attempts},
        num_cpus=1,
        num_gpus=cluster.num_gpus_each,
    )
    for row in _consume(answered):
        yield int(row["number"]), Summary(**_result(json.loads(row["outcome"])))


class _Attempts:
    """Counts how often each part was begun."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]


class _Worker:
    """Holds the loaded model and answers one part after the other; on a CPU with one thread."""

    def __init__(self, files: Any, work: Work, attempts: Any) -> None:
        self._files, self._work, self._attempts = files, work, attempts
        self._model: Any = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        number = int(batch["number"][0])
        outcome = _outcome(lambda: asdict(self._answer(number, batch["part"][0], batch["table"][0])))
        return {"number": [number], "outcome": [outcome]}

    def _answer(self, number: int, part: str, table: str) -> Summary:
        import ray

        kept = json.loads(part)
        asked = Part(kept["number"], kept["table"], RowRange(**kept["rows"]))
        attempt: Any = ray.get(self._attempts.begin.remote(number))
        if attempt > _MAX_ATTEMPTS:
            raise WorkersLostError(
                f"{asked.table}, {asked.rows.num_rows:,} rows after row {asked.rows.first + 1:,}: a worker died "
                f"{_MAX_ATTEMPTS} times over them, as when memory does not suffice; the same command goes on with "
                "what is missing: give it fewer workers (--num-workers) or a machine with more memory"
            )
        if self._model is None:
            self._model = self._load()
        return answer_part(asked, Table(**json.loads(table)), self._work, self._model)

    def _load(self) -> Any:
        import ray
        import torch

        from pii_finetune.quiet import quiet_libraries
        from pii_finetune.score_model import load_table_model

        quiet_libraries()
        if not torch.cuda.is_available():
            torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="pii-finetune-model-", dir=self._work.workplace) as name:
            files: Any = ray.get(self._files)
            for path, content in files.items():
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(name) / path).write_bytes(content)
            return load_table_model(Path(name))


def _outcome(work: Any) -> str:
    """Return what came of it as text: an error of ours is for the user, any other is Ray's business."""
    try:
        return json.dumps({"result": work()})
    except PiiFinetuneError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)})


def _result(outcome: dict[str, Any]) -> Any:
    if "error" in outcome:
        raise getattr(errors, outcome["error"])(outcome["message"])
    return outcome["result"]


def _items(rows: list[dict[str, Any]]) -> Any:
    """Return the rows as a dataset with a block for each: what is handed out, and tried again, is one row."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # which its import sets to DEBUG
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _consume(dataset: Any) -> Iterator[dict[str, Any]]:
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        yield from dataset.iter_rows()
    except RayTaskError:  # a mistake in the program: with its traceback
        raise
    except (RayActorError, RayError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise WorkersLostError(
            f"Ray lost its workers ({type(error).__name__}: {reason}); what they finished is kept, and the same "
            "command goes on where it stopped"
        ) from None

import dataclasses

import pytest

from pii_finetune.errors import BadWorkbookError
from pii_finetune.ray_scoring.plan import Job, Plan, make_plan
from pii_finetune.row_range import RowRange

JOB = Job(
    {"a.csv": {"size": "10", "mtime": "1"}, "b.csv": {"size": "20", "mtime": "2"}},
    ("label", None),
    rows_per_part=4_096,
    model="m" * 64,
    code="c" * 64,
)
RANGES = {"b.csv": [RowRange(0, 7)], "a.csv": [RowRange(0, 4_096), RowRange(4_096, 3, 700, 4_097)]}


def test_parts_are_numbered_by_table_and_row_whatever_was_read_first():
    plan, again = make_plan(JOB, RANGES), make_plan(JOB, dict(sorted(RANGES.items())))
    assert plan == again
    assert [(part.name, part.table, part.rows.first) for part in plan.parts] == [
        ("part-000000.parquet", "a.csv", 0),
        ("part-000001.parquet", "a.csv", 4_096),
        ("part-000002.parquet", "b.csv", 0),
    ]
    assert plan.num_rows == 4_106


def test_a_plan_is_the_same_after_it_was_kept():
    plan = make_plan(JOB, RANGES)
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).job.key == plan.job.key


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tables": {"a.csv": {"size": "11", "mtime": "3"}, "b.csv": JOB.tables["b.csv"]}}, "changed: a.csv"),
        ({"tables": {"a.csv": JOB.tables["a.csv"]}}, "gone: b.csv"),
        ({"tables": JOB.tables | {"c.csv": {}}}, "new: c.csv"),
        ({"model": "n" * 64}, "the model is another one"),
        ({"columns": ("field", None)}, "the columns asked for are others"),
        ({"rows_per_part": 8_192}, "parts had 4,096 rows"),
        ({"code": "d" * 64}, "another version"),
    ],
)
def test_parts_of_another_job_are_refused_with_what_differs_and_what_to_do(change: dict[str, object], told: str):
    other = dataclasses.replace(JOB, **change)
    assert other.key != JOB.key
    with pytest.raises(BadWorkbookError, match=rf"--out out: holds parts of another scoring \(.*{told}.*name another"):
        other.require_same(JOB, "out")


def test_the_same_job_is_gone_on_with():
    dataclasses.replace(JOB).require_same(JOB, "out")

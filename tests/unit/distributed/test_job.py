from pii_finetune.distributed.job import Job, as_text, job_from, read_job, write_job
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.splits import Splits

RECORDS = (Record("Straße", "German", sensitive=True, row=2, category="address"), Record("沿革", "Chinese", False, 3))


def make_job(folder, start=None):
    config = apply_overrides(embedded(), {"runtime.num_processes": 2})
    return Job("dpo" if start else "sft", config, Splits(RECORDS, RECORDS[:1], ()), folder, start)


def test_a_job_is_read_as_it_was_written(tmp_path):
    job = make_job(tmp_path / "new" / "folder", tmp_path / "adapter")
    assert read_job(write_job(job)) == job


def test_another_machine_gets_rows_settings_and_the_adapter_to_start_from(tmp_path):
    start = tmp_path / "here" / "adapter"
    start.mkdir(parents=True)
    (start / "adapter_model.safetensors").write_bytes(bytes(range(256)))
    job = make_job(tmp_path / "here", start)
    there = job_from(as_text(job, with_start=True), tmp_path / "there")
    assert (there.stage, there.config, there.splits, there.identity) == (
        job.stage,
        job.config,
        job.splits,
        job.identity,
    )
    assert there.folder == tmp_path / "there"
    assert not there.is_first_node
    assert there.start is not None
    assert (there.start / "adapter_model.safetensors").read_bytes() == bytes(range(256))


def test_a_file_that_another_machine_names_stays_in_the_folder(tmp_path):
    text = as_text(make_job(tmp_path)).replace('"stage"', '"files": {"../../evil": ""}, "stage"', 1)
    job_from(text, tmp_path / "there")
    assert not (tmp_path.parent / "evil").exists()
    assert (tmp_path / "there" / "start" / "evil").exists()

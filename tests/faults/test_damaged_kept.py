from pathlib import Path
from urllib.parse import urlparse

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_damaged_results_are_named_and_their_stages_done_again_and_no_others(runs):
    short = ["--set", "sft.max_steps=10", "--set", "dpo.max_steps=5"]
    runs.finish(*short)
    [validated], [sft], [dpo] = runs.runs("validate"), runs.runs("sft"), runs.runs("dpo")
    file_of(dpo, "adapter/adapter_model.safetensors").unlink()
    verdict = file_of(validated, "validation/data-docs.zip")
    verdict.write_bytes(verdict.read_bytes()[:-10])

    said = runs.finish(*short)
    warned = [line for line in said.splitlines() if "what it kept cannot be used" in line]
    assert len(warned) == 2
    for line, run, name in zip(warned, (validated, dpo), ("data-docs.zip", "adapter_model.safetensors"), strict=True):
        assert run.info.run_id in line
        assert name in line
    assert f"SFT: kept from run {sft.info.run_id}" in said
    assert "Traceback" not in said
    again = runs.runs("dpo")[-1]
    assert again.info.run_id != dpo.info.run_id
    assert again.info.status == "FINISHED"
    assert runs.steps(again) == [1, 5]
    # What was done again is the same, and so is the model.
    assert len(runs.client.search_model_versions("name='pii-dpo'")) == 1


def file_of(run, name):
    return Path(urlparse(run.info.artifact_uri).path) / name

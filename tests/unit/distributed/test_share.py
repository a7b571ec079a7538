import pytest

from pii_finetune.distributed.share import share_of_batch
from pii_finetune.errors import BadConfigError
from pii_finetune.profiles import fast, seed


def rows_of_a_step(section):
    return section.per_device_train_batch_size * section.gradient_accumulation_steps


@pytest.mark.parametrize("num_processes", [1, 2, 4, 64])
def test_all_shares_together_are_the_rows_of_a_step(num_processes):
    section = fast().sft
    share = share_of_batch("sft", section, num_processes)
    assert num_processes * rows_of_a_step(share) == rows_of_a_step(section)
    assert share.learning_rate == section.learning_rate


def test_where_the_micro_batch_cannot_be_shared_the_accumulated_ones_are():
    section = seed().sft.model_copy(update={"gradient_accumulation_steps": 12})  # 12 times 2 rows
    share = share_of_batch("sft", section, 4)
    assert (share.per_device_train_batch_size, share.gradient_accumulation_steps) == (2, 3)


def test_what_cannot_be_shared_evenly_is_refused_with_what_to_set():
    with pytest.raises(BadConfigError, match=r"a step of dpo is 2 rows, 1 times.*dpo\.per_device_train_batch_size"):
        share_of_batch("dpo", seed().dpo, 4)

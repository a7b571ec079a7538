import pytest

from pii_finetune.errors import BadConfigError
from pii_finetune.model_names import is_variant, model_names, pair_of
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded

VARIANTS = (None, "fr", "hr-2026", "a", "x_1.b", "dpo", "frFR", "a" * 100)


@pytest.mark.parametrize("variant", VARIANTS)
def test_either_name_tells_the_pair_and_the_pair_its_variant(variant):
    pair = model_names(variant)
    assert [pair_of(name) for name in pair] == [pair, pair]
    assert pair.variant == variant


def test_the_common_pair_is_called_as_ever_and_no_two_variants_are_called_alike():
    assert model_names(None) == ("pii-dpo", "pii-sft")
    assert model_names("fr") == ("pii-dpo-fr", "pii-sft-fr")
    assert len({name for variant in VARIANTS for name in model_names(variant)}) == 2 * len(VARIANTS)


@pytest.mark.parametrize(
    "name", ["another", "pii-dpo-", "pii-dpo-Fr", "pii-dpofr", "my-pii-dpo", "pii-dpo\n", "pii-finetune-promotion-lock"]
)
def test_a_name_that_no_run_gives_is_of_no_pair(name):
    assert pair_of(name) is None


@pytest.mark.parametrize("variant", ["", "Fr", "1a", "-fr", ".fr", "a b", "a/b", "a:b", "fr\n", "é", "a'b", "a" * 101])
def test_a_variant_that_cannot_be_part_of_a_name_is_refused_with_what_can(variant):
    assert not is_variant(variant)
    with pytest.raises(
        BadConfigError, match=r"^variant = .*: becomes part of the names of two models: write at most 100"
    ):
        apply_overrides(embedded(), {"variant": variant})

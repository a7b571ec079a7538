import pytest
import torch

from pii_finetune.errors import BadConfigError, MissingDeviceError
from pii_finetune.profiles import embedded
from pii_finetune.setup import build_config, configure_run


def test_without_wishes_the_profile_is_the_config():
    assert build_config("embedded", None, {}) == embedded()


def test_the_workbook_and_settings_of_the_user_replace_the_profiles():
    config = build_config("embedded", "/data/own.xlsx", {"lora.r": 4})
    assert (config.data.workbook, config.lora.r) == ("/data/own.xlsx", 4)


def test_a_workbook_among_the_settings_wins_over_the_data_option():
    assert build_config("embedded", "a.xlsx", {"data.workbook": "b.xlsx"}).data.workbook == "b.xlsx"


def test_an_unknown_profile_is_told_with_all_names_and_the_nearest():
    with pytest.raises(BadConfigError, match=r"'embeded': choose one of embedded, seed, fast; did you mean 'embedded'"):
        build_config("embeded", None, {})


def test_a_profile_like_no_other_gets_no_wild_guess():
    with pytest.raises(BadConfigError, match=r"choose one of embedded, seed, fast$"):
        build_config("xyz", None, {})


def test_the_profile_is_not_a_setting_among_others():
    with pytest.raises(BadConfigError, match="choose it with --profile"):
        build_config("embedded", None, {"profile": "seed"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_profile_that_needs_cuda_says_so_at_once_where_there_is_none():
    with pytest.raises(MissingDeviceError, match=r"CUDA cannot be used: .*--profile embedded"):
        configure_run("seed", None, {})


def test_the_embedded_profile_runs_anywhere():
    assert configure_run("embedded", None, {}) == embedded()

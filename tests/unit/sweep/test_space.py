import pytest

from pii_finetune.errors import BadConfigError
from pii_finetune.profiles import embedded
from pii_finetune.sweep.space import Range, build_space, parse_grid, parse_ranges


def test_a_grid_is_every_combination():
    space = build_space(embedded(), {"lora.r": [8, 16], "sft.learning_rate": [1e-3, 2e-3, 4e-3]}, {}, None)
    assert space.num_trials == 6
    combinations = space.combinations()
    assert len({tuple(each.items()) for each in combinations}) == 6
    assert {"lora.r": 16, "sft.learning_rate": 4e-3} in combinations


def test_without_anything_to_try_there_is_one_trial_as_the_profile_has_it():
    space = build_space(embedded(), {}, {}, None)
    assert (space.num_trials, space.combinations()) == (1, [{}])


def test_a_range_is_of_whole_numbers_where_the_setting_is():
    ranges = {
        "lora.r": [4, 64, "log"],
        "seed": [1.0, 9.0],
        "sft.learning_rate": [1e-4, 1e-2],
        "sft.weight_decay": [0, 1],
    }
    space = build_space(embedded(), {}, ranges, 5)
    assert space.ranges["lora.r"] == Range(4, 64, log=True, is_whole=True)
    assert {path for path, each in space.ranges.items() if each.is_whole} == {"lora.r", "seed"}
    assert space.num_trials == 5


@pytest.mark.parametrize(
    ("grid", "ranges", "num_trials", "told"),
    [
        ({"sft.lerning_rate": [1e-3]}, {}, None, "sft.learning_rate"),
        ({"sft.learning_rate": [-1]}, {}, None, "greater than 0"),
        ({"lora.r": [8, "many"]}, {}, None, "lora.r"),
        ({"lora.r": 8}, {}, None, "must be a list"),
        ({"lora.r": []}, {}, None, "at least one"),
        ({"lora.r": [8, 8]}, {}, None, "twice"),
        ({"lora.r": [8, 8.0]}, {}, None, "twice"),
        ({"lora.r": [8, "8"]}, {}, None, "twice"),
        ({"gate.minimum_f1": [0.1, 0.2]}, {}, None, "teaches a model nothing"),
        ({"data.seed": [1, 2]}, {}, None, "variants"),
        ({"lora.r": [8]}, {"lora.r": [4, 8]}, 3, "a grid and a range"),
        ({}, {"lora.r": [8]}, 3, "must be [low, high]"),
        ({}, {"lora.r": [8, 4]}, 3, "smaller"),
        ({}, {"lora.r": ["few", "many"]}, 3, "numbers"),
        ({}, {"lora.r": [True, 8]}, 3, "numbers"),
        ({}, {"sft.learning_rate": [0, 1e-2, "log"]}, 3, "above 0"),
        ({}, {"sft.learning_rate": [1e-4, 1e-2, "logarithmic"]}, 3, '"log"'),
        ({}, {"sft.learning_rate": [1e-4, float("inf")]}, 3, "numbers"),
        ({}, {"sft.learning_rate": [1e-4, 1e-2]}, None, "--trials"),
        ({}, {"sft.learning_rate": [1e-4, 1e-2]}, 0, "at least 1"),
        ({}, {"sft.learning_rate": [1e-4, 1e-2]}, 10**20, "10,000"),
        ({"lora.r": [8, 16]}, {}, 1, "a grid is tried whole"),
        ({"lora.r": [*range(1, 200)], "seed": [*range(100)]}, {}, None, "19,900"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_what_to_do(grid, ranges, num_trials, told):
    with pytest.raises(BadConfigError) as error:
        build_space(embedded(), grid, ranges, num_trials)
    assert told in str(error.value)


def test_values_on_the_command_line_are_json_or_text():
    assert parse_grid(["lora.r=8,16", "trainer=fused,trl"]) == {"lora.r": [8, 16], "trainer": ["fused", "trl"]}
    assert parse_grid(['lora.target_modules=["q_proj"],["q_proj", "v_proj"]']) == {
        "lora.target_modules": [["q_proj"], ["q_proj", "v_proj"]]
    }
    assert parse_ranges(["sft.learning_rate=1e-4:1e-2:log", "lora.r=4:64"]) == {
        "sft.learning_rate": [1e-4, 1e-2, "log"],
        "lora.r": [4, 64],
    }


@pytest.mark.parametrize("text", ["", "lora.r", "=8", "lora.r="])
def test_what_is_no_assignment_is_told(text):
    for parse in (parse_grid, parse_ranges):
        with pytest.raises(BadConfigError, match="is not PATH=VALUES"):
            parse([text])


@pytest.mark.parametrize(
    ("parse", "assignments"),
    [
        (parse_grid, ["lora.r=8", "lora.r=16"]),
        (parse_ranges, ["lora.r=4:8", "lora.r=16:32"]),
    ],
)
def test_a_setting_that_is_given_twice_is_refused(parse, assignments):
    with pytest.raises(BadConfigError, match=r"lora\.r.*twice"):
        parse(assignments)

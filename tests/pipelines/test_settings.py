"""What a run may be told: every number is checked before anything is read."""

import dataclasses
import json
import math

import pytest

from peer_cl import PoolShape
from peer_cl.errors import InputError, StateError
from pipelines.settings import RECIPE, TrainingSettings, recorded_hold_out
from pipelines.splits import HOLD_OUT_PERCENT

POSITIVE = ("text_passes", "fact_passes", "answer_weight", "row_learning_rate", "key_learning_rate")
LEAST = {
    "quiet_tokens": 1,
    "tokens_per_step": 2,
    "max_tokens": 2,
    "least_steps": 1,
    "warmup_steps": 0,
    "validations": 0,
    "patience": 1,
}
OTHERS = (
    "varied_share",
    "reworded_passes",
    "quiet_weight",
    "kl_weight",
    "upper_share",
    "hold_out_percent",
    "seed",
)
NUMBERS = [field.name for field in dataclasses.fields(TrainingSettings) if field.type != "str"]


def test_every_number_has_a_test_here():
    assert {*POSITIVE, *LEAST, *OTHERS, "shape"} == set(NUMBERS)


@pytest.mark.parametrize("name", [*POSITIVE, *LEAST, *OTHERS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(name, value):
    with pytest.raises(InputError, match=f"{name} must .*, not {value}"):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1e-9])
def test_a_number_that_must_be_positive_is(name, value):
    with pytest.raises(InputError, match=f"{name} must be positive, not {value}"):
        TrainingSettings(**{name: value})
    assert getattr(TrainingSettings(**{name: 1e-9}), name) == 1e-9


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_a_count_has_a_least_value_and_is_whole(name, least):
    with pytest.raises(InputError, match=f"{name} must be at least {least}, not {least - 1}"):
        TrainingSettings(**{name: least - 1})
    with pytest.raises(InputError, match=rf"{name} must be a whole number, not {least}\.5"):
        TrainingSettings(**{name: least + 0.5})
    assert getattr(TrainingSettings(**{name: least}), name) == least


@pytest.mark.parametrize("seed", [-1, 2**31, 10**400])
def test_a_seed_that_torch_cannot_take_everywhere_is_refused(seed):
    with pytest.raises(InputError, match=f"seed must lie between 0 and 2147483647, not {seed}"):
        TrainingSettings(seed=seed)
    assert TrainingSettings(seed=2**31 - 1).seed == 2**31 - 1


def test_a_weight_may_be_nothing_but_not_less():
    for name in ("reworded_passes", "quiet_weight", "kl_weight"):
        with pytest.raises(InputError, match=rf"{name} must be 0 or more, not -0\.01"):
            TrainingSettings(**{name: -0.01})
        assert getattr(TrainingSettings(**{name: 0.0}), name) == 0.0


@pytest.mark.parametrize("share", [-0.01, 1.01])
@pytest.mark.parametrize("name", ["varied_share", "upper_share"])
def test_a_share_lies_between_nothing_and_all(name, share):
    with pytest.raises(InputError, match=f"{name} must lie between 0 and 1, not {share}"):
        TrainingSettings(**{name: share})


def test_a_record_gives_the_settings_back():
    settings = TrainingSettings(shape=PoolShape(num_experts=64), seed=3, kl_weight=0.0)
    record = json.loads(json.dumps(settings.record()))
    assert record["recipe"] == RECIPE
    assert TrainingSettings.from_record(record) == settings


def without(record, name):
    return {key: value for key, value in record.items() if key != name}


def test_a_record_is_filled_in_only_with_what_runs_did_before():
    record = TrainingSettings().record()
    for name, before in {"least_steps": 1, "upper_share": 1.0}.items():
        then = TrainingSettings.from_record(without(record, name))
        assert then == TrainingSettings(**{name: before})
    for name in record.keys() - {"recipe", "least_steps", "upper_share"}:
        with pytest.raises(StateError, match="missing or unknown"):
            TrainingSettings.from_record(without(record, name))
    for name in record["shape"]:
        shape = without(record["shape"], name)
        with pytest.raises(StateError, match=f"missing or unknown: {name}"):
            TrainingSettings.from_record({**record, "shape": shape})
    with pytest.raises(StateError, match="missing or unknown: later"):
        TrainingSettings.from_record({**record, "later": 1})


@pytest.mark.parametrize("percent", [-1, 100, 101.5])
def test_some_documents_are_always_left_to_train_on(percent):
    with pytest.raises(InputError, match=f"hold_out_percent must be at least 0 .* not {percent}"):
        TrainingSettings(hold_out_percent=percent)
    assert TrainingSettings(hold_out_percent=0).hold_out_percent == 0


def test_a_record_tells_how_much_is_held_out_where_it_is_not_what_runs_always_did():
    record = TrainingSettings().record()
    assert "hold_out_percent" not in record, "or each run would look unlike those of before"
    assert TrainingSettings.from_record(record).hold_out_percent == HOLD_OUT_PERCENT == 23
    assert recorded_hold_out(record) == 23
    of_all = TrainingSettings(hold_out_percent=0)
    assert TrainingSettings.from_record(json.loads(json.dumps(of_all.record()))) == of_all
    assert recorded_hold_out(of_all.record()) == 0


def test_a_record_of_another_recipe_is_refused():
    record = TrainingSettings().record()
    with pytest.raises(StateError, match=f"recipe 1, not {RECIPE}"):
        TrainingSettings.from_record(without(record, "recipe"))
    with pytest.raises(StateError, match=f"recipe {RECIPE + 1}, not {RECIPE}"):
        TrainingSettings.from_record({**record, "recipe": RECIPE + 1})

import dataclasses
import inspect

import pytest

from app.settings_options import read_settings, takes_settings, training_settings, typed_settings
from peer_cl.errors import InputError
from peer_cl.layer import PoolShape
from pipelines.settings import TrainingSettings


@pytest.mark.parametrize(
    ("module", "kind"), [("pipelines.settings", TrainingSettings), ("peer_cl.layer", PoolShape)]
)
def test_what_is_parsed_is_what_the_class_has(module, kind):
    fields = {field.name: field for field in dataclasses.fields(kind)}
    found = read_settings(module, kind.__name__)
    assert {item.name for item in found} == {
        name for name, field in fields.items() if field.type in ("int", "float", "str")
    }
    for item in found:
        assert item.default == fields[item.name].default
        assert item.help.endswith("."), f"{item.name} has no sentence under it"


def test_a_verb_gets_what_was_said_and_nothing_else():
    heard = []

    def verb(where: str, *, settings: dict) -> None:
        heard.append((where, settings))

    wrapped = takes_settings(verb)
    assert "settings" not in inspect.signature(wrapped).parameters
    wrapped("here", text_passes=3.0, num_heads=2, seed=None)
    assert heard == [("here", {"text_passes": 3.0, "num_heads": 2})]


def test_settings_are_the_defaults_but_for_what_was_said():
    assert training_settings({}) == TrainingSettings()
    made = training_settings({"text_passes": 3.0, "num_heads": 2})
    assert made == TrainingSettings(text_passes=3.0, shape=PoolShape(num_heads=2))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"text_passes": 0.0}, "^--passes must"),
        ({"num_heads": -1}, "^--num-heads must"),
        ({"mode": "instead"}, "^--mode must"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused_by_their_options_names(wrong, told):
    with pytest.raises(InputError, match=told):
        typed_settings(wrong)
    with pytest.raises(InputError, match=next(iter(wrong))):  # the dashboard shows fields
        training_settings(wrong)

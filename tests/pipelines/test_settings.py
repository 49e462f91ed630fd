"""Training settings: read from a file, written into a segment's config, read back."""

import platform
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.errors import InputError, StateError, UnknownError
from peer_cl.layer import PoolShape
from pipelines.settings import TrainingSettings, freed_memory_kept


@given(
    st.builds(
        TrainingSettings,
        shape=st.sampled_from([PoolShape(), PoolShape(num_experts=64, num_heads=2)]),
        hold_out_percent=st.floats(0, 99),
        text_passes=st.floats(0.1, 9),
        own_experts=st.integers(1, 64),
        own_learning_rate=st.floats(1e-6, 1),
        seed=st.integers(0, 2**31 - 1),
        precision=st.sampled_from(["auto", "fp32", "bf16"]),
    )
)
def test_what_a_segment_records_gives_the_same_settings(settings):
    assert TrainingSettings.from_dict(settings.to_dict()) == settings


def test_a_file_names_what_differs_from_the_defaults(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("text_passes = 2\nseed = 7\n[shape]\nnum_experts = 64\n")
    expected = TrainingSettings(text_passes=2, seed=7, shape=PoolShape(num_experts=64))
    assert TrainingSettings.from_toml(path) == expected


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("text_pases = 2", UnknownError, "Did you mean 'text_passes'"),
        ("[shape]\nnum_expert = 64", UnknownError, "Did you mean 'num_experts'"),
        ("shape = 3", InputError, "must be a table"),
        ("text_passes =", InputError, "cannot be read"),
        ('text_passes = "many"', InputError, "text_passes must be a number, not 'many'"),
    ],
)
def test_a_wrong_file_is_refused_in_a_line(tmp_path, content, error, message):
    path = tmp_path / "settings.toml"
    path.write_text(content)
    with pytest.raises(error, match=message):
        TrainingSettings.from_toml(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_passes", 0.0),
        ("own_learning_rate", float("nan")),
        ("expert_learning_rate", float("inf")),
        ("own_steps", 0),
        ("own_experts", 1.5),
        ("upper_scale", -0.1),
        ("upper_scale", 1.1),
        ("hold_out_percent", 100.0),
        ("tokens_per_step", 1.5),
        ("patience", True),
        ("seed", -1),
        ("precision", "fp8"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        TrainingSettings(**{name: value})


@pytest.mark.parametrize("change", [{"recipe": 2}, {"extra": 1}])
def test_settings_of_another_recipe_are_refused(change):
    with pytest.raises(StateError, match="of recipe"):
        TrainingSettings.from_dict({**TrainingSettings().to_dict(), **change})


def test_fewer_steps_from_a_learned_start_unless_they_are_given():
    sizes = {"facts": 8, "passages": 16}
    learned = {kind: (torch.zeros(1, size, 2),) * 2 for kind, size in sizes.items()}
    steps = [
        (one.own_steps, one.passage_readings)
        for given in (TrainingSettings(), TrainingSettings(own_steps=5, passage_readings=0))
        for starts in (learned, {})
        for one in [given.begun(starts)]
    ]
    assert steps == [(8, 4), (24, 8), (5, 0), (5, 0)]
    other = TrainingSettings(own_experts=9).begun(learned)
    assert (other.own_steps, other.passage_readings) == (24, 4), "a start that is not used"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_memory_that_training_freed_is_given_back():
    def held_mb():
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("RssAnon:")[1].split()[0]) / 1e3

    with freed_memory_kept():
        pass  # what earlier tests freed is given back, so that the tensors cannot lie there
    before = held_mb()
    with freed_memory_kept():
        steps = [torch.ones(2**20) for _ in range(101)]
        last = steps.pop()  # lies above the others: the heap cannot shrink
        del steps
        inside = held_mb()
    assert inside - before > 350
    assert held_mb() - before < 50
    assert last.sum() == 2**20

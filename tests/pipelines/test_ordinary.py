"""A new pool learns to say nothing to ordinary text, the same in every run."""

import pytest
import torch
from tiny import SHAPE, VOCABULARY, make_base

from peer_cl import PeerModel
from peer_cl.errors import DamageError
from pipelines import ordinary as module
from pipelines.batches import Row
from pipelines.features import Features
from pipelines.ordinary import OrdinaryInputs, answer_to_ordinary, read_ordinary
from pipelines.progress import no_progress
from pipelines.settings import TrainingSettings
from pipelines.training import train_segment

SETTINGS = TrainingSettings(
    shape=SHAPE, text_passes=6.0, tokens_per_step=64, precision="fp32", validations=0
)


def texts(seed, num=12):
    draw = torch.Generator().manual_seed(seed)
    return [(0, *torch.randint(2, VOCABULARY, (11,), generator=draw).tolist()) for _ in range(num)]


@pytest.fixture
def model():
    return PeerModel(make_base("llama"), host_layers=(1, 3))


@pytest.fixture
def inputs(model):
    return read_ordinary(model.attachment, texts(9), (1, 3), no_progress, precision="fp32")


def train(model, inputs, weight):
    torch.manual_seed(0)
    return train_segment(
        model.attachment,
        model.new_segment(SHAPE),
        older=[],
        rows=[Row(f"{n:064x}", "text", ids) for n, ids in enumerate(texts(3))],
        validation=[],
        features=Features((), (), None, ()),
        settings=TrainingSettings(**{**vars(SETTINGS), "quiet_weight": weight}),
        end_id=1,
        ordinary=inputs,
    )


def test_inputs_are_what_the_feed_forwards_of_the_bare_base_read(model, inputs):
    assert {layer: tuple(one.shape) for layer, one in inputs.inputs.items()} == {
        1: (12 * 11, 32),
        3: (12 * 11, 32),
    }
    read = []
    mlp = model.base.model.layers[3].mlp
    handle = mlp.register_forward_pre_hook(lambda _, args: read.append(args[0].clone()))
    model.base(input_ids=torch.tensor([texts(9)[0]]))
    handle.remove()
    expected = read[0][0, 1:].half()
    assert any(torch.equal(expected, inputs.inputs[3][n * 11 : (n + 1) * 11]) for n in range(12))


def test_a_pool_that_looks_at_ordinary_text_says_less_to_it_and_still_learns(model, inputs):
    loud, quiet = train(model, None, 0.0), train(model, inputs, 1.0)
    said = [float(answer_to_ordinary(one.segment, inputs, 64, 0, 0)) for one in (loud, quiet)]
    assert said[1] < 0.5 * said[0]
    assert quiet.losses[-1][1] < quiet.losses[0][1]
    # What is recorded is the loss in nats alone: the first step, in which a pool says nothing yet.
    assert quiet.losses[0][1] == loud.losses[0][1]


def test_a_weight_of_nothing_changes_no_bit(model, inputs):
    plain, watched = train(model, None, 0.02), train(model, inputs, 0.0)
    pairs = zip(plain.segment.parameters(), watched.segment.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_a_step_draws_depends_on_seed_and_step_alone(inputs):
    first = inputs.sample(1, 8, seed=0, step=5)
    inputs.sample(3, 8, seed=0, step=6)
    assert torch.equal(first, inputs.sample(1, 8, seed=0, step=5))
    assert not torch.equal(first, inputs.sample(1, 8, seed=0, step=6))
    assert not torch.equal(first, inputs.sample(1, 8, seed=1, step=5))
    assert inputs.sample(2, 8, seed=0, step=5) is None


def test_of_a_large_sample_half_is_of_how_texts_begin(model, inputs, monkeypatch):
    monkeypatch.setattr(module, "NUM_TOKENS", 40)
    monkeypatch.setattr(module, "EARLY", 4)
    few = read_ordinary(model.attachment, texts(9), (1,), no_progress, precision="fp32").inputs[1]
    places = [int((inputs.inputs[1] == one).all(1).nonzero()[0, 0]) % 11 for one in few]
    assert len(few) == 40
    assert sum(place < 4 for place in places) == 20


def test_inputs_come_back_from_bytes_and_damage_is_told(inputs):
    again = OrdinaryInputs.from_bytes(inputs.to_bytes())
    assert all(torch.equal(again.inputs[n], one) for n, one in inputs.inputs.items())
    with pytest.raises(DamageError, match="inputs of ordinary text cannot be read"):
        OrdinaryInputs.from_bytes(b"none")

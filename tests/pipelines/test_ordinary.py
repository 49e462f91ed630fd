"""A new pool learns to say nothing to ordinary text, the same in every run."""

from dataclasses import replace

import pytest
import torch
from tiny import SHAPE, VOCABULARY, make_base, make_trainer

from peer_cl import PeerModel
from peer_cl.branches import run_branch, run_trunk
from peer_cl.errors import DamageError
from pipelines import ordinary as module
from pipelines.batches import Batch, Row, pad, target_weights
from pipelines.features import Features
from pipelines.ordinary import BEGINNING, OrdinaryText, answer_to_ordinary, read_ordinary
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


def batch_of(rows):
    ids_BT, mask_BT = pad([row.ids for row in rows], 1)
    weights_BT = target_weights(rows, ids_BT.shape[1], 1.0)
    return Batch(ids_BT, mask_BT, weights_BT, tuple(range(len(rows))))


def train(model, inputs, weight, kl_weight=0.0):
    torch.manual_seed(0)
    return train_segment(
        model.attachment,
        model.new_segment(SHAPE),
        older=[],
        rows=[Row(f"{n:064x}", "text", ids) for n, ids in enumerate(texts(3))],
        validation=[],
        features=Features((), (), None, ()),
        settings=replace(SETTINGS, quiet_weight=weight, kl_weight=kl_weight),
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
    again = OrdinaryText.from_bytes(inputs.to_bytes())
    assert again.beginnings == inputs.beginnings == tuple(texts(9))
    assert all(torch.equal(again.inputs[n], one) for n, one in inputs.inputs.items())
    with pytest.raises(DamageError, match="ordinary text cannot be read"):
        OrdinaryText.from_bytes(b"none")


def test_ordinary_text_of_stores_that_kept_no_beginnings_is_read(inputs):
    old = OrdinaryText.from_bytes(OrdinaryText(inputs.inputs).to_bytes())
    assert old.beginnings == ()
    assert old.beginning(0, 4) is None
    assert old.inputs.keys() == inputs.inputs.keys()


def test_of_a_long_text_the_beginning_is_kept(model):
    long = [(0, *range(2, 60))]
    kept = read_ordinary(model.attachment, long, (1,), no_progress, precision="fp32")
    assert kept.beginnings == (long[0][:BEGINNING],)
    assert [kept.beginning(0, step) for step in range(4)] == [long[0][:BEGINNING]] * 4


def far_from_base(model, segment, rows):
    """The KL divergence from the base's predictions to the pool's after the start token, by the
    plain definition."""
    total = tokens = 0
    for ids in rows:
        ids_BT = torch.tensor([ids])
        mask_BT = torch.ones_like(ids_BT)
        with torch.no_grad():
            tap_BTD = run_trunk(model.attachment, input_ids=ids_BT, attention_mask=mask_BT)
            base, own = (
                run_branch(
                    model.attachment,
                    segments,
                    tap_BTD,
                    input_ids=ids_BT,
                    attention_mask=mask_BT,
                    position_ids=torch.arange(len(ids))[None],
                )[0].double()
                for segments in ([], [segment])
            )
        p, log_p, log_q = base.softmax(-1), base.log_softmax(-1), own.log_softmax(-1)
        total += float((p * (log_p - log_q))[1:].sum())
        tokens += len(ids) - 1
    return total / tokens


def test_a_pool_learns_to_leave_predictions_of_ordinary_text_alone(model, inputs):
    loud, quiet = train(model, inputs, 0.0), train(model, inputs, 0.0, kl_weight=300.0)
    far = [far_from_base(model, one.segment, inputs.beginnings) for one in (loud, quiet)]
    assert far[1] < 0.5 * far[0]
    assert quiet.losses[-1][1] < quiet.losses[0][1]
    assert quiet.losses[0][1] == pytest.approx(loud.losses[0][1], rel=1e-6)


def test_the_divergence_of_a_step_is_that_of_its_beginning(model, inputs):
    """Padding, and the rows that share its pass, change nothing of it."""
    segment = train(model, inputs, 0.0).segment
    trainer = make_trainer(model, segment, SETTINGS)
    for rows in ([texts(3)[0][:4]], [*texts(3)[:2], (0, *range(2, 30))]):
        batch = batch_of([Row(f"{n:064x}", "text", ids) for n, ids in enumerate(rows)])
        with torch.no_grad():
            nats, divergence = trainer.loss_and_divergence(batch, inputs.beginnings[0])
            alone = trainer.loss(batch, None)
        cut = inputs.beginnings[0][: batch.ids_BT.shape[1]]
        expected = far_from_base(model, segment, [cut])
        assert float(divergence) == pytest.approx(expected, rel=1e-4)
        assert float(nats) == pytest.approx(float(alone), rel=1e-5)

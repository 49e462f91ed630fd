"""Training a segment: the loss, early stopping, exact continuation, what it must not touch."""

from dataclasses import replace

import pytest
import torch
from tiny_base import make_tiny_base, sentences
from tiny_store import SETTINGS, SHAPE
from torch.nn import functional

from peer_cl.bases import load_base
from peer_cl.errors import DamageError, InputError
from peer_cl.hooks import Hooks
from peer_cl.pool import Segment
from pipelines import training
from pipelines.batches import Row, tokenise
from pipelines.settings import cast_once
from pipelines.training import (
    STEPS_A_READING,
    BackgroundReader,
    PlannedSteps,
    SegmentModule,
    mean_divergence,
    squared_output,
    train_segment,
)

HOST_LAYERS = (1, 2, 3)
SHORT = replace(SETTINGS, tokens_per_step=36, validations=0)
"""Steps of few tokens, none of them validated."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def hooks(base):
    return Hooks(base.model)


def rows_of(base, subject, num, seed=1):
    """Return rows of one length: every new shape costs a kernel more than its work."""
    return [
        Row(str(number), tuple(ids[:12]))
        for number, ids in enumerate(tokenise(base.tokenizer, sentences(subject, num, seed=seed)))
    ]


def new_segment(seed=0, host_layers=HOST_LAYERS):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Segment(width=32, host_layers=host_layers, shape=SHAPE)


def filled_segment(seed):
    segment = new_segment(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in segment.peer_layers():
            layer.experts.up_ND.data.normal_(0, 0.05)
    return segment.requires_grad_(False)


def train(base, hooks, folder, *, settings=SHORT, older=(), num=12, segment=None, **changes):
    segment = segment or new_segment()
    run = train_segment(
        hooks,
        segment,
        **{
            "older": older,
            "rows": rows_of(base, "law", num),
            "validation": rows_of(base, "law", 6, seed=9),
            "beginnings": [row.ids for row in rows_of(base, "prose", 8)],
            "end_id": base.tokenizer.eos_token_id,
            "settings": settings,
            "checkpoint": folder / "run.ckpt",
            **changes,
        },
    )
    return segment, run


def test_a_run_learns_and_says_what_it_did(base, hooks, tmp_path):
    segment, run = train(base, hooks, tmp_path)
    losses = [nats for _, nats, _ in run.losses]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert [step for step, *_ in run.losses] == list(range(1, run.num_steps + 1))
    assert run.num_tokens == 3 * sum(len(row.ids) - 1 for row in rows_of(base, "law", 12))
    assert not any(parameter.requires_grad for parameter in segment.parameters())


def test_the_same_run_gives_the_same_bits(base, hooks, tmp_path):
    first, one = train(base, hooks, tmp_path / "a")
    second, other = train(base, hooks, tmp_path / "b")
    assert first.sha256() == second.sha256()
    assert one == other


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    ("between", "stop_at", "validations"),
    [(4, 9, 2), (5, 6, 0)],
)
def test_a_stopped_run_continues_to_the_same_bits(
    base, hooks, tmp_path, monkeypatch, between, stop_at, validations
):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKPOINTS", between)
    settings = replace(SHORT, validations=validations)
    unbroken, run = train(base, hooks, tmp_path / "a", settings=settings)
    assert run.num_steps > stop_at

    def stop(what, done, total, note):
        if done == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(base, hooks, tmp_path / "b", settings=settings, progress=stop)
    steps = []
    resumed, again = train(
        base,
        hooks,
        tmp_path / "b",
        settings=settings,
        segment=new_segment(),
        progress=lambda what, done, total, note: steps.append(done),
    )
    assert 1 < steps[0] <= stop_at + 1
    assert resumed.sha256() == unbroken.sha256()
    assert again == run


def test_validation_stops_a_run_that_only_gets_worse(base, hooks, tmp_path):
    settings = replace(
        SETTINGS, text_passes=30.0, validations=20, patience=2, expert_learning_rate=0.05
    )
    _, run = train(base, hooks, tmp_path, settings=settings, num=4)
    held = [nats for *_, nats in run.losses if nats is not None]
    best = held.index(min(held))
    assert len(held) == best + 1 + settings.patience < settings.validations
    assert run.losses[-1][2] == held[-1]


def test_nothing_but_the_segment_changes(base, hooks, tmp_path):
    older = [filled_segment(3), filled_segment(4)]
    before = [tensor.clone() for tensor in base.model.state_dict().values()]
    hashes = [one.sha256() for one in older]
    flags = [parameter.requires_grad for parameter in base.model.parameters()]
    train(base, hooks, tmp_path, older=older)
    assert all(map(torch.equal, before, base.model.state_dict().values()))
    assert [one.sha256() for one in older] == hashes
    assert [parameter.requires_grad for parameter in base.model.parameters()] == flags


def test_a_run_that_changes_the_base_is_refused(base, hooks, tmp_path):
    def spoil(what, done, total, note):
        base.model.lm_head.weight.data[0, 0] += 1.0

    kept = base.model.lm_head.weight.data.clone()
    with pytest.raises(DamageError, match="training changed the base"):
        train(base, hooks, tmp_path, progress=spoil)
    base.model.lm_head.weight.data.copy_(kept)


def test_a_loss_that_is_not_finite_stops_the_run(base, hooks, tmp_path):
    segment = new_segment()
    segment.layer(1).experts.up_ND.data[0] = float("nan")
    with pytest.raises(DamageError, match="the loss became nan at step 1"):
        train(base, hooks, tmp_path, segment=segment)


def test_ctrl_c_is_a_keyboard_interrupt_each_time(base, hooks, tmp_path):
    def interrupt(what, done, total, note):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(base, hooks, tmp_path, progress=interrupt)


def test_settings_that_make_no_step_are_refused(base, hooks, tmp_path):
    with pytest.raises(InputError, match="read none of 0 rows"):
        train(base, hooks, tmp_path, rows=[])


def module_of(base, hooks, segment, settings=SHORT, older=()):
    beginnings = [row.ids for row in rows_of(base, "prose", 3)]
    return SegmentModule(hooks, segment, older, beginnings, settings, total_steps=1)


def test_the_loss_is_the_next_tokens_of_all_rows(base, hooks):
    rows = rows_of(base, "law", 3)
    (batch,) = PlannedSteps(rows, [[0, 1, 2]], end_id=0)
    module = module_of(base, hooks, filled_segment(1))
    with torch.no_grad():
        found = module.loss(batch)
        nats = 0.0
        for row in rows:
            with hooks.branch([module.segment]):
                logits_TV = base.model(input_ids=torch.tensor([row.ids])).logits[0]
            nats += functional.cross_entropy(
                logits_TV[:-1], torch.tensor(row.ids[1:]), reduction="sum"
            )
    assert found.item() == pytest.approx(nats.item() / sum(len(r.ids) - 1 for r in rows), rel=1e-5)


@pytest.mark.parametrize("length", [6, 12, 30])
def test_the_divergence_is_that_of_a_pass_of_its_own(base, hooks, length):
    rows = [replace(row, ids=(row.ids * 3)[:length]) for row in rows_of(base, "law", 3)]
    (batch,) = PlannedSteps(rows, [[0, 1, 2]], end_id=0)
    module = module_of(base, hooks, filled_segment(1))
    for step in (0, 5, 9):
        background = module.background.at(step)
        ids_1L = background.ids_L[None]
        with torch.no_grad():
            nats, divergence, _ = module.losses_beside(batch, background)
            base_LV = base.model(input_ids=ids_1L).logits[0]
            with hooks.branch([module.segment]):
                pool_LV = base.model(input_ids=ids_1L[:, :length]).logits[0]
        expected = mean_divergence(base_LV[: len(pool_LV)], pool_LV).item()
        assert nats.item() == pytest.approx(module.loss(batch).item(), rel=1e-5)
        assert divergence.item() == pytest.approx(expected, rel=1e-4)


def test_background_readings_depend_on_seed_and_step_alone(base, hooks):
    texts = [row.ids[: 5 + number] for number, row in enumerate(rows_of(base, "prose", 7))]
    readers = [BackgroundReader(hooks, HOST_LAYERS, texts, seed) for seed in (0, 0, 1)]
    first = [readers[0].at(step) for step in range(20)]
    for step in (17, 3, 8):
        again = readers[1].at(step)
        assert torch.equal(again.ids_L, first[step].ids_L)
        assert torch.equal(again.logits_LV, first[step].logits_LV)
        assert all(map(torch.equal, again.inputs.values(), first[step].inputs.values()))
    assert len({tuple(one.ids_L.tolist()) for one in first}) > 3
    others = [readers[2].at(step).ids_L.tolist() for step in range(20)]
    assert others != [one.ids_L.tolist() for one in first]


def test_the_steps_of_a_reading_share_out_its_tokens(base, hooks):
    texts = [(0, *range(5, 5 + num)) for num in (30, 40, 7, 20)]
    reader = BackgroundReader(hooks, HOST_LAYERS, texts, seed=0)
    readings = [reader.at(step) for step in range(STEPS_A_READING)]
    ids = [one.ids_L for one in readings]
    num_early = sum(min(12, len(own) - 1) for own in ids)
    assert sum(len(one.is_early_X) for one in readings) == sum(len(own) - 1 for own in ids)
    assert sum(int(one.is_early_X.sum()) for one in readings) == num_early
    with hooks.bare(keep_inputs=[2]) as seen, torch.no_grad():
        expected = []
        for own in ids:
            base.model(input_ids=own[None])
            expected.append(seen.feed_forward_inputs[2][0, 1:])
    found = torch.cat([one.inputs[2] for one in readings])
    assert torch.allclose(found.sum(0), torch.cat(expected).sum(0), atol=1e-3)
    sizes = [len(one.is_early_X) for one in readings]
    assert max(sizes) - min(sizes) <= STEPS_A_READING


def test_early_and_later_background_tokens_count_half_each():
    class Echo:
        def layer(self, number):
            return lambda inputs_XD: inputs_XD

        def parameters(self):
            yield torch.zeros(1)

    inputs_XD = torch.zeros(10, 2)
    inputs_XD[:3, 0], inputs_XD[3:, 0] = 2.0, 4.0
    is_early_X = torch.arange(10) < 3
    assert squared_output(Echo(), {1: inputs_XD}, is_early_X).item() == (4 + 16) / 2
    assert squared_output(Echo(), {1: inputs_XD, 2: inputs_XD}, is_early_X).item() == 4 + 16
    assert squared_output(Echo(), {1: inputs_XD[:3]}, is_early_X[:3]).item() == 4
    assert squared_output(Echo(), {1: inputs_XD[:0]}, is_early_X[:0]).item() == 0


def test_no_gradient_is_computed_of_the_base_nor_below_the_first_host_layer(base, hooks):
    segment = new_segment(host_layers=(2, 3)).requires_grad_(True)
    with torch.no_grad():
        for layer in segment.peer_layers():
            layer.experts.up_ND.normal_(0, 0.05)
    module = module_of(base, hooks, segment)
    (batch,) = PlannedSteps(rows_of(base, "law", 2), [[0, 1]], end_id=0)
    needs = {}
    handles = [
        layer.register_forward_hook(
            lambda _, __, output, number=number: needs.update(
                {number: (output[0] if isinstance(output, tuple) else output).requires_grad}
            )
        )
        for number, layer in enumerate(hooks.layers)
    ]
    with hooks.frozen():
        module.loss(batch).backward()
    for handle in handles:
        handle.remove()
    assert needs == {0: False, 1: False, 2: False, 3: True}  # experts are added behind layer 2
    assert all(parameter.grad is None for parameter in base.model.parameters())
    assert all(parameter.grad is not None for parameter in segment.parameters())


def test_bf16_products_are_those_of_autocast(base):
    ids_BT = torch.tensor([tokenise(base.tokenizer, sentences("law", 1))[0]])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain = base.model(input_ids=ids_BT).logits
        with cast_once(base.model, "bf16"):
            cast = base.model(input_ids=ids_BT).logits
    assert torch.equal(plain, cast)
    assert "forward" not in base.model.lm_head.__dict__


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_upper_third_is_scaled_once(base, hooks, tmp_path, precision):
    settings = replace(SETTINGS, text_passes=1.0, precision=precision, upper_scale=1.0)
    whole, _ = train(base, hooks, tmp_path / "a", settings=settings)
    scaled, _ = train(base, hooks, tmp_path / "b", settings=replace(settings, upper_scale=0.5))
    for number in HOST_LAYERS:
        expected = whole.layer(number).experts.up_ND * (0.5 if number == 3 else 1.0)
        assert torch.equal(scaled.layer(number).experts.up_ND, expected)

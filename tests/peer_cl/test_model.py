"""PEFT's verbs, with pool for adapter, and several threads on one model."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import SHAPE, make_base, make_ids, make_model, same_bits

from peer_cl.errors import InputError, StateError, UnknownError


def test_names_may_be_any_words_up_to_the_capacity():
    model = make_model(domains="", capacity=4)
    names = ("dots.and.more", "pool1", "segments", "ä b/c")
    for name in names:
        model.add_pool(name, SHAPE)
    assert model.active_pools == model.score(make_ids()).domains == tuple(sorted(names))
    with pytest.raises(StateError, match=r"there is a pool 'dots\.and\.more' already"):
        model.add_pool("dots.and.more", SHAPE)
    with pytest.raises(StateError, match="divided among 4 domains"):
        model.add_pool("c", SHAPE)
    for act in (model.delete_pool, model.pool, model.set_pool, lambda n: model.set_pool([n])):
        with pytest.raises(UnknownError, match="Did you mean 'segments'"):
            act("segment")
    model.set_pool(["pool1", "segments"])
    model.delete_pool("pool1")
    assert model.active_pools == ("segments",)


def test_a_pool_named_twice_is_active_once():
    """Twice the prior would break the bound."""
    model, ids = make_model(), make_ids()
    expected = model.score(ids, domains=["a"])
    model.set_pool(["a", "a", "a"])
    assert model.active_pools == ("a",)
    assert same_bits(model.score(ids).mixture_BT, expected.mixture_BT)
    assert same_bits(model.score(ids, domains=["a", "a"]).mixture_BT, expected.mixture_BT)


def test_the_status_and_what_is_to_be_trained(capsys):
    model = make_model("gpt2", "ba", budget=0.25, capacity=3)
    model.set_pool("b")
    status = model.get_model_status()
    assert status.base == "GPT2LMHeadModel"
    assert (status.host_layers, status.state_layer) == ((1, 3), 2)
    assert (status.pools, status.active_pools) == (("a", "b"), ("b",))
    assert (status.budget, status.capacity, status.is_enabled) == (0.25, 3, True)
    with pytest.raises(StateError, match="no pool wants a gradient"):
        model.trainable_parameters()
    model.pool("a").requires_grad_()
    num = sum(parameter.numel() for parameter in model.pool("a").parameters())
    assert sum(parameter.numel() for parameter in model.trainable_parameters()) == num
    model.print_trainable_parameters()
    assert f"trainable params: {num:,} ||" in capsys.readouterr().out


def test_training_mode_leaves_the_base_in_evaluation():
    model = make_model("gpt2", "a", base=make_base("gpt2"))
    assert not model.train().base.training
    assert model.pool("a").training
    assert same_bits(model.base(make_ids()).logits, make_base("gpt2")(make_ids()).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host_layers": ()}, r"must be ascending, at least one and each once, not \[\]"),
        ({"host_layers": (3, 1)}, r"must be ascending.* not \[3, 1\]"),
        ({"host_layers": (1, 7)}, r"layer 7 does not exist: the base has layers 0\.\.3"),
        ({"budget": 1.0}, "between 0 and 1, not 1.0"),
        # Of 1.5 two pools would enter, and a document could lose more than the bound.
        ({"capacity": 1.5}, "from 1 on, not 1.5"),
        ({"state_layer": 9}, "layer 9 does not exist"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        make_model(domains="", **options)


def test_forward_counts_positions_as_the_base_does_and_score_from_the_first_token():
    model, ids = make_model(), make_ids()
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    bare = model.base(ids, attention_mask=mask).logits
    assert same_bits(model(ids, mask, domains=[]).logits, bare)
    scores = model.score(ids, mask, domains=[]).log_probs_QBT[0]
    alone = model.score(ids[:1, 6:], domains=[]).log_probs_QBT[0]
    torch.testing.assert_close(scores[0, 7:], alone[0, 1:], atol=1e-4, rtol=0)


def test_several_threads_get_what_each_gets_alone():
    model, ids = make_model(), make_ids()
    options = {"max_new_tokens": 4, "do_sample": False}
    acts = [
        lambda: model.generate(ids, domains=[], **options),
        lambda: model.generate(ids, domains="a", oracle=True, **options),
        lambda: model.score(ids).log_probs_QBT,
    ]
    alone, start = [act() for act in acts], threading.Barrier(len(acts))

    def repeat(act):
        start.wait()
        return [act() for _ in range(5)]

    with ThreadPoolExecutor(len(acts)) as pool:
        for expected, found in zip(alone, pool.map(repeat, acts), strict=True):
            assert all(same_bits(one, expected) for one in found)


def test_reading_from_inside_a_branch_is_refused_and_from_inside_bare_writing_is_not():
    """A streamer runs in the same thread: the branch's hooks would act on what it reads."""
    model, ids, read = make_model(), make_ids(1), []

    class Streamer:
        def put(self, _):
            read.append(model(ids, routing="all").logits)

        def end(self):
            pass

    options = {"max_new_tokens": 3, "do_sample": False, "streamer": Streamer()}
    model.generate(ids, domains=[], **options)
    assert same_bits(read[-1], model(ids, routing="all").logits)
    with pytest.raises(StateError, match=r"not from inside \(a streamer\?\)"):
        model.generate(ids, domains="a", oracle=True, **options)
    assert same_bits(read[-1], model(ids, routing="all").logits)

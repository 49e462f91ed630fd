"""Several threads call one model, or two on one base, and each gets what it gets alone."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from bits import same_bits
from tiny import SHAPE, make_base, teach

from peer_cl import PeerModel
from peer_cl.switch import Switch

GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.mark.parametrize("held", [(1, 3), (2,)], ids=["tap1", "tap2"])
def test_writing_without_and_with_a_pool_at_once_is_as_alone(ids, make_model, held):
    model = make_model(host_layers=held)
    asked = [{"domains": []}, {"domains": "a", "force": True}]
    alone = [model.generate(ids, **one, **GREEDY) for one in asked]
    start = threading.Barrier(len(asked))

    def write(one):
        start.wait()
        return [model.generate(ids, **one, **GREEDY) for _ in range(10)]

    with ThreadPoolExecutor(len(asked)) as pool:
        for expected, found in zip(alone, pool.map(write, asked), strict=True):
            assert all(torch.equal(tokens, expected) for tokens in found)


def test_a_bare_writing_may_call_the_model_in_between(ids, make_model):
    """What hears the tokens runs in the same thread, and must not wait for itself."""
    model, scored = make_model(), []

    class Ear:
        def put(self, _):
            scored.append(model(ids, ask="all").logits)

        def end(self):
            pass

    tokens = model.generate(ids[:1], domains=[], streamer=Ear(), **GREEDY)
    assert torch.equal(tokens, make_base("llama").generate(ids[:1], **GREEDY))
    assert len(scored) > 1
    assert all(same_bits(one, scored[0]) for one in scored)


@pytest.fixture
def on_one_base(make_model):
    """Two models on one base, each with a pool of its own."""
    one = make_model(pools=("a",), host_layers=(2, 3))
    other = PeerModel(one.base, host_layers=(1, 3), budget=0.2, capacity=8)
    other.add_pool("b", SHAPE)
    teach(other, "b", seed=5)
    return one, other


def test_two_models_on_one_base_take_turns(ids, on_one_base):
    """Each had a lock of its own: a branch of one passed over layers that the other was running."""
    one, other = on_one_base
    expected = other.score(ids).log_probs_QBT
    states = torch.zeros(1, 1, one.attachment.width)
    with ThreadPoolExecutor(1) as pool:
        with one.attachment.branching([], states):
            running = pool.submit(other.score, ids)
            wait([running], timeout=0.3)
            assert not running.done()
        assert same_bits(running.result().log_probs_QBT, expected)


def test_two_models_on_one_base_from_two_threads_leave_it_as_it_was(ids, on_one_base):
    base = on_one_base[0].base
    alone = [model.score(ids).log_probs_QBT for model in on_one_base]
    start = threading.Barrier(2)

    def score(model):
        start.wait()
        return [model.score(ids).log_probs_QBT for _ in range(25)]

    with ThreadPoolExecutor(2) as pool:
        for expected, found in zip(alone, pool.map(score, on_one_base), strict=True):
            assert all(same_bits(one, expected) for one in found)
    for model in on_one_base:
        model.detach()
    assert not any("forward" in vars(module) for module in base.modules())
    assert same_bits(base(ids).logits, make_base("llama")(ids).logits)


def test_pools_that_one_thread_disables_speak_in_others(ids, make_model):
    model = make_model()
    mixed, bare = model(ids, ask="all").logits, make_base("llama")(ids).logits
    with ThreadPoolExecutor(1) as pool, model.disable_pool():
        assert same_bits(pool.submit(model, ids, ask="all").result().logits, mixed)
        assert pool.submit(lambda: model.get_model_status().is_enabled).result()
        assert pool.submit(lambda: model.active_pools).result() == ("a", "b")
        assert same_bits(model(ids, ask="all").logits, bare)
    assert same_bits(model(ids, ask="all").logits, mixed)


def test_pools_that_one_task_disables_speak_in_others():
    switch, other = Switch(), Switch()

    async def disabling(may_end):
        with switch.off():
            await may_end.wait()
            return switch.is_on, other.is_on

    async def both():
        may_end = asyncio.Event()
        task = asyncio.create_task(disabling(may_end))
        await asyncio.sleep(0)
        seen = switch.is_on
        may_end.set()
        return seen, await task

    assert asyncio.run(both()) == (True, (False, True))


def test_what_ends_in_another_thread_is_over_where_it_began():
    """A server may run each step of a generator in whichever thread is free."""
    switch = Switch()

    def steps():
        with switch.off():
            yield

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        running = steps()
        one.submit(next, running).result()
        assert not one.submit(lambda: switch.is_on).result()
        other.submit(running.close).result()
        assert one.submit(lambda: switch.is_on).result()

"""A conversation's cache goes on from the text that it has read, and from no other."""

import pytest
import torch

from peer_cl import PeerCache
from peer_cl.errors import InputError

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "domains": ["a"]}


@pytest.fixture
def turn(architecture, ids, make_model):
    """A model, a cache, and what was written in a first turn: (3, 26), of which 25 were read."""
    model = make_model(architecture, budget=0.9, capacity=2)
    cache = PeerCache(model.base.config, model.attachment.tap)
    return model, cache, model.generate(ids, cache=cache, **GREEDY)


def test_a_next_turn_may_end_where_the_last_one_did(turn):
    """The last token was written and not yet read: there is something to read."""
    model, cache, first = turn
    assert torch.equal(cache.ids_BL, first[:, :25])
    model.generate(first, cache=cache, **GREEDY)
    assert cache.ids_BL.shape == (3, 31)
    assert torch.equal(cache.ids_BL[:, :26], first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda first: first[:, :20], "prompt has 20 tokens, and the cache has read 25"),
        (lambda first: first[:, :25], "prompt has 25 tokens, and the cache has read 25"),
        (lambda first: first[:, 20:], "prompt has 6 tokens, and the cache has read 25"),
        (lambda first: first[:2].repeat(1, 2), "prompt has 2 rows and the cache 3: give as many"),
        (lambda first: first.repeat(2, 2), "prompt has 6 rows and the cache 3: give as many"),
    ],
    ids=["the same", "what was read", "only the new", "fewer rows", "more rows"],
)
def test_a_prompt_that_does_not_go_on_is_refused(turn, change, message):
    model, cache, first = turn
    with pytest.raises(InputError, match=message) as refused:
        model.generate(change(first), cache=cache, **GREEDY)
    assert "\n" not in str(refused.value)


def test_a_prompt_that_begins_otherwise_is_refused(turn):
    """It was written on from the other text's states, without a word."""
    model, cache, first = turn
    other = first.clone()
    other[1, 4] = first[1, 4] % 90 + 3
    found, known = int(other[1, 4]), int(first[1, 4])
    told = f"token 4 of row 1 is {found}, and the cache has read {known} there"
    for domains in (["a"], []):
        with pytest.raises(InputError, match=f"{told}: .*begin a new PeerCache"):
            model.generate(other, cache=cache, **{**GREEDY, "domains": domains})
    changed = first.clone()
    changed[:, -1] = 5  # nothing has read the last one, so another may stand there
    model.generate(changed, cache=cache, **GREEDY)


def test_a_cache_of_branches_that_start_elsewhere_is_refused(ids, make_model):
    model = make_model("llama")
    tap = model.attachment.tap
    cache = PeerCache(model.base.config, tap + 1)
    with pytest.raises(InputError, match=f"from layer {tap + 1} on, .* at layer {tap}:"):
        model.generate(ids, cache=cache, **GREEDY)
    assert cache.ids_BL is None


def test_a_cache_that_was_left_in_the_middle_of_a_step_is_refused(turn, ids, monkeypatch):
    model, cache, first = turn

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    longer = torch.cat([first, ids], 1)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "remember", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.generate(longer, cache=cache, **GREEDY)
    with pytest.raises(InputError, match=r"middle of a step \(25 tokens, then 46\): begin a new"):
        model.generate(longer, cache=cache, **GREEDY)


class StopError(Exception):
    """What a listener raises that wants no more."""


class Ear:
    """Hears some tokens, the prompt's first, and then stops the writing."""

    def __init__(self, num_pieces):
        self.heard, self.left = [], num_pieces

    def put(self, value):
        self.heard.append(value.reshape(1, -1))
        self.left -= 1
        if not self.left:
            raise StopError

    def end(self):
        pass


@pytest.mark.parametrize("num_pieces", [2, 6])
def test_what_was_written_before_a_stop_is_no_evidence_in_the_next_turn(
    ids, make_model, num_pieces
):
    """It was: one heard token, or five, counted for the pool that had written them."""
    model = make_model("llama", budget=0.9, capacity=2)
    cache, ear = PeerCache(model.base.config, model.attachment.tap), Ear(num_pieces)
    with pytest.raises(StopError):
        model.generate(ids[:1], cache=cache, streamer=ear, **GREEDY | {"max_new_tokens": 30})
    heard = torch.cat(ear.heard, 1)
    longer = torch.cat([heard, ids[1:2, :5]], 1)
    model.generate(longer, cache=cache, **GREEDY)
    masked = torch.ones_like(longer)
    masked[:, 20 : heard.shape[1]] = 0
    fresh = PeerCache(model.base.config, model.attachment.tap)
    model.generate(longer, cache=fresh, evidence_mask=masked, **GREEDY)
    assert torch.equal(cache.evidence_BL, fresh.evidence_BL)
    torch.testing.assert_close(cache.masses_QB, fresh.masses_QB, atol=1e-4, rtol=0)


def test_a_call_that_stops_before_it_reads_leaves_what_is_known(ids, make_model):
    """The prompt is heard first: a stop there must not forget the turn before."""
    model = make_model("llama", budget=0.9, capacity=2)
    cache = PeerCache(model.base.config, model.attachment.tap)
    first = model.generate(ids[:1], cache=cache, **GREEDY)
    longer = torch.cat([first, ids[1:2, :5]], 1)
    known = (cache.prompt_end, cache.num_written)
    with pytest.raises(StopError):
        model.generate(longer, cache=cache, streamer=Ear(1), **GREEDY)
    assert (cache.prompt_end, cache.num_written) == known == (20, 26)

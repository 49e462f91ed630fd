"""A model's state_dict names its pools, in whichever order they came."""

import pytest
import torch
from bits import same_bits
from hypothesis import given
from hypothesis import strategies as st
from tiny import SHAPE

from peer_cl.pool import pool_key


def test_weights_go_to_the_pool_of_their_name(ids, make_model):
    one, other = make_model(pools=("a", "b")), make_model(pools=("b", "a"))
    for parameter in other.pools.parameters():
        parameter.data.zero_()
    other.load_state_dict(one.state_dict())
    for name in ("a", "b"):
        assert other.pool(name).chain()[0].sha256() == one.pool(name).chain()[0].sha256()
        expected = one.score(ids, domains=name).log_probs_QBT
        assert same_bits(other.score(ids, domains=name).log_probs_QBT, expected)
    assert one.pool("a").chain()[0].sha256() != one.pool("b").chain()[0].sha256()


def test_weights_of_other_pools_are_refused(make_model):
    one, other = make_model(pools=("a", "b")), make_model(pools=("a", "c"))
    with pytest.raises(RuntimeError, match=r"Missing key.*pools\.pool_c(.|\n)*Unexpected.*pool_b"):
        other.load_state_dict(one.state_dict())


def test_a_pool_that_comes_again_has_its_key_again(make_model):
    model = make_model()
    keys = sorted(model.state_dict())
    model.delete_pool("a")
    assert not any("pool_a." in key for key in model.state_dict())
    model.add_pool("a", SHAPE)
    assert sorted(model.state_dict()) == keys


@pytest.mark.parametrize("known", [(0, 1), (0, 5), (0, 1, 2), ()])
def test_special_tokens_are_a_setting_and_no_weights(ids, make_model, known):
    """They came with loaded weights, or failed by their size: other tokens were evidence."""
    model, other = make_model(), make_model(special_ids=known)
    assert "special_ids" not in model.state_dict()
    expected = model.score(ids)
    weights = other.state_dict()
    model.load_state_dict(weights)
    old = {**weights, "special_ids": torch.tensor(known, dtype=torch.long)}
    model.load_state_dict(old)
    assert "special_ids" in old
    torch.nn.ModuleDict({"inside": model}).load_state_dict(
        {f"inside.{key}": value for key, value in old.items()}
    )
    assert model.special_ids.tolist() == [0, 1]
    assert torch.equal(model.score(ids).evidence_BT, expected.evidence_BT)
    with pytest.raises(RuntimeError, match="special_idz"):
        model.load_state_dict({**weights, "special_idz": torch.tensor([0])})


NAMES = ["a.b", "a%2Eb", "", "training", "a b", "Ä", "ä", "\ud800", "/", "..", "pool_a"]


def test_any_words_make_a_key_of_their_own(make_model):
    model = make_model(pools=(), capacity=16)
    for name in NAMES:
        model.add_pool(name, SHAPE)
    assert model.active_pools == tuple(sorted(NAMES))
    assert len(model.pools) == len(NAMES)


@given(st.lists(st.text(), unique=True, max_size=5))
def test_keys_are_as_different_as_names(names):
    keys = [pool_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert not any("." in key for key in keys)

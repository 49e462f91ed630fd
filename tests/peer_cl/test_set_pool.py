"""Which pools may be asked: what `set_pool` says, and what is left of it when pools go."""

import warnings

import pytest
from bits import same_bits
from tiny import SHAPE

from peer_cl.errors import StateError


def test_set_pool_lets_only_these_be_asked(ids, make_model):
    model = make_model("llama", pools=("a", "b", "c"))
    model.set_pool(["c", "a"])
    assert model.active_pools == ("a", "c")
    expected = make_model("llama", pools=("a", "c"))
    assert same_bits(model(ids, ask="all").logits, expected(ids, ask="all").logits)
    model.set_pool("b")
    assert model.active_pools == ("b",)
    model.set_pool([])
    assert model.active_pools == ()
    model.set_pool(None)
    assert model.active_pools == ("a", "b", "c")


def test_where_the_only_active_pool_is_deleted_the_rest_may_be_asked_and_it_is_said(
    ids, make_model
):
    """As if it had never been there: then `set_pool` could not have named it."""
    model = make_model("llama", pools=("a", "b", "c"))
    model.set_pool(["a", "b"])
    model.delete_pool("a")
    assert model.active_pools == ("b",)
    told = r"pool .b. is deleted, the last one .*: every pool \(c\) may be asked now; set_pool"
    with pytest.warns(UserWarning, match=told) as warned, model.disable_pool():
        model.delete_pool("b")
    assert warned[0].filename == __file__
    assert model.active_pools == ("c",)
    expected = make_model("llama", pools=("c",))
    assert same_bits(model(ids, ask="all").logits, expected(ids, ask="all").logits)


def test_deleting_says_nothing_where_no_choice_is_emptied(make_model):
    model = make_model("llama", pools=("a", "b", "c"))
    model.set_pool([])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.delete_pool("a")
        assert model.active_pools == ()
        model.set_pool("b")
        model.delete_pool("c")
        assert model.active_pools == ("b",)
        model.delete_pool("b")
    model.add_pool("d", SHAPE)
    assert model.active_pools == ("d",)


def test_pools_that_set_pool_left_out_are_not_asked_and_it_is_said(ids, make_model):
    model = make_model("llama")
    model.set_pool([])
    with pytest.raises(StateError, match=r"'b' is not active: set_pool left none; call set_pool"):
        model(ids, domains=["b"])

"""Copying and pickling are refused in words that say what to do."""

import copy
import io

import pytest
import torch
from bits import same_bits
from tiny import make_base

from peer_cl.errors import UnsupportedError


def saved(what):
    torch.save(what, io.BytesIO())


@pytest.mark.parametrize(
    ("part", "act"),
    [
        ("model", copy.deepcopy),
        ("model", copy.copy),
        ("model", saved),
        ("attachment", copy.deepcopy),
        ("base", copy.deepcopy),
        ("base", saved),
    ],
)
def test_a_model_is_neither_copied_nor_pickled(ids, make_model, part, act):
    model = make_model()
    what = {"model": model, "attachment": model.attachment, "base": model.base}[part]
    with pytest.raises(UnsupportedError, match=r"cannot be copied or pickled: save_pretrained.*de"):
        act(what)
    assert model(ids, ask="all").logits.isfinite().all()


def test_a_base_that_was_given_back_is_copied_again(ids, make_model):
    base = make_model().detach()
    expected = make_base("llama")(ids).logits
    assert same_bits(copy.deepcopy(base)(ids).logits, expected)
    saved(base)


def test_the_weights_of_a_model_may_be_copied(make_model):
    model = make_model()
    copied = copy.deepcopy(model.state_dict())
    saved(copied)
    model.load_state_dict(copied)

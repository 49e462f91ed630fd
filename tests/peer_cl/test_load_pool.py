"""What `load_pool` cannot load is refused for the right reason."""

import pytest
import torch
from tiny import SHAPE, make_base
from tiny_base import make_tiny_base

from peer_cl import PeerModel, load_base
from peer_cl.bases import identify
from peer_cl.errors import BaseMismatchError, InputError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base") / "base")))


@pytest.fixture
def file(base, tmp_path):
    model = PeerModel(base.model, host_layers=(1, 3), identity=base.identity)
    model.add_pool("law", SHAPE)
    path = tmp_path / "law.safetensors"
    path.write_bytes(model.pool("law").chain()[0].to_bytes(model.identity))
    model.detach()
    return path


def test_a_model_without_a_tokenizer_is_told_how_to_get_one(base, file):
    """It said to load the base that the pool was trained on, and that was the base."""
    for identity in (None, identify(base.model, None)):
        model = PeerModel(base.model, host_layers=(1, 3), identity=identity)
        with pytest.raises(
            BaseMismatchError,
            match=r"this model was made without one: .*identity=identify\(base, to",
        ) as told:
            model.load_pool("law", file)
        assert "\n" not in str(told.value)
        model.detach()
    told_both = PeerModel(
        base.model, host_layers=(1, 3), identity=identify(base.model, base.tokenizer)
    )
    told_both.load_pool("law", file)
    told_both.detach()


def test_a_pool_that_was_made_without_a_tokenizer_goes_where_there_is_none(base, tmp_path):
    model = PeerModel(base.model, host_layers=(1, 3))
    model.add_pool("law", SHAPE)
    path = tmp_path / "law.safetensors"
    path.write_bytes(model.pool("law").chain()[0].to_bytes(model.identity))
    model.detach()
    none = PeerModel(base.model, host_layers=(1, 3), identity=identify(base.model, None))
    none.load_pool("law", path)
    none.detach()
    model = PeerModel(base.model, host_layers=(1, 3), identity=base.identity)
    with pytest.raises(BaseMismatchError, match=r"made without a tokenizer, .* leave out"):
        model.load_pool("law", path)
    model.detach()


def test_another_base_is_still_told_as_one(file):
    model = PeerModel(make_base("llama"), host_layers=(1, 3))
    with pytest.raises(BaseMismatchError, match=r"whose weights hash to .*load the base that it"):
        model.load_pool("law", file)


@pytest.mark.parametrize("several", [False, True])
def test_a_file_that_is_not_there_is_the_callers_mistake(base, file, tmp_path, several):
    model = PeerModel(base.model, host_layers=(1, 3), identity=base.identity)
    gone = tmp_path / "lwa.safetensors"
    with pytest.raises(InputError, match=r"'law': .*lwa\.safetensors does not exist; give"):
        model.load_pool("law", [file, gone] if several else gone)
    with pytest.raises(InputError, match=r"'law': .* is no file; give"):
        model.load_pool("law", str(tmp_path))
    assert model.active_pools == ()
    model.load_pool("law", str(file))
    assert torch.equal(
        model.pool("law").chain()[0].layer(1).experts.up_ND,
        torch.zeros_like(model.pool("law").chain()[0].layer(1).experts.up_ND),
    )
    model.detach()

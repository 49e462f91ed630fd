"""numpy's numbers are taken for Python's, and what is no whole number is refused by its name."""

import dataclasses

import numpy as np
import pytest
from tiny import SHAPE, make_base

from peer_cl import PeerModel, PoolShape, Segment
from peer_cl.errors import InputError
from peer_cl.layer import PeerLayer
from peer_cl.mixture import share


def test_a_model_of_numpys_numbers_is_saved_and_loaded(tmp_path):
    model = PeerModel(
        make_base("llama"),
        host_layers=list(np.array([1, 3])),
        signature_layer=np.int64(2),
        budget=np.float64(0.2),
        capacity=np.int64(4),
        name_odds=np.float32(0.5),
        special_ids=np.array([0, 1]),
    )
    counts = {
        name: np.int64(value)
        for name, value in dataclasses.asdict(SHAPE).items()
        if name in ("num_experts", "num_heads", "top_k", "key_width")
    }
    model.add_pool("a", PoolShape(**counts, output_scale=np.float32(4), query_norm=np.True_))
    model.save_pretrained(tmp_path)
    again = PeerModel.from_pretrained(tmp_path, make_base("llama"))
    assert again.get_model_status() == model.get_model_status()
    assert type(again.capacity) is type(model.capacity) is int
    assert again.pool("a").chain()[0].shape == model.pool("a").chain()[0].shape == SHAPE


@pytest.mark.parametrize("layers", [[1.0, 3.0], [True, 3], ["1", "3"], np.array([1.0, 3.0])])
def test_host_layers_that_are_no_whole_numbers_are_refused(layers):
    base = make_base("llama")
    for make in (
        lambda: PeerModel(base, host_layers=layers),
        lambda: Segment(width=32, host_layers=layers, shape=SHAPE),
    ):
        with pytest.raises(InputError, match="a host layer must be a whole number, not"):
            make()
    with pytest.raises(InputError, match=r"signature_layer must be a whole number, not 2\.0"):
        PeerModel(base, host_layers=(1, 3), signature_layer=2.0)


@pytest.mark.parametrize("name", ["num_experts", "num_heads", "top_k", "key_width"])
@pytest.mark.parametrize("value", [2.5, 4.0, "4", None, True])
def test_a_shape_counts_in_whole_numbers(name, value):
    with pytest.raises(InputError, match=f"{name} must be a whole number, not {value!r}"):
        dataclasses.replace(SHAPE, **{name: value})


@pytest.mark.parametrize("value", ["4", None, [4]])
def test_a_scale_is_a_number(value):
    with pytest.raises(InputError, match="output_scale must be a number, not"):
        PoolShape(output_scale=value)
    with pytest.raises(InputError, match="name_odds must be a number, not"):
        PeerModel(make_base("llama"), host_layers=(1, 3), name_odds=value)


def test_a_layer_and_a_share_of_numpys_numbers_are_those_of_pythons():
    assert share(0.02, np.int64(16)) == share(0.02, 16)
    shape = PoolShape(num_experts=np.int32(4), num_heads=1, top_k=np.int8(2), key_width=4)
    assert PeerLayer(width=8, shape=shape).shape == PoolShape(4, 1, 2, 4)

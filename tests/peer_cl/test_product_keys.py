import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import InputError, ShapeError
from peer_cl.layer import PeerLayer, PoolShape
from peer_cl.product_keys import ProductKeys, top_k_lowest_index


def brute_force(keys: ProductKeys, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, ...]:
    halves = queries.float().unflatten(-1, (2, -1))
    scores = torch.einsum("thpq,hpsq->thps", halves, keys.sub_keys_H2SQ)
    every = (scores[:, :, 0, :, None] + scores[:, :, 1, None, :]).flatten(-2)
    return top_k_lowest_index(every, k)


@settings(max_examples=40, deadline=None)
@given(
    side=st.integers(2, 9),
    heads=st.integers(1, 3),
    seed=st.integers(0, 1000),
    coarse=st.booleans(),
    data=st.data(),
)
def test_product_key_top_k_equals_brute_force_with_ties(side, heads, seed, coarse, data):
    k = data.draw(st.integers(1, side))
    torch.manual_seed(seed)
    keys = ProductKeys(num_experts=side * side, num_heads=heads, key_width=4)
    queries = torch.randn(5, heads, 4)
    if coarse:  # small integers: most sums are exact ties
        keys.sub_keys_H2SQ.data = torch.randint(-1, 2, keys.sub_keys_H2SQ.shape).float()
        queries = torch.randint(-1, 2, queries.shape).float()
    scores, ids = keys(queries, k)
    expected_scores, expected_ids = brute_force(keys, queries, k)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(ids, expected_ids)


def test_ties_go_to_the_lowest_index():
    values, ids = top_k_lowest_index(torch.zeros(3, 50), 7)
    assert ids.tolist() == [list(range(7))] * 3
    assert values.eq(0).all()


@pytest.mark.parametrize("number", [0, 2, 1000])
def test_a_number_of_experts_that_is_no_square_is_refused(number):
    with pytest.raises(ShapeError, match=f"must be a square, not {number}"):
        ProductKeys(num_experts=number, num_heads=1, key_width=4)


def test_an_odd_key_width_and_another_query_width_are_refused():
    with pytest.raises(ShapeError, match="even and positive, not 5"):
        ProductKeys(num_experts=4, num_heads=1, key_width=5)
    keys = ProductKeys(num_experts=4, num_heads=1, key_width=4)
    with pytest.raises(ShapeError, match="width 6, the sub-keys 4"):
        keys(torch.zeros(1, 1, 6), 1)
    with pytest.raises(ShapeError, match=r"1\.\.2"):
        keys(torch.zeros(1, 1, 4), 3)


@pytest.mark.parametrize(
    ("field", "value"), [("top_k", 0), ("output_scale", -1.0), ("mode", "x"), ("activation", "y")]
)
def test_a_shape_that_cannot_be_built_is_refused(field, value):
    with pytest.raises(InputError, match=str(value)):
        PoolShape(**{field: value})


def test_a_shape_that_retrieves_more_than_there_are_sub_keys_is_refused():
    assert PoolShape(num_experts=16, top_k=4).top_k == 4
    with pytest.raises(InputError, match="top_k 5 is more than the 4 sub-keys"):
        PoolShape(num_experts=16, top_k=5)
    for scale in (math.nan, math.inf):
        with pytest.raises(InputError, match=f"output_scale must be positive, not {scale}"):
            PoolShape(output_scale=scale)


def test_equals_the_papers_form_of_peer_pytorch_with_copied_weights():
    from PEER_pytorch import PEER

    torch.manual_seed(0)
    theirs = PEER(
        dim=32,
        heads=2,
        num_experts=64,
        num_experts_per_head=4,
        dim_key=8,
        non_competing_scores=False,
        pre_rmsnorm=True,
    )
    shape = PoolShape(
        num_experts=64, num_heads=2, top_k=4, key_width=16, output_scale=1.0, query_norm=False
    )
    ours = PeerLayer(width=32, shape=shape)
    # Their query is laid out (half, head, width), ours (head, half, width); so are the keys.
    query = theirs.to_queries[0].weight.data.unflatten(0, (2, 2, 8))
    ours.query.weight.data = query.transpose(0, 1).reshape(32, 32).contiguous()
    ours.keys.sub_keys_H2SQ.data = theirs.keys.data.transpose(1, 2).contiguous()
    ours.experts.down_ND.data = theirs.weight_down_embed.weight.data
    ours.experts.up_ND.data = theirs.weight_up_embed.weight.data
    inputs = torch.randn(3, 7, 32)
    with torch.no_grad():
        expected = theirs(inputs)
        found = ours(theirs.norm(inputs).flatten(0, 1)).view_as(inputs)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_dense_and_gathered_rows_agree_with_their_gradients(monkeypatch):
    from peer_cl import experts

    torch.manual_seed(0)
    rows = experts.ExpertRows(num_experts=25, width=8)
    rows.up_ND.data.normal_()
    inputs = torch.randn(6, 8)
    ids = torch.randint(0, 25, (6, 2, 3))
    ids[:, 1, 0] = ids[:, 0, 0]  # two heads that choose the same expert
    weights = torch.rand(6, 2, 3)
    outputs, gradients = [], []
    for limit in (0, 10_000):
        monkeypatch.setattr(experts, "DENSE_LIMIT", limit)
        rows.zero_grad()
        output = rows(inputs, ids, weights)
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append(rows.down_ND.grad.clone())
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)

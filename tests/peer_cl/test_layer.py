"""Product keys, experts and layers: exact retrieval, and the paper's form of PEER."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_ids, make_model

from peer_cl import PeerLayer, PoolOptimiser, PoolShape, product_keys
from peer_cl import layer as layer_module
from peer_cl import sparse as sparse_module
from peer_cl.errors import InputError
from peer_cl.layer import Experts
from peer_cl.product_keys import ProductKeys
from peer_cl.usage import UsageWatch


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
    halves = queries.unflatten(-1, (2, -1))
    sums = torch.einsum("thpq,hpsq->thps", halves, keys.sub_keys_H2SQ)
    every = (sums[:, :, 0, :, None] + sums[:, :, 1, None, :]).flatten(-2)
    # Independent of what is tested: a whole, stable sort.
    expected_scores, expected_ids = torch.sort(every, dim=-1, descending=True, stable=True)
    for few_sums in (0, 10_000):  # most sums are left out, or none
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(product_keys, "_FEW_SUMS", few_sums)
            scores, ids = keys(queries, k)
        assert torch.equal(scores, expected_scores[..., :k])
        assert torch.equal(ids, expected_ids[..., :k])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be positive, not 0"),
        ({"output_scale": math.nan}, "output_scale must be positive, not nan"),
        ({"mode": "inside"}, "mode must be 'augment' or 'replace', not 'inside'"),
        ({"activation": "y"}, "no activation 'y'"),
        ({"num_experts": 16, "top_k": 5}, "top_k 5 is more than the 4 sub-keys"),
        ({"num_experts": 1000}, "must be a square, not 1000; nearest: 961 or 1024"),
        ({"key_width": 5}, "key_width must be even, not 5"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        PoolShape(**options)


def test_a_layer_equals_peer_pytorch_with_copied_weights():
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
    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16, output_scale=1.0)
    ours = PeerLayer(width=32, shape=shape)
    ours.query_norm = torch.nn.Identity()
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # two ways of multiplying
def test_dense_and_chosen_experts_agree_with_their_gradients(monkeypatch, dtype):
    torch.manual_seed(0)
    experts = Experts(num_experts=25, width=8).to(dtype)
    experts.up_ND.data.normal_()
    inputs, weights = torch.randn(6, 8, dtype=dtype), torch.rand(6, 2, 3, dtype=dtype)
    ids = torch.randint(0, 25, (6, 2, 3))
    ids[:, 1, 0] = ids[:, 0, 0]  # two heads that choose the same expert
    found = []
    for limit, takes_all in ((0, False), (25, False), (25, True)):
        monkeypatch.setattr(sparse_module, "DENSE_LIMIT", limit)
        monkeypatch.setattr(layer_module, "prefers_all_rows", lambda *_, takes=takes_all: takes)
        experts.zero_grad()
        given = inputs.clone().requires_grad_(), weights.clone().requires_grad_()
        output = experts(given[0], ids, given[1])
        output.square().sum().backward()
        gradients = [experts.down_ND.grad, experts.up_ND.grad, *(one.grad for one in given)]
        assert gradients[0].is_sparse == (limit == 0)
        found.append([output.detach(), *(one.to_dense() for one in gradients)])
    *chosen, dense = found
    for ours in chosen:
        torch.testing.assert_close(ours, dense, atol=1e-4, rtol=1e-4)


def _learned(optimiser_of, *, is_sparse):
    """Return the first and last loss of a layer that learns a function of its inputs."""
    torch.manual_seed(0)
    layer = PeerLayer(width=16, shape=PoolShape(num_experts=400, num_heads=2, top_k=4))
    inputs = torch.randn(64, 16)
    wanted = torch.roll(inputs, 1, 1).tanh()
    optimiser = optimiser_of(layer)
    losses = []
    for _ in range(60):
        loss = (layer(inputs) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert layer.experts.up_ND.grad.is_sparse == is_sparse
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_sparse_gradients_teach_as_much_as_adam_with_dense_ones(monkeypatch):
    def groups(layer, rate):
        return [
            {"params": layer.expert_parameters(), "lr": rate},
            {"params": layer.key_parameters(), "lr": 0.01},
        ]

    first, dense = _learned(lambda own: torch.optim.Adam(groups(own, 0.01)), is_sparse=False)
    monkeypatch.setattr(sparse_module, "DENSE_LIMIT", 0)
    _, sparse = _learned(lambda own: PoolOptimiser(groups(own, 0.03)), is_sparse=True)
    assert dense < 0.01 * first
    assert sparse < dense


def test_the_optimiser_of_large_pools_moves_chosen_rows_alone_and_others_as_adam_does():
    experts = torch.nn.Parameter(torch.ones(5, 3))
    keys, same_keys = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimiser = PoolOptimiser([experts, keys], lr=0.1)
    adam = torch.optim.Adam([same_keys], lr=0.1)
    row = torch.tensor([1.0, -2.0, 0.5])
    for chosen in ([1, 3], [3]):
        rows = row.repeat(len(chosen), 1)
        experts.grad = torch.sparse_coo_tensor([chosen], rows, experts.shape, check_invariants=True)
        keys.grad = torch.tensor([[1.0, -0.3], [0.1, len(chosen)]])
        same_keys.grad = keys.grad.clone()
        optimiser.step()
        adam.step()
    torch.testing.assert_close(keys, same_keys)
    # By hand: divided by the root of the sum of mean squares so far.
    size = row.square().mean().sqrt()
    torch.testing.assert_close(experts.data[1], 1 - 0.1 * row / size)
    torch.testing.assert_close(experts.data[3], 1 - 0.1 * row / size * (1 + 2**-0.5))
    assert torch.equal(experts.data[[0, 2, 4]], torch.ones(3, 3))


def test_a_watch_hears_which_experts_fire_and_how_strongly():
    model, watch, ids = make_model(domains="a"), UsageWatch(), make_ids(2, 5)
    model.score(ids, watch=watch)
    assert [fired.host_layer for fired in watch.fired] == [1, 3]
    first = watch.fired[0]
    assert first.ids_TC.shape == (10, 8)
    torch.testing.assert_close(first.weights_TC.sum(-1), torch.full((10,), 2.0))
    # By hand: the strength of each chosen expert is the length of what it alone adds.
    with model.hooks.bare(keep_inputs=[1]) as seen:
        model.base(ids)
    inputs, layer = seen.feed_forward_inputs[1].flatten(0, 1), first.segment.layer(1)
    one = slice(3, 4)
    alone = layer.experts(inputs[:1], first.ids_TC[:1, None, one], first.weights_TC[:1, None, one])
    expected = (alone * layer.shape.output_scale).norm()
    torch.testing.assert_close(first.strengths_TC[0, 3], expected)

"""Whitening and distances, and what a store keeps of them."""

import math

import pytest
import torch
from bits import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from peer_cl import Background, Signature
from peer_cl.errors import DamageError, InputError
from peer_cl.signature import SHRINKAGE, nearest_distances, whitening


def spread(num_tokens, width, seed):
    """States whose covariance is far from round."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(num_tokens, width, generator=generator) @ mixing + 5


def background(states):
    mean, matrix = whitening(states)
    return Background(mean, matrix, states[:3], states[3:7], torch.tensor([1, 3]))


@settings(max_examples=25, deadline=None)
@given(width=st.integers(2, 12), num_tokens=st.integers(2, 400), seed=st.integers(0, 999))
def test_whitening_makes_the_shrunk_covariance_round(width, num_tokens, seed):
    states = spread(num_tokens, width, seed)
    mean, matrix = whitening(states)
    assert mean.dtype == matrix.dtype == torch.float32
    centred = (states - states.mean(0)).double()
    covariance = centred.T @ centred / (num_tokens - 1)
    scale = covariance.trace() / width
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * scale * torch.eye(width)
    torch.testing.assert_close(mean, states.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(matrix, matrix.T, atol=1e-5, rtol=1e-5)
    assert torch.linalg.eigvalsh(matrix.double()).min() > 0
    matrix = matrix.double()
    round_DD = matrix @ shrunk @ matrix
    torch.testing.assert_close(round_DD, torch.eye(width).double(), atol=1e-3, rtol=0)


def test_whitened_background_has_no_mean_and_nearly_unit_covariance():
    states = spread(4000, 8, seed=1)
    white = background(states).whiten(states)
    assert white.mean(0).abs().max() < 1e-3
    variances = torch.linalg.eigvalsh(torch.cov(white.T))
    assert variances.max() < 1.06
    assert torch.linalg.eigvalsh(torch.cov(states.T)).max() > 10


def test_statistics_are_of_the_background_alone():
    """A state is whitened by itself: what else is in the call changes no bit."""
    states, other = spread(300, 8, seed=1), spread(50, 8, seed=2)
    statistics = background(states)
    together = statistics.whiten(other)
    changed = other.clone()
    changed[20:] *= -3
    assert same_bits(statistics.whiten(changed)[:20], together[:20])
    assert same_bits(statistics.whiten(other.double()), together)


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_too_few_states_for_statistics_are_refused(num_tokens):
    with pytest.raises(InputError, match=f"at least 2 tokens, not {num_tokens}"):
        whitening(torch.zeros(num_tokens, 4))


@pytest.mark.parametrize("states", [torch.ones(9, 4), torch.full((9, 4), math.nan)])
def test_states_that_give_no_statistics_are_refused(states):
    with pytest.raises(InputError, match="finite states that differ"):
        whitening(states)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), max_size=5),
    num_vectors=st.integers(0, 30),
    width=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_nearest_distances_equal_brute_force(sizes, num_vectors, width, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(num_vectors, width, generator=generator)
    sets = [torch.randn(size, width, generator=generator) for size in sizes]
    found = nearest_distances(vectors, sets)
    assert found.shape == (num_vectors, len(sets))
    for column, centroids in enumerate(sets):
        every = (vectors.double()[:, None] - centroids.double()).square().sum(-1)
        expected = every.min(1).values.float()
        torch.testing.assert_close(found[:, column], expected, atol=1e-4, rtol=1e-4)
        assert same_bits(found[:, [column]], nearest_distances(vectors, [centroids]))


def test_a_centroid_itself_is_at_distance_zero():
    centroids = 1e3 * torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    assert nearest_distances(centroids, [centroids]).eq(0).all()


@pytest.mark.parametrize("max_distance", [2.5, math.inf])
def test_signatures_and_backgrounds_come_back_bit_for_bit(max_distance):
    limits = {"slack": 0.7, "cutoff": 1.9, "least_fit": -0.1 - 0.2, "fit_slack": 31.0}
    signature = Signature(torch.randn(7, 5), 0.1 + 0.2, max_distance, **limits)
    again = Signature.from_bytes(signature.to_bytes())
    assert same_bits(again.centroids_CD, signature.centroids_CD)
    assert (again.threshold, again.max_distance) == (0.1 + 0.2, max_distance)
    assert {name: getattr(again, name) for name in limits} == limits
    assert again.to_bytes() == signature.to_bytes()
    statistics = background(spread(100, 5, seed=3))
    found = Background.from_bytes(statistics.to_bytes())
    assert found.to_bytes() == statistics.to_bytes()
    assert found.words is None
    for name in set(vars(statistics)) - {"words"}:
        assert same_bits(getattr(found, name), getattr(statistics, name))


@pytest.mark.parametrize("known", [[0.5, 1.5], [0.5, 1.5, 0.7, 1.9]])
def test_a_signature_of_older_stores_keeps_its_limits_and_has_no_others(known):
    limits = torch.tensor(known, dtype=torch.float64)
    old = Signature.from_bytes(save({"centroids": torch.randn(7, 5), "limits": limits}))
    found = [old.threshold, old.max_distance, old.slack, old.cutoff]
    assert found == [*known, 0.0, math.inf][:4]
    assert (old.least_fit, old.fit_slack) == (-math.inf, 0.0)


@pytest.mark.parametrize("num", [0, 1, 3, 5, 7])
def test_a_signature_of_another_number_of_limits_is_damaged(num):
    limits = torch.zeros(num, dtype=torch.float64)
    odd = save({"centroids": torch.randn(7, 5), "limits": limits})
    with pytest.raises(DamageError, match=f"holds {num} limits, not 6"):
        Signature.from_bytes(odd)


@pytest.mark.parametrize("kind", [Signature, Background])
def test_missing_unexpected_and_unreadable_tensors_are_refused(kind):
    whole = (
        Signature(torch.randn(7, 5), 1.0, 2.0)
        if kind is Signature
        else background(spread(100, 5, seed=3))
    ).to_bytes()
    tensors = load(whole)
    for name in tensors:
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        with pytest.raises(DamageError, match="hold"):
            kind.from_bytes(save(rest))
    with pytest.raises(DamageError, match="extra"):
        kind.from_bytes(save({**tensors, "extra": torch.zeros(1)}))
    for damaged in (b"", whole[:-1], b"x" * 40):
        with pytest.raises(DamageError, match="cannot be read as safetensors"):
            kind.from_bytes(damaged)


def test_states_are_whitened_in_fp32_under_autocast_too():
    states = spread(40, 8, seed=1)
    statistics = background(states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        white = statistics.whiten(states.bfloat16())
    assert white.dtype == torch.float32
    assert same_bits(white, statistics.whiten(states.bfloat16()))

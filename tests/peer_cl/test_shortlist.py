"""Which pools a text asks: causal, and each pool's own decision."""

import math

import pytest
import torch
from bits import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_evidence import CENTROIDS, only, random_evidence, random_signatures

from peer_cl import Background, Signature
from peer_cl.shortlist import (
    LEAK,
    MIN_TOKENS,
    TRIED_TOKENS,
    TokenEvidence,
    asked_at_token,
    asked_by_context,
    leaky_mean,
    needed_log_odds,
    token_evidence,
)
from peer_cl.signature import TYPICALITY


def by_hand(values, counted, leak):
    """One text and one pool: weights are powers of the leak in the number of counted tokens."""
    means = []
    for end in range(1, len(values) + 1):
        seen = [v for v, counts in zip(values[:end], counted[:end], strict=True) if counts]
        weights = [leak**age for age in range(len(seen) - 1, -1, -1)]
        total = sum(w * v for w, v in zip(weights, seen, strict=True))
        means.append(total / sum(weights) if seen else 0.0)
    return means


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), leak=st.sampled_from([0.3, LEAK, 1.0]))
def test_the_leaky_mean_equals_its_definition(seed, leak):
    evidence = random_evidence(seed, num_rows=2, num_tokens=15, num_pools=2)
    found = leaky_mean(evidence.log_odds_BTP, evidence.counted_BT, leak)
    for row in range(2):
        for pool in range(2):
            values = evidence.log_odds_BTP[row, :, pool].tolist()
            expected = by_hand(values, evidence.counted_BT[row].tolist(), leak)
            assert found[row, :, pool].tolist() == pytest.approx(expected, abs=1e-5)


def test_tokens_that_do_not_count_change_nothing_whatever_they_hold():
    evidence = random_evidence(1)
    values = evidence.log_odds_BTP.clone()
    values[~evidence.counted_BT] = math.nan
    one = leaky_mean(values, evidence.counted_BT)
    assert same_bits(one, leaky_mean(evidence.log_odds_BTP, evidence.counted_BT))
    hollow = TokenEvidence(values, values, evidence.counted_BT)
    full = TokenEvidence(evidence.log_odds_BTP, evidence.log_odds_BTP, evidence.counted_BT)
    signatures, lengths = random_signatures(1), torch.tensor([30, 20, 10, 5])
    assert torch.equal(asked_at_token(hollow, signatures), asked_at_token(full, signatures))
    assert torch.equal(
        asked_by_context(hollow, signatures, lengths), asked_by_context(full, signatures, lengths)
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), token=st.integers(0, 29))
def test_a_decision_after_a_token_knows_nothing_of_the_next(seed, token):
    evidence, signatures = random_evidence(seed), random_signatures(seed)
    other, known = random_evidence(seed + 1), torch.arange(30)[None, :, None] <= token
    changed = TokenEvidence(
        torch.where(known, evidence.log_odds_BTP, other.log_odds_BTP),
        torch.where(known, evidence.distance_BTP, other.distance_BTP),
        torch.where(known[..., 0], evidence.counted_BT, other.counted_BT),
    )
    before, after = asked_at_token(evidence, signatures), asked_at_token(changed, signatures)
    decided = (before >= 0) & (before <= token + 1)
    assert torch.equal(decided, (after >= 0) & (after <= token + 1))
    assert torch.equal(before[decided], after[decided])
    lengths = torch.full((4,), token + 1)
    assert torch.equal(
        asked_by_context(evidence, signatures, lengths),
        asked_by_context(changed, signatures, lengths),
    )


def test_a_pool_enters_before_the_token_after_the_first_that_decides():
    """And not before two tokens were counted."""
    evidence = TokenEvidence(
        torch.tensor([[[9.0], [9.0], [9.0], [9.0]]]),
        torch.zeros(1, 4, 1),
        torch.tensor([[False, True, True, True]]),
    )
    signature = Signature(CENTROIDS, 1.0, 1.0)
    assert MIN_TOKENS == 2
    assert asked_at_token(evidence, [signature]).tolist() == [[3]]
    for lengths, asked in [([1], False), ([2], False), ([3], True), ([4], True)]:
        found = asked_by_context(evidence, [signature], torch.tensor(lengths))
        assert found.tolist() == [[asked]]


def test_every_limit_must_hold():
    evidence = random_evidence(5)
    loose = Signature(CENTROIDS, -math.inf)
    assert asked_at_token(evidence, [loose] * 3).ge(0).all()
    for closed in (
        Signature(CENTROIDS, math.inf),
        Signature(CENTROIDS, -math.inf, -1),
        Signature(CENTROIDS, -math.inf, least_fit=math.inf),
    ):
        found = asked_at_token(evidence, [loose, closed, loose])
        assert found[1].eq(-1).all()
        assert found[[0, 2]].ge(0).all()
        asked = asked_by_context(evidence, [loose, closed, loose], torch.full((4,), 30))
        assert asked.any(1).tolist() == [True, False, True]


def test_a_short_context_may_lie_farther_out():
    """By the slack over the root of its tokens; a text without a context never by so much."""
    signature = Signature(CENTROIDS, 0.0, 1.0, slack=1.0)
    for num_tokens, distance, is_asked in [
        (4, 1.49, True),
        (4, 1.51, False),
        (100, 1.09, True),
        (100, 1.11, False),
    ]:
        evidence = TokenEvidence(
            torch.ones(1, num_tokens, 1),
            torch.full((1, num_tokens, 1), distance),
            torch.ones(1, num_tokens, dtype=torch.bool),
        )
        lengths = torch.tensor([num_tokens])
        assert asked_by_context(evidence, [signature], lengths).item() is is_asked
        at_once = distance <= 1 + 1 / math.sqrt(TRIED_TOKENS)
        assert (asked_at_token(evidence, [signature]).item() >= 0) is at_once


def test_a_short_context_may_fit_worse():
    """By the slack over the root of its tokens; the fit is log odds less distance and width."""
    signature = Signature(torch.zeros(1, 10), 0.0, least_fit=2.0, fit_slack=4.0)
    assert TYPICALITY == 0.35
    for num_tokens, log_odds, is_asked in [
        (4, 3.51, True),  # distance 1 over a width of 10 takes 3.5, and 2 - 4 / 2 is needed
        (4, 3.49, False),
        (100, 5.11, True),
        (100, 5.09, False),
    ]:
        evidence = TokenEvidence(
            torch.full((1, num_tokens, 1), log_odds),
            torch.ones(1, num_tokens, 1),
            torch.ones(1, num_tokens, dtype=torch.bool),
        )
        lengths = torch.tensor([num_tokens])
        assert asked_by_context(evidence, [signature], lengths).item() is is_asked
        at_once = log_odds - 3.5 >= 2 - 4 / math.sqrt(TRIED_TOKENS)
        assert (asked_at_token(evidence, [signature]).item() >= 0) is at_once


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999))
def test_a_pool_is_asked_where_the_log_odds_reach_what_it_needs(seed):
    evidence, signatures = random_evidence(seed), random_signatures(seed)
    lengths = torch.tensor([30, 17, 9, 2])
    log_odds, needed = needed_log_odds(evidence, signatures, lengths)
    assert torch.equal((log_odds >= needed).T, asked_by_context(evidence, signatures, lengths))
    assert (needed >= needed.new_tensor([one.threshold for one in signatures])).all()


def test_what_is_needed_grows_with_the_distance_and_past_the_farthest_nothing_is_enough():
    signature = Signature(torch.zeros(1, 10), 1.0, max_distance=3.0, least_fit=2.0)
    for distance, expected in [(0.0, 2.0), (1.0, 5.5), (2.0, 9.0), (4.0, math.inf)]:
        evidence = TokenEvidence(
            torch.full((1, 5, 1), 0.25),
            torch.full((1, 5, 1), distance),
            torch.ones(1, 5, dtype=torch.bool),
        )
        log_odds, needed = needed_log_odds(evidence, [signature], torch.tensor([5]))
        assert (log_odds.item(), needed.item()) == (0.25, pytest.approx(expected))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999),
    num_pools=st.integers(2, 9),
    pools=st.sets(st.integers(0, 8), min_size=1),
)
def test_a_pools_decisions_are_the_same_with_and_without_others(seed, num_pools, pools):
    evidence = random_evidence(seed, num_pools=num_pools)
    signatures = random_signatures(seed, num_pools)
    lengths = torch.tensor([30, 17, 9, 2])
    kept = sorted({pool % num_pools for pool in pools})
    fewer, fewer_signatures = only(evidence, kept), [signatures[pool] for pool in kept]
    assert torch.equal(
        asked_at_token(fewer, fewer_signatures), asked_at_token(evidence, signatures)[kept]
    )
    assert torch.equal(
        asked_by_context(fewer, fewer_signatures, lengths),
        asked_by_context(evidence, signatures, lengths)[kept],
    )


@pytest.mark.parametrize("num_tokens", [5, 33, 300])
def test_a_decision_at_the_very_threshold_does_not_depend_on_other_pools(num_tokens):
    """Sums of floats depend on their order, and the order on a tensor's layout."""
    for seed in range(10):
        evidence = random_evidence(seed, num_rows=1, num_tokens=num_tokens, num_pools=8)
        lengths = torch.tensor([num_tokens])
        for pool in range(3):
            alone = only(evidence, [pool])
            mean = highest_threshold(alone, lengths)
            for others in ([], [7], [3, 4, 5], [3, 4, 5, 6, 7]):
                there = only(evidence, [pool, *others])
                for step, asked in [(0, True), (1, False)]:
                    threshold = float(torch.tensor(mean).nextafter(torch.tensor(math.inf)))
                    signature = Signature(CENTROIDS, threshold if step else mean, math.inf)
                    signatures = [signature, *random_signatures(1, len(others))]
                    assert asked_by_context(there, signatures, lengths)[0].item() is asked


def highest_threshold(evidence, lengths):
    """Return the highest fp32 threshold at which a lone pool is still asked."""
    low, high = -10.0, 10.0
    while True:
        middle = float(torch.tensor((low + high) / 2))
        if middle in (low, high):
            return low
        asked = asked_by_context(evidence, [Signature(CENTROIDS, middle, math.inf)], lengths)
        low, high = (middle, high) if asked.item() else (low, middle)


def test_evidence_is_half_the_difference_of_squared_distances():
    generator = torch.Generator().manual_seed(2)
    states, mean = torch.randn(3, 7, 4, generator=generator), torch.randn(4, generator=generator)
    ids = torch.zeros(3, 7, dtype=torch.long)
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.5, 1.0]))
    ordinary = torch.randn(6, 4, generator=generator)
    background = Background(mean, matrix, ordinary, ordinary[:2], torch.tensor([2]))
    pools = [
        Signature(torch.randn(n, 4, generator=generator), 0.0, 1.0, cutoff=cutoff)
        for n, cutoff in [(1, math.inf), (5, math.inf), (3, 0.8)]
    ]
    counted = torch.rand(3, 7, generator=generator) < 0.5
    found = token_evidence(states, ids, counted, background=background, signatures=pools)
    assert found.counted_BT is counted
    for row in range(3):
        for token in range(7):
            white = (states[row, token] - mean) @ matrix
            far = (ordinary - white).square().sum(1).min()
            for number, pool in enumerate(pools):
                near = (pool.centroids_CD - white).square().sum(1).min().clamp(max=4 * pool.cutoff)
                odds = found.log_odds_BTP[row, token, number].item()
                expected = (far.clamp(max=4 * pool.cutoff) - near).item() / 2
                assert odds == pytest.approx(expected, abs=1e-4)
                distance = found.distance_BTP[row, token, number].item()
                assert distance == pytest.approx(near.item() / 4, abs=1e-4)


def test_evidence_of_a_pool_is_bit_equal_with_and_without_others():
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(2, 20, 32, generator=generator)
    statistics = Background(
        torch.zeros(32), torch.eye(32), states[0], states[1], torch.tensor([20])
    )
    pools = [Signature(torch.randn(n, 32, generator=generator), 0.0, 1.0) for n in (3, 64, 17)]
    counted = torch.ones(2, 20, dtype=torch.bool)
    ids = torch.zeros(2, 20, dtype=torch.long)
    together = token_evidence(states, ids, counted, background=statistics, signatures=pools)
    for number, pool in enumerate(pools):
        alone = token_evidence(states, ids, counted, background=statistics, signatures=[pool])
        for name in ("log_odds_BTP", "distance_BTP"):
            assert same_bits(getattr(alone, name)[..., 0], getattr(together, name)[..., number])


def test_the_search_that_was_passed_in_is_the_one_that_is_used(make_model):
    from signed import sign, text_of

    def nothing_is_near(vectors, sets):
        return torch.full((len(vectors), len(sets)), 1e9)

    model = make_model("llama", pools=("a",))
    sign(model, has_words=False)
    text = text_of("a", 2, 30, seed=4)
    assert model.score(text, ask="signature").entries_PBU.any()
    model.search = nothing_is_near
    assert not model.score(text, ask="signature").entries_PBU.any()

"""Which domains a text finds: causally or by its prompt, each by its own key alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import same_bits

from peer_cl import Background, RouterKey
from peer_cl.router import (
    LEAK,
    LEAST_NATS,
    LEAST_NATS_TRIED,
    MOST_OF_STATES,
    STATES_SHARE,
    TYPICALITY,
    BackgroundWords,
    DomainWords,
    TokenCounts,
    TokenEvidence,
    _mean,
    find_by_prompt,
    find_causally,
    token_evidence,
)

NOTHING = TokenCounts.of([])


def key_of(*thresholds, **limits):
    """A key of segments with these thresholds, whose states count for nothing by default."""
    words = tuple(DomainWords(NOTHING, threshold) for threshold in thresholds)
    return RouterKey(
        **{"centroids_CD": torch.zeros(1, 1), "threshold": 0.0, "words": words} | limits
    )


def evidence_of(words, num_tokens=10, log_odds=0.0, distance=0.0):
    """One text of one domain of which every token tells the same: of each segment's words."""
    return TokenEvidence(
        torch.full((1, num_tokens, 1), log_odds),
        torch.full((1, num_tokens, 1), distance),
        torch.ones(1, num_tokens, dtype=torch.bool),
        (torch.tensor([[words] * num_tokens], dtype=torch.float64),),
    )


def by_prompt(evidence, keys, lengths):
    """Return which domains (P) are found by which rows' first tokens (B)."""
    names = [str(number) for number in range(len(keys))]
    return find_by_prompt(names, evidence, keys, torch.tensor(lengths)).at_PB >= 0


def causally(evidence, keys):
    return find_causally([str(number) for number in range(len(keys))], evidence, keys).at_PB


def is_found(evidence, key):
    return bool(by_prompt(evidence, [key], [evidence.counted_BT.shape[1]]))


# --- one domain's decision ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_odds", "needs"),
    [
        (0.0, 1.0),
        (2.0, 1.0 - 2 * STATES_SHARE),
        (-2.0, 1.0 + 2 * STATES_SHARE),
        (90.0, 1.0 - MOST_OF_STATES * STATES_SHARE),
        (-90.0, 1.0 + MOST_OF_STATES * STATES_SHARE),
    ],
)
def test_words_decide_and_states_count_a_little(log_odds, needs):
    for words, found in ((needs + 0.01, True), (needs - 0.01, False)):
        assert is_found(evidence_of([words], log_odds=log_odds), key_of(1.0)) is found


def test_a_short_prompt_may_fit_worse():
    """By the slack over the root of its tokens; the fit is log odds less distance and width."""
    limits = {"centroids_CD": torch.zeros(1, 10), "least_fit": 2.0, "fit_slack": 4.0}
    less = 10 * TYPICALITY
    for num_tokens, needed in [(4, 2 - 4 / 2 + less), (100, 2 - 4 / 10 + less)]:
        for log_odds, found in ((needed + 0.02, True), (needed - 0.02, False)):
            evidence = evidence_of([2.0], num_tokens, log_odds, distance=1.0)
            assert is_found(evidence, key_of(2.0, **limits)) is found


def test_words_that_tell_little_in_all_find_no_domain():
    key = key_of(-1.0)
    for num_tokens, nats, found in [
        (2, LEAST_NATS / 2 + 0.01, True),
        (2, LEAST_NATS / 2 - 0.01, False),
        (100, LEAST_NATS / 100 + 0.001, True),
        (1, 2 * LEAST_NATS, False),
    ]:
        assert is_found(evidence_of([nats], num_tokens), key) is found
    needs = LEAST_NATS_TRIED * (1 - LEAK)
    for nats, enters in ((needs + 0.01, True), (needs - 0.01, False)):
        assert (causally(evidence_of([nats], 200), [key]).item() > 0) is enters


def test_a_domain_enters_before_the_token_after_the_first_that_decides():
    """Tokens that do not count neither add nor make older ones fade."""
    evidence = evidence_of([6.0], 6)
    counted = torch.tensor([[True, False, False, True, True, True]])
    evidence = TokenEvidence(evidence.log_odds_BTP, evidence.distance_BTP, counted, evidence.words)
    assert 6.0 < LEAST_NATS_TRIED <= 6.0 * (1 + LEAK)
    assert causally(evidence, [key_of(1.0)]).item() == 4
    assert causally(evidence_of([5.0], 6), [key_of(1.0)]).item() == 3


@pytest.mark.parametrize(
    ("words", "found"),
    [([1.1, 0.0], True), ([0.9, 1.9], False), ([0.0, 2.1], True), ([0.0, 0.0], False)],
)
def test_a_domain_that_grew_is_found_by_whichever_segment_has_the_words(words, found):
    assert is_found(evidence_of(words), key_of(1.0, 2.0)) is found


# --- causal, and independent of other domains ---------------------------------------------------


def random_evidence(seed, segments=(1, 2, 3), num_rows=4, num_tokens=30):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_rows, num_tokens, len(segments))
    words = tuple(
        torch.randn(*shape[:2], num, generator=generator).double() + 0.3 for num in segments
    )
    return TokenEvidence(
        torch.randn(shape, generator=generator),
        torch.rand(shape, generator=generator),
        torch.rand(shape[:2], generator=generator) < 0.7,
        words,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), token=st.integers(0, 29))
def test_a_decision_after_a_token_knows_nothing_of_the_next(seed, token):
    evidence, other = random_evidence(seed), random_evidence(seed + 1)
    keys = [key_of(*[0.3] * num, least_fit=-0.5, fit_slack=0.5) for num in (1, 2, 3)]
    known = torch.arange(30)[None, :, None] <= token
    changed = TokenEvidence(
        torch.where(known, evidence.log_odds_BTP, other.log_odds_BTP),
        torch.where(known, evidence.distance_BTP, other.distance_BTP),
        torch.where(known[..., 0], evidence.counted_BT, other.counted_BT),
        tuple(torch.where(known, *pair) for pair in zip(evidence.words, other.words, strict=True)),
    )
    before, after = causally(evidence, keys), causally(changed, keys)
    decided = (before >= 0) & (before <= token + 1)
    assert torch.equal(decided, (after >= 0) & (after <= token + 1))
    assert torch.equal(before[decided], after[decided])
    lengths = [token + 1] * 4
    assert torch.equal(by_prompt(evidence, keys, lengths), by_prompt(changed, keys, lengths))


def test_a_mean_has_the_same_bits_with_and_without_other_domains():
    """A sum depends on its order, which torch chooses by the layout: thresholds would, too."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 300, 8, dtype=torch.float64, generator=generator)
    counted = torch.ones(1, 300, 1, dtype=torch.bool)
    for num in (1, 3, 7):
        alone = _mean(values[..., :num].clone(), counted)
        assert same_bits(alone, _mean(values, counted)[..., :num])


def test_evidence_is_half_the_difference_of_squared_distances_and_each_domains_own():
    generator = torch.Generator().manual_seed(2)
    states, mean = torch.randn(3, 7, 4, generator=generator), torch.randn(4, generator=generator)
    ids = torch.randint(0, 9, (3, 7), generator=generator)
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.5, 1.0]))
    centroids = torch.randn(6, 4, generator=generator)
    words = BackgroundWords(TokenCounts.of([range(9)] * 9), 9, torch.tensor([8]))
    background = Background(mean, matrix, centroids, centroids[:2].half(), torch.tensor([2]), words)
    own = tuple(DomainWords(TokenCounts.of([ids]), 0.0) for ids in ([4, 5], [6]))
    keys = [
        RouterKey(torch.randn(1, 4, generator=generator), 0.0, words=own[:1]),
        RouterKey(torch.randn(5, 4, generator=generator), 0.0, cutoff=0.8, words=own),
    ]
    found = token_evidence(states, ids, torch.ones(3, 7), background=background, keys=keys)
    white = (states - mean) @ matrix
    far = (centroids - white[:, :, None]).square().sum(-1).min(-1).values
    for number, key in enumerate(keys):
        near = (key.centroids_CD - white[:, :, None]).square().sum(-1).min(-1).values
        near, base = near.clamp(max=4 * key.cutoff), far.clamp(max=4 * key.cutoff)
        torch.testing.assert_close(found.log_odds_BTP[..., number], (base - near) / 2)
        torch.testing.assert_close(found.distance_BTP[..., number], near / 4)
        for place, one in enumerate(key.words):
            expected = one.log_odds(ids, words.likelihood(ids))
            assert same_bits(found.words[number][..., place], expected)

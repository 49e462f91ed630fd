"""Names stand in a text or not, by their tokens alone, and what they add is bounded."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from peer_cl.choice import (
    MOST_NAMED_TOKENS,
    Choice,
    Named,
    choose_by_context,
    named_by_context,
    settle,
)
from peer_cl.mixture import (
    enter_at,
    log_masses,
    log_weights,
    mixture_log_probs,
    named_bound_nats,
)
from peer_cl.names import MAX_TOKENS, Names
from peer_cl.shortlist import TokenEvidence
from peer_cl.signature import Signature
from peer_cl.words import TokenCounts, Words

TOKENS = st.integers(0, 5)


def holds(ids, counted, name):
    places = range(len(ids) - len(name) + 1)
    return any(ids[n : n + len(name)] == name and all(counted[n : n + len(name)]) for n in places)


@given(
    st.lists(TOKENS, min_size=1, max_size=12),
    st.lists(st.lists(TOKENS, min_size=1, max_size=4), max_size=4),
    st.data(),
)
def test_a_name_stands_where_its_tokens_do(ids, names, data):
    size = len(ids)
    counted = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    found = Names.of(names).stand_in(torch.tensor([ids]), torch.tensor([counted]))
    assert found.tolist() == [any(holds(ids, counted, name) for name in names)]


def test_a_long_name_is_known_by_its_beginning():
    name = list(range(MAX_TOKENS + 4))
    names = Names.of([name])
    whole, beginning, half = name, name[:MAX_TOKENS], name[: MAX_TOKENS // 2]
    for ids, stands in ((whole, True), (beginning, True), (half, False)):
        ids_BT = torch.tensor([ids])
        assert names.stand_in(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool)).item() == stands


def test_a_signature_keeps_its_names_in_a_file_and_is_as_before_without():
    centroids = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    plain = Signature(centroids, 1.0, 2.0)
    named = Signature(centroids, 1.0, 2.0, Names.of([[3, 4], [5]]))
    assert len(Signature.from_bytes(plain.to_bytes()).names) == 0
    again = Signature.from_bytes(named.to_bytes()).names
    assert torch.equal(again.hashes_X, named.names.hashes_X)
    assert again.lengths == (1, 2)


def test_a_text_without_a_start_token_may_begin_with_a_name():
    signature = Signature(torch.zeros(1, 4), 0.0, 0.0, Names.of([[3, 4]]))
    ids = torch.tensor([[3, 4, 9], [9, 3, 4], [9, 9, 3]])
    predicted = torch.tensor([[False, True, True]] * 3)  # nothing predicts a row's first token
    lengths = torch.tensor([3, 3, 3])
    assert named_by_context(ids, predicted, [signature], lengths).tolist() == [[True, True, False]]
    masked = torch.tensor([[False, False, True]] * 3)
    assert named_by_context(ids, masked, [signature], lengths).tolist() == [[False, True, False]]
    short = torch.tensor([1, 2, 3])  # what follows the context names nobody
    assert named_by_context(ids, predicted, [signature], short).tolist() == [[False] * 3]


def random_text(num_pools, num_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = -5 * torch.rand(num_pools + 1, 1, num_tokens, generator=generator).double()
    return scores, torch.ones(1, num_tokens, dtype=torch.bool)


def test_a_long_context_names_nobody():
    signature = Signature(torch.zeros(1, 2), 0.0, 1.0, Names.of([[5, 6]]))
    ids = torch.full((2, MOST_NAMED_TOKENS + 1), 9)
    ids[:, 3:5] = torch.tensor([5, 6])
    lengths = torch.tensor([MOST_NAMED_TOKENS, MOST_NAMED_TOKENS + 1])
    counted = torch.ones_like(ids, dtype=torch.bool)
    assert named_by_context(ids, counted, [signature], lengths).tolist() == [[True, False]]


def test_padding_makes_no_context_long():
    signature = Signature(torch.zeros(1, 2), 0.0, 1.0, Names.of([[5, 6]]))
    ids = torch.full((1, MOST_NAMED_TOKENS + 3), 9)
    ids[0, -2:] = torch.tensor([5, 6])
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    told = (ids, mask.bool(), [signature], torch.tensor([ids.shape[1]]))
    assert named_by_context(*told).tolist() == [[False]]
    assert named_by_context(*told, mask).tolist() == [[True]]


@pytest.mark.parametrize("num_named", [1, 2, 5])
@pytest.mark.parametrize("odds", [0.1, 1.0, 7.0])
def test_no_text_loses_more_than_the_bound_that_is_told(num_named, odds):
    for seed in range(20):
        scores, counts = random_text(num_named, 30, seed)
        entries = enter_at(0.02 / 16, torch.zeros(num_named, 1, dtype=torch.long), 30)
        at = torch.randint(0, 31, (num_named, 1), generator=torch.Generator().manual_seed(seed))
        mixed = mixture_log_probs(scores, counts, entries, enter_at(odds, at, 30))
        added = float(scores[0].sum() - mixed.sum())
        assert added <= named_bound_nats(0.02, odds, num_named) + 1e-9


def test_the_bound_is_reached_by_pools_that_are_always_wrong():
    scores = torch.full((2, 1, 40), -1.0, dtype=torch.float64)
    scores[1] = -50.0
    entries = enter_at(0.02, torch.zeros(1, 1, dtype=torch.long), 40)
    counts = torch.ones(1, 40, dtype=torch.bool)
    odds = enter_at(1.0, torch.tensor([[20]]), 40)  # after a context on which the pool lost
    mixed = mixture_log_probs(scores, counts, entries, odds)
    assert float(scores[0].sum() - mixed.sum()) == pytest.approx(named_bound_nats(0.02, 1.0))


def test_a_pool_s_mass_does_not_know_whether_another_is_named():
    scores, counts = random_text(2, 12, 3)
    entries = enter_at(0.001, torch.zeros(2, 1, dtype=torch.long), 12)
    at = torch.tensor([[5], [5]])
    odds = enter_at(torch.tensor([[[1.0]], [[1.0]]]), at, 12)
    none = enter_at(torch.tensor([[[1.0]], [[0.0]]]), at, 12)
    both = log_masses(scores, counts, entries, odds)
    one = log_masses(scores, counts, entries, none)
    alone = log_masses(scores[:2], counts, entries[:1], odds[:1])
    assert torch.equal(both[:2], one[:2])
    assert torch.equal(both[1], alone[1])


def test_without_odds_nothing_changes_to_the_bit():
    scores, counts = random_text(3, 20, 1)
    entries = enter_at(0.001, torch.zeros(3, 1, dtype=torch.long), 20)
    plain = log_masses(scores, counts, entries)
    assert torch.equal(plain, log_masses(scores, counts, entries, torch.zeros(3, 1, 21)))


def test_even_odds_give_both_half():
    scores = torch.full((2, 1, 3), -2.0, dtype=torch.float64)
    entries = torch.zeros(1, 1, 4)
    counts = torch.ones(1, 3, dtype=torch.bool)
    for at in (0, 2):
        odds = enter_at(1.0, torch.tensor([[at]]), 3)
        weights = log_weights(log_masses(scores, counts, entries, odds)).exp()
        assert weights[:, 0, -1].tolist() == pytest.approx([0.5, 0.5])
        assert weights[1, 0, :at].tolist() == [0.0] * at
    assert math.isclose(named_bound_nats(1e-9, 1.0), math.log(2), rel_tol=1e-6)


def test_a_context_is_told_by_whom_it_is_asked_and_by_what_its_words_say_in_all():
    """By name alone or not; of a domain that grew, the segment counts for which words say most."""
    names, none = Names.of([[5, 6]]), TokenCounts.of([])
    unreached = (Words(none, 9.0), Words(none, 9.0))
    grown = Signature(torch.zeros(1, 4), 0.0, names=names, words=unreached)
    asked = Signature(torch.zeros(1, 4), -math.inf, names=names)
    said = torch.tensor([[[0.5, 2.0]] * 4], dtype=torch.float64)
    evidence = TokenEvidence(
        torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.ones(1, 4).bool(), (said, said[..., :0])
    )
    ids, lengths = torch.tensor([[5, 6, 9, 9]]), torch.tensor([3])
    found = choose_by_context(("a", "b"), ids, evidence, [grown, asked], lengths, 0.7)
    assert found.at_PB.tolist() == [[0], [0]]
    assert found.named.alone_PB.tolist() == [[True], [False]]
    assert found.named.odds_PB.flatten().tolist() == pytest.approx([0.7, 0.7])
    assert found.named.words_PB.tolist() == [[3 * 2.0], [0.0]]


def choice_of(odds, alone, words=0.0):
    at = torch.zeros(len(odds), 1, dtype=torch.long)
    nats = torch.full((len(odds), 1), words, dtype=torch.float64)
    named = Named(torch.tensor(odds).double()[:, None], torch.tensor(alone)[:, None], at, nats)
    return Choice(tuple("abc"[: len(odds)]), at, named)


def settled(lead, pool_logits, odds=1.0, alone=True, counts=True, words=0.0):
    """One pool and one row: three tokens of context, and what base and pool foresee then.

    The pool leads in the context's last token, which may be none that counts.
    """
    scores = torch.tensor([[[0.0, -2.0, -2.0, 0.0]], [[0.0, -2.0, -2.0 + lead, -9.0]]])
    evidence = torch.tensor([[False, True, counts, True]])
    base_BV = torch.zeros(1, 16)
    pools_RV = [(torch.tensor([0]), torch.tensor([pool_logits]))]
    choice = choice_of([odds], [alone], words)
    return settle(choice, scores, evidence, torch.tensor([3]), base_BV, pools_RV)


SURE, UNSURE = [30.0] + [0.0] * 15, [1.0] + [0.0] * 15


def test_a_name_counts_where_its_pool_has_something_to_say():
    """A sure pool reaches log(16) nats here, the other a tenth."""
    found = settled(-1.0, SURE)
    assert (found.named.odds_PB.item(), found.at_PB.item()) == (1.0, 0)
    silent = settled(-1.0, UNSURE)
    assert (silent.named.odds_PB.item(), silent.at_PB.item()) == (0.0, -1)


@pytest.mark.parametrize(
    ("logits", "words", "counts"),
    [(UNSURE, 14.0, True), (UNSURE, 12.0, False), (SURE, -5.0, True), (SURE, -6.0, False)],
)
def test_a_pool_needs_to_foresee_less_otherwise_where_the_words_are_its_domains(
    logits, words, counts
):
    """And more where they are not: a question that merely holds a name of it."""
    found = settled(-1.0, logits, words=words)
    assert found.named.odds_PB.item() == float(counts)
    assert found.named.words_PB.item() == words


def test_a_pool_that_its_signature_asks_stays_asked_when_its_name_does_not_count():
    silent = settled(-1.0, UNSURE, alone=False)
    assert (silent.named.odds_PB.item(), silent.at_PB.item()) == (0.0, 0)


def test_odds_enter_before_or_after_the_context_whichever_leaves_the_pool_more():
    for lead, at in [(-0.5, 3), (0.0, 0), (0.5, 0)]:
        assert settled(lead, SURE).named.at_PB.item() == at
        assert settled(lead, SURE, counts=False).named.at_PB.item() == 0
    odds = settled(-0.5, SURE, odds=0.5).odds(4)
    assert odds.tolist() == [[[0.0, 0.0, 0.0, 0.5, 0.0]]]


def test_nothing_is_settled_where_names_count_for_nothing():
    choice = Choice(("a",), torch.zeros(1, 1, dtype=torch.long))
    nothing = torch.zeros(1, 4)
    scores, evidence = torch.zeros(2, 1, 4), torch.ones(1, 4, dtype=torch.bool)
    assert settle(choice, scores, evidence, torch.tensor([3]), nothing, []) is choice
    assert choice.odds(4) is None

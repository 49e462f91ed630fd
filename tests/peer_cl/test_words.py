"""Words of a domain: counts, what they say of a token, and whom that lets in."""

import math

import pytest
import torch
from bits import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from tiny_evidence import CENTROIDS, only, random_evidence, random_signatures

from peer_cl import Background, Signature
from peer_cl.errors import DamageError, InputError
from peer_cl.shortlist import (
    LEAK,
    LEAST_NATS_TRIED,
    MOST_OF_STATES,
    STATES_SHARE,
    Means,
    TokenEvidence,
    asked_at_token,
    asked_by_context,
    asked_by_means,
    needed_log_odds,
    token_evidence,
)
from peer_cl.words import (
    LEAST_LOG_ODDS,
    LEAST_NATS,
    OWN_SHARE_LOST,
    PRIOR_TOKENS,
    UNSEEN_SHARE,
    WINDOW,
    OrdinaryWords,
    Piece,
    TokenCounts,
    Words,
    make_words,
)

VOCABULARY = 50
ORDINARY = OrdinaryWords(TokenCounts.of([list(range(40)) * 25]), VOCABULARY)
"""Tokens 0 to 39 are alike likely; 40 to 49 never stand in ordinary text."""

texts = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=40), max_size=6)


@settings(max_examples=60, deadline=None)
@given(texts=texts, asked=st.lists(st.integers(0, VOCABULARY), max_size=20))
def test_counts_are_how_often_each_token_stands_in_the_texts(texts, asked):
    counts = TokenCounts.of(texts)
    every = [token for text in texts for token in text]
    assert counts.at(torch.tensor(asked, dtype=torch.long)).tolist() == [
        every.count(token) for token in asked
    ]
    assert counts.total == len(every)
    counts.check("these")


def test_likelihoods_of_ordinary_text_add_up_to_one_and_none_is_zero():
    likelihood = ORDINARY.likelihood(torch.arange(VOCABULARY))
    assert likelihood.sum().item() == pytest.approx(1)
    assert likelihood[45].item() == pytest.approx(UNSEEN_SHARE / VOCABULARY)
    nothing = OrdinaryWords(TokenCounts.of([]), 4).likelihood(torch.arange(4))
    assert nothing.tolist() == [UNSEEN_SHARE / 4] * 4
    with pytest.raises(InputError, match="not 0"):
        OrdinaryWords(TokenCounts.of([]), 0)


@settings(max_examples=60, deadline=None)
@given(texts=texts)
def test_a_token_speaks_by_how_much_likelier_it_is_than_in_ordinary_text(texts):
    words, every = Words(TokenCounts.of(texts), 0.0), [t for text in texts for t in text]
    ids = torch.arange(VOCABULARY)
    found = words.log_odds(ids, ORDINARY.likelihood(ids)).tolist()
    for token in range(VOCABULARY):
        ordinary = ORDINARY.likelihood(torch.tensor(token)).item()
        own = (every.count(token) + PRIOR_TOKENS * ordinary) / (len(every) + PRIOR_TOKENS)
        expected = max(math.log(own / ordinary), LEAST_LOG_ODDS)
        assert found[token] == pytest.approx(expected)
    if not every:
        assert found == [0.0] * VOCABULARY


def apart(num=5):
    """Documents about a token each of their own, and half of each about one that all share."""
    return [Piece(str(number), [7, 40 + number] * WINDOW) for number in range(num)]


def mean_odds(counts, ids):
    tokens = torch.tensor(ids)
    return Words(counts, 0.0).log_odds(tokens, ORDINARY.likelihood(tokens)).mean().item()


def test_the_threshold_is_what_windows_reach_by_the_words_of_other_documents():
    documents = apart()
    words = make_words(ORDINARY, documents)
    others = TokenCounts.of(piece.ids for piece in documents[1:])
    assert words.threshold == pytest.approx(mean_odds(others, documents[0].ids))
    assert mean_odds(words.counts, documents[0].ids) > words.threshold + 1


def test_neither_near_duplicates_nor_other_wordings_speak_for_a_document():
    copies = [Piece(piece.group, [*piece.ids[2:], 3, 3]) for piece in apart()]
    said_again = [Piece(piece.group, piece.ids[::-1]) for piece in apart()]
    facts = [Piece("a fact", [3] * 10)]
    words = make_words(ORDINARY, [*apart(), *copies], [*said_again, *facts])
    assert words.counts.total == 3 * sum(len(piece.ids) for piece in apart()) + 10
    left = [one for one in (*apart(), *copies, *said_again, *facts) if one.group != "0"]
    lowest = make_words(ORDINARY, apart()).threshold
    expected = mean_odds(TokenCounts.of(piece.ids for piece in left), apart()[0].ids)
    assert words.threshold == pytest.approx(expected, abs=0.1)
    assert words.threshold == pytest.approx(lowest, abs=0.5)
    seen = TokenCounts.of(piece.ids for piece in (*apart(), *copies, *said_again))
    assert mean_odds(seen, apart()[0].ids) > words.threshold + 0.5


def test_a_share_of_windows_lies_below_the_threshold_and_short_ends_are_no_windows():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40, (100, WINDOW + 3), generator=generator).tolist()
    words = make_words(ORDINARY, [Piece(str(n), one) for n, one in enumerate(ids)])
    below = 0
    for number, one in enumerate(ids):
        rest = TokenCounts.of([*ids[:number], *ids[number + 1 :]])
        below += mean_odds(rest, one[:WINDOW]) < words.threshold
    assert below == round(OWN_SHARE_LOST * 100)


def test_a_single_document_is_seen_half_by_half():
    """By no text at all each token would say nothing, and any text would reach that."""
    first, second = [7, 45] * WINDOW, [7, 46] * WINDOW
    words = make_words(ORDINARY, [Piece("a", first + second)])
    means = [
        mean_odds(TokenCounts.of([other]), ids) for ids, other in ((first, second), (second, first))
    ]
    assert words.threshold == pytest.approx(min(means), abs=1e-9)
    assert words.threshold > 0.1
    assert make_words(ORDINARY, [Piece("a", [45])]).threshold <= 0.0


def test_what_is_no_word_says_nothing_and_is_not_counted():
    """Nor does it change what the words beside it say."""
    marks = torch.tensor([3, 45])
    ordinary = OrdinaryWords(ORDINARY.counts.without(marks), VOCABULARY - 2, marks)
    every = torch.arange(VOCABULARY)
    is_word = ~torch.isin(every, marks)
    likely = ordinary.likelihood(every)
    assert likely[is_word].sum().item() == pytest.approx(1)
    assert likely[marks].isnan().all()
    plain = [Piece(str(n), [46, 47, n % 40, 48] * 8) for n in range(10) if n != 3]
    marked = [Piece(one.group, [t for token in one.ids for t in (token, 45)]) for one in plain]
    words, with_marks = make_words(ordinary, plain), make_words(ordinary, marked)
    assert with_marks.counts.ids_X.tolist() == words.counts.ids_X.tolist()
    assert with_marks.counts.counts_X.tolist() == words.counts.counts_X.tolist()
    assert with_marks.threshold == pytest.approx(words.threshold / 2, abs=0.05)
    odds = with_marks.log_odds(every, likely)
    assert odds[marks].tolist() == [0.0, 0.0]
    assert (odds[is_word] != 0).all()
    untold = Words(TokenCounts.of([[46, 45, 45]]).without(marks), 0.0)
    assert untold.counts.total == 1


def test_no_text_asks_for_nothing_and_facts_stand_in_for_texts():
    assert make_words(ORDINARY, []).threshold == 0.0
    facts = [Piece(str(n), [45, 46, n]) for n in range(20)]
    assert make_words(ORDINARY, [], facts).threshold > 1


def test_after_little_ordinary_text_a_word_that_it_does_not_hold_says_less():
    ids = torch.tensor([45])
    few, many = (OrdinaryWords(TokenCounts.of([list(range(40)) * n]), 50) for n in (1, 100))
    assert (few.unseen_share, many.unseen_share) == (1.0, UNSEEN_SHARE)
    words = Words(TokenCounts.of([[45] * 10]), 0.0)
    odds = [float(words.log_odds(ids, one.likelihood(ids))) for one in (few, many)]
    assert odds[0] < odds[1] - 1
    half = OrdinaryWords(TokenCounts.of([[1, 2, 3, 3, 3, 3]]), 50)
    assert half.unseen_share == pytest.approx(1 / 3)
    assert half.likelihood(torch.arange(50)).sum().item() == pytest.approx(1, abs=0.03)


def test_a_part_of_a_batch_is_read_without_a_warning(recwarn):
    ids = torch.arange(12).view(3, 4)[:, :2]
    assert not ids.is_contiguous()
    ORDINARY.likelihood(ids)
    assert not recwarn.list


def evidence_of(words, num_tokens=10, log_odds=0.0, distance=0.0):
    """One text of one pool of which every token says the same: of each segment's words."""
    return TokenEvidence(
        torch.full((1, num_tokens, 1), log_odds),
        torch.full((1, num_tokens, 1), distance),
        torch.ones(1, num_tokens, dtype=torch.bool),
        (torch.tensor([[words] * num_tokens], dtype=torch.float64),),
    )


def signed(*thresholds, **limits):
    none = TokenCounts.of([])
    words = tuple(Words(none, threshold) for threshold in thresholds)
    return Signature(CENTROIDS, words=words, **{"threshold": 0.0, **limits})


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
    signature, lengths = signed(1.0), torch.tensor([10])
    for words, is_asked in ((needs + 0.01, True), (needs - 0.01, False)):
        evidence = evidence_of([words], log_odds=log_odds)
        assert asked_by_context(evidence, [signature], lengths).item() is is_asked
        found, needed = needed_log_odds(evidence, [signature], lengths)
        assert (found.item(), needed.item()) == (pytest.approx(words), pytest.approx(needs))


def test_states_that_are_too_far_count_as_the_least_and_decide_nothing():
    signature = signed(1.0, max_distance=1.0)
    far = evidence_of([1.0 + MOST_OF_STATES * STATES_SHARE + 0.01], log_odds=9.0, distance=2.0)
    assert asked_by_context(far, [signature], torch.tensor([10])).item()


def test_words_that_say_little_in_all_ask_no_pool():
    """Whatever a token says in the mean; and as many in a text without a context."""
    signature = signed(-1.0)
    for num_tokens, nats, is_asked in [
        (2, LEAST_NATS / 2 + 0.01, True),
        (2, LEAST_NATS / 2 - 0.01, False),
        (100, LEAST_NATS / 100 + 0.001, True),
        (100, LEAST_NATS / 100 - 0.001, False),
        (1, 2 * LEAST_NATS, False),
    ]:
        evidence = evidence_of([nats], num_tokens)
        lengths = torch.tensor([num_tokens])
        assert asked_by_context(evidence, [signature], lengths).item() is is_asked
    needs = LEAST_NATS_TRIED * (1 - LEAK)
    for nats, enters in ((needs + 0.01, True), (needs - 0.01, False)):
        at = asked_at_token(evidence_of([nats], 200), [signature]).item()
        assert (at > 0) is enters


def test_a_text_without_a_context_is_asked_after_the_token_that_says_enough():
    """Tokens that do not count neither add nor make older ones fade."""
    evidence = evidence_of([6.0], 6)
    counted = torch.tensor([[True, False, False, True, True, True]])
    evidence = TokenEvidence(evidence.log_odds_BTP, evidence.distance_BTP, counted, evidence.words)
    assert 6.0 < LEAST_NATS_TRIED <= 6.0 * (1 + LEAK)
    assert asked_at_token(evidence, [signed(1.0)]).item() == 4
    assert asked_at_token(evidence_of([5.0], 6), [signed(1.0)]).item() == 3


def test_a_domain_that_grew_is_asked_by_whichever_segment_has_the_words():
    grown, lengths = signed(1.0, 2.0), torch.tensor([10])
    for words, is_asked in [
        ([1.1, 0.0], True),
        ([0.9, 1.9], False),
        ([0.0, 2.1], True),
        ([1.1, 1.9], True),
        ([0.0, 0.0], False),
    ]:
        evidence = evidence_of(words)
        assert asked_by_context(evidence, [grown], lengths).item() is is_asked
    found, needed = needed_log_odds(evidence_of([0.0, 1.9]), [grown], lengths)
    assert (found.item(), needed.item()) == (pytest.approx(1.9), pytest.approx(2.0))


def with_words(evidence, seed, segments):
    """The same evidence with words of so many segments of each pool."""
    generator = torch.Generator().manual_seed(seed)
    shape = evidence.counted_BT.shape
    words = [
        torch.randn(*shape, num, generator=generator, dtype=torch.float64) + 0.3 for num in segments
    ]
    return TokenEvidence(
        evidence.log_odds_BTP, evidence.distance_BTP, evidence.counted_BT, tuple(words)
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), token=st.integers(0, 29), data=st.data())
def test_decisions_by_words_are_causal_and_each_pools_own(seed, token, data):
    segments = data.draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    evidence = with_words(random_evidence(seed), seed, segments)
    plain = random_signatures(seed)
    signatures = [
        Signature(CENTROIDS, one.threshold, words=signed(*([0.2] * num)).words)
        for one, num in zip(plain, segments, strict=True)
    ]
    other = with_words(random_evidence(seed + 1), seed + 1, segments)
    known = torch.arange(30)[None, :, None] <= token
    changed = TokenEvidence(
        torch.where(known, evidence.log_odds_BTP, other.log_odds_BTP),
        torch.where(known, evidence.distance_BTP, other.distance_BTP),
        torch.where(known[..., 0], evidence.counted_BT, other.counted_BT),
        tuple(
            torch.where(known, one, two)
            for one, two in zip(evidence.words, other.words, strict=True)
        ),
    )
    before, after = asked_at_token(evidence, signatures), asked_at_token(changed, signatures)
    decided = (before >= 0) & (before <= token + 1)
    assert torch.equal(decided, (after >= 0) & (after <= token + 1))
    assert torch.equal(before[decided], after[decided])
    lengths = torch.tensor([30, 17, 9, 2])
    together = asked_by_context(evidence, signatures, lengths)
    for pool in range(3):
        few = only(evidence, [pool])
        alone = TokenEvidence(
            few.log_odds_BTP, few.distance_BTP, few.counted_BT, (evidence.words[pool].clone(),)
        )
        assert torch.equal(asked_at_token(alone, [signatures[pool]])[0], before[pool])
        assert torch.equal(asked_by_context(alone, [signatures[pool]], lengths)[0], together[pool])


def test_means_that_were_kept_decide_as_the_context_does():
    evidence = with_words(random_evidence(4), 4, [2])
    evidence = TokenEvidence(
        evidence.log_odds_BTP[..., :1],
        evidence.distance_BTP[..., :1],
        torch.ones_like(evidence.counted_BT),
        evidence.words,
    )
    lengths = torch.full((4,), 30)
    means = Means(
        evidence.log_odds_BTP.double().mean(1),
        evidence.distance_BTP.double().mean(1),
        lengths[:, None],
        (evidence.words[0].mean(1),),
    )
    for threshold in (-1.0, 0.2, 0.4, 0.6):
        signature = signed(threshold, threshold + 0.1)
        found = asked_by_means(means, [signature])
        assert torch.equal(found.T, asked_by_context(evidence, [signature], lengths))


def backed(words):
    states = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    zero, eye = torch.zeros(4), torch.eye(4)
    return Background(zero, eye, states[:3], states[3:7], torch.tensor([4]), words)


def test_evidence_holds_what_each_segments_words_say_of_each_token():
    states = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[1, 45, 3, 45, 9], [2, 2, 45, 0, 0]])
    counted = torch.ones(2, 5, dtype=torch.bool)
    counts = [TokenCounts.of([[45] * 9]), TokenCounts.of([[3, 9]])]
    some = Signature(torch.zeros(1, 4), 0.0, words=tuple(Words(one, 0.0) for one in counts))
    none = Signature(torch.zeros(1, 4), 0.0)
    found = token_evidence(
        states, ids, counted, background=backed(ORDINARY), signatures=[none, some]
    )
    assert [one.shape[-1] for one in found.words] == [0, 2]
    for number, words in enumerate(some.words):
        expected = words.log_odds(ids, ORDINARY.likelihood(ids))
        assert same_bits(found.words[1][..., number], expected)
    for background, signature in ((backed(None), some), (backed(ORDINARY), none)):
        plain = token_evidence(states, ids, counted, background=background, signatures=[signature])
        assert plain.words == ()


def test_words_come_back_bit_for_bit_and_damaged_ones_are_refused():
    words = (Words(TokenCounts.of([[5, 5, 9]]), 0.1 + 0.2), Words(TokenCounts.of([]), -1.0))
    signature = Signature(torch.zeros(2, 4), 0.5, words=words)
    whole = signature.to_bytes()
    again = Signature.from_bytes(whole)
    assert again.to_bytes() == whole
    assert [one.threshold for one in again.words] == [0.1 + 0.2, -1.0]
    assert again.words[0].counts.counts_X.tolist() == [2, 1]
    background = backed(ORDINARY)
    kept = Background.from_bytes(background.to_bytes())
    assert kept.to_bytes() == background.to_bytes()
    assert kept.words is not None
    assert kept.words.vocabulary == VOCABULARY
    assert kept.words.marks_M.tolist() == []
    marked = backed(OrdinaryWords(ORDINARY.counts, VOCABULARY - 2, torch.tensor([3, 45])))
    again = Background.from_bytes(marked.to_bytes())
    assert again.words is not None
    assert again.words.marks_M.tolist() == [3, 45]
    assert again.to_bytes() == marked.to_bytes()
    known = load(marked.to_bytes())
    for harm in (torch.tensor([45, 3]), torch.tensor([3.0, 45.0]), torch.tensor(3)):
        with pytest.raises(DamageError, match="ids of marks must"):
            Background.from_bytes(save({**known, "mark_ids": harm}))
    tensors = load(whole)
    for name, harm, says in [
        ("word_ids", torch.tensor([9, 5]), "must ascend"),
        ("word_ids", torch.tensor([5, 5]), "must ascend"),
        ("word_ids", torch.tensor(5), "not rows of numbers"),
        ("word_counts", torch.tensor([2, 0]), "above 0"),
        ("word_counts", torch.tensor([2.0, 1.0]), "whole numbers"),
        ("word_lengths", torch.tensor([1, 0]), r"word_lengths \(2,\)"),
        ("word_lengths", torch.tensor([3, -1]), "do not fit together"),
        ("word_lengths", torch.tensor([2.0, 0.0]), "do not fit together"),
        ("word_thresholds", torch.zeros(3, dtype=torch.float64), r"word_thresholds \(3,\)"),
        ("word_thresholds", torch.tensor([0.0, math.nan]).double(), "threshold is nan"),
    ]:
        with pytest.raises(DamageError, match=says):
            Signature.from_bytes(save({**tensors, name: harm}))
    for name in [name for name in tensors if name.startswith("word")]:
        with pytest.raises(DamageError, match="holds tensors"):
            Signature.from_bytes(save({key: tensors[key] for key in tensors if key != name}))
    held = load(background.to_bytes())
    with pytest.raises(DamageError, match="must ascend"):
        Background.from_bytes(save({**held, "word_ids": held["word_ids"].flip(0)}))
    for vocabulary in (torch.tensor(0), torch.tensor(2.5), torch.tensor([9, 9])):
        with pytest.raises(DamageError, match="a vocabulary of"):
            Background.from_bytes(save({**held, "vocabulary": vocabulary}))

"""Whitening, distances and words, and what a store keeps of them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from tiny_models import make_space, same_bits

from peer_cl import Background, RouterKey
from peer_cl.errors import DamageError
from peer_cl.router import (
    SHRINKAGE,
    WINDOW,
    BackgroundWords,
    DomainWords,
    Piece,
    TokenCounts,
    make_words,
    nearest_distances,
    whitening,
)

VOCABULARY = 50
NO_MARKS = torch.empty(0, dtype=torch.long)
WORDS = BackgroundWords(TokenCounts.of([list(range(40)) * 25]), VOCABULARY, NO_MARKS)
"""Tokens 0 to 39 are equally likely; 40 to 49 never stand in background text."""


# --- states -------------------------------------------------------------------------------------


def spread(num_tokens, width, seed):
    """States whose covariance is far from round."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(num_tokens, width, generator=generator) @ mixing + 5


def make_background(states, words=WORDS, **rest):
    mean, matrix = whitening(states)
    return Background(
        mean, matrix, states[:3], states[3:7].half(), torch.tensor([1, 3]), words, **rest
    )


@settings(max_examples=25, deadline=None)
@given(width=st.integers(2, 12), num_tokens=st.integers(2, 400), seed=st.integers(0, 999))
def test_whitening_makes_the_shrunk_covariance_round(width, num_tokens, seed):
    states = spread(num_tokens, width, seed)
    mean, matrix = whitening(states)
    centred = (states - states.mean(0)).double()
    covariance = centred.T @ centred / (num_tokens - 1)
    scale = covariance.trace() / width
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * scale * torch.eye(width)
    torch.testing.assert_close(mean, states.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(matrix, matrix.T, atol=1e-5, rtol=1e-5)
    matrix = matrix.double()
    torch.testing.assert_close(
        matrix @ shrunk @ matrix, torch.eye(width).double(), atol=1e-3, rtol=0
    )


def test_states_are_whitened_in_fp32_under_autocast_and_each_alone():
    states = spread(40, 8, seed=1)
    background = make_background(states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        white = background.whiten(states.bfloat16())
    assert white.dtype == torch.float32
    assert same_bits(white, background.whiten(states.bfloat16()))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
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
        torch.testing.assert_close(found[:, column], every.min(1).values.float())
        assert same_bits(found[:, [column]], nearest_distances(vectors, [centroids]))
        assert nearest_distances(centroids, [centroids]).eq(0).all()


# --- words --------------------------------------------------------------------------------------


def apart(num=5):
    """Documents about a token each of their own, and half of each about one that all share."""
    return [Piece(str(number), [7, 40 + number] * WINDOW) for number in range(num)]


def mean_odds(counts, ids):
    tokens = torch.tensor(ids)
    return DomainWords(counts, 0.0).log_odds(tokens, WORDS.likelihood(tokens)).mean().item()


def test_near_duplicates_do_not_speak_for_a_document():
    copies = [Piece(piece.group, [*piece.ids[2:], 3, 3]) for piece in apart()]
    words = make_words(WORDS, [*apart(), *copies])
    assert words.counts.total == 2 * sum(len(piece.ids) for piece in apart())
    left = [one for one in (*apart(), *copies) if one.group != "0"]
    expected = mean_odds(TokenCounts.of(piece.ids for piece in left), apart()[0].ids)
    assert words.threshold == pytest.approx(expected, abs=0.1)


def test_a_single_document_is_seen_half_by_half():
    first, second = [7, 45] * WINDOW, [7, 46] * WINDOW
    words = make_words(WORDS, [Piece("a", first + second)])
    means = [
        mean_odds(TokenCounts.of([other]), ids) for ids, other in ((first, second), (second, first))
    ]
    assert words.threshold == pytest.approx(min(means), abs=1e-9)
    assert make_words(WORDS, []).threshold == 0.0


def test_marks_tell_nothing_and_are_not_counted():
    marks = torch.tensor([3, 45])
    words = BackgroundWords(WORDS.counts.without(marks), VOCABULARY - 2, marks)
    every = torch.arange(VOCABULARY)
    is_word = ~torch.isin(every, marks)
    assert words.likelihood(every)[is_word].sum().item() == pytest.approx(1)
    plain = [Piece(str(n), [46, 47, n % 40, 48] * 8) for n in range(10) if n != 3]
    marked = [Piece(one.group, [t for token in one.ids for t in (token, 45)]) for one in plain]
    one, other = make_words(words, plain), make_words(words, marked)
    assert same_bits(one.counts.ids_X, other.counts.ids_X)
    assert same_bits(one.counts.counts_X, other.counts.counts_X)
    odds = other.log_odds(every, words.likelihood(every))
    assert odds[marks].tolist() == [0.0, 0.0]
    assert (odds[is_word] != 0).all()


# --- files --------------------------------------------------------------------------------------


def test_keys_and_backgrounds_come_back_bit_for_bit_or_are_refused():
    words = (
        DomainWords(TokenCounts.of([[5, 5, 9]]), 0.1 + 0.2),
        DomainWords(TokenCounts.of([]), -1.0),
    )
    key = RouterKey(torch.randn(7, 5), 0.1 + 0.2, -0.3, 31.0, 1.9, words)
    states, space = spread(100, 5, seed=3), make_space(width=5)
    background = make_background(states, beginnings=((0, 5, 7), (0, 9)), relations=space)
    for one in (key, RouterKey(torch.randn(7, 5), 1.0, words=words[:1]), background):
        data = one.to_bytes()
        assert type(one).from_bytes(data).to_bytes() == data
        for damaged in (b"", data[:-1], save({"centroids": torch.zeros(1)})):
            with pytest.raises(DamageError, match="cannot be read"):
                type(one).from_bytes(damaged)
    again = RouterKey.from_bytes(key.to_bytes())
    assert (again.threshold, again.least_fit, again.cutoff) == (0.1 + 0.2, -0.3, 1.9)
    assert [segment.threshold for segment in again.words] == [0.1 + 0.2, -1.0]
    starts = {"facts": (torch.randn(2, 3, 5).half(), torch.randn(2, 3, 5).half())}
    begun = Background.from_bytes(replace(background, starts=starts).to_bytes()).starts
    assert begun.keys() == {"facts"}
    assert all(map(torch.equal, begun["facts"], starts["facts"]))
    found = Background.from_bytes(background.to_bytes())
    assert not found.starts
    assert found.beginnings == ((0, 5, 7), (0, 9))
    assert (found.words.vocabulary, found.held_XD.dtype) == (VOCABULARY, torch.float16)
    assert found.relations.layers == space.layers
    assert found.relations.threshold == space.threshold
    states = torch.randn(3, 10), torch.randn(3, 10)
    assert same_bits(found.relations.points(*states), space.points(*states))
    assert Background.from_bytes(make_background(spread(9, 5, seed=3)).to_bytes()).relations is None

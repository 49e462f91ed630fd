"""Background statistics and router keys: which texts their limits let in and keep out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_base import make_tiny_base, sentences

from peer_cl.bases import load_base
from peer_cl.hooks import Hooks
from peer_cl.router import TYPICALITY, BackgroundWords, DomainWords, TokenCounts, white_evidence
from pipelines.batches import Row, tokenise
from pipelines.keys import (
    CUTOFF,
    FIT,
    FIT_SLACK,
    MAX_HELD_TOKENS,
    beginnings_of,
    evenly,
    grow_router_key,
    make_background,
    make_router_key,
    read_texts,
    segment_words,
)

WIDTH = 16
WORDS = DomainWords(TokenCounts.of([[5, 6]]), 0.5)


class NoTokenizer:
    all_special_ids = (0,)
    eos_token_id = 0

    def __len__(self):
        return 8

    def __call__(self, texts, **_):
        return type("Encoded", (), {"input_ids": [[1, 2]] * len(texts)})()

    def batch_decode(self, rows):
        return ["a", "b", "c", ".", "1", "é", "\N{REPLACEMENT CHARACTER}", "-"]

    def convert_tokens_to_ids(self, token):
        return 0


@pytest.fixture(scope="module")
def background():
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(30, WIDTH, generator=generator) for _ in range(80)]
    return make_background(
        NoTokenizer(), texts[:40], texts[40:], [[0, *range(60)]] * 3, ["a b", "c"]
    )


def texts_around(centre, num, seed, length=30):
    generator = torch.Generator().manual_seed(seed)
    return [centre + torch.randn(length, WIDTH, generator=generator) for _ in range(num)]


def mean_fit(background, key, texts):
    """Return the mean fit of texts, by hand: nats a token."""
    fits = []
    for states_TD in texts:
        white_TD = background.whiten(states_TD)
        background_T, own_T = (
            torch.cdist(white_TD, centroids_CD).square().amin(1).clamp(max=CUTOFF * WIDTH)
            for centroids_CD in (background.centroids_CD, key.centroids_CD)
        )
        fits.append(float((0.5 * background_T - (0.5 + TYPICALITY) * own_T).mean()))
    return sum(fits) / len(fits)


def test_background_states_are_white_and_thinned(background):
    held = background.held_XD.float().split(background.held_lengths.tolist())
    assert len(held) == 40
    assert {len(one) for one in held} == {MAX_HELD_TOKENS}
    spread = torch.cat(held).std(0)
    assert spread.mean() == pytest.approx(1.0, abs=0.1)
    assert background.held_XD.dtype == torch.float16


def test_tokens_without_a_letter_are_no_words(background):
    assert background.words.marks_M.tolist() == [3, 4, 7]
    assert background.words.vocabulary == 5


def test_a_background_text_begins_with_its_first_tokens(background):
    assert background.beginnings[0] == (0, *range(48))
    assert beginnings_of([[0, 5]]) == ((0, 5),)


@given(st.integers(1, 200), st.integers(2, 40))
def test_states_are_thinned_evenly(num, wanted):
    kept = evenly(torch.arange(num)[:, None], wanted).flatten()
    assert len(kept) == min(num, wanted)
    assert kept[0] == 0
    assert kept[-1] == num - 1
    assert (kept.diff() > 0).all()
    if num > wanted:
        assert kept.diff().max() - kept.diff().min() <= 1


def test_the_limits_are_what_the_docstring_says(background):
    learned, own = texts_around(5.0, 20, seed=1), texts_around(5.0, 6, seed=2)
    key = make_router_key(background, learned, own, WORDS, seed=0)
    back_DD = torch.linalg.inv(background.whitening_DD)
    held = [
        white_TD @ back_DD + background.mean_D
        for white_TD in background.held_XD.float().split(background.held_lengths.tolist())
    ]
    low = mean_fit(background, key, held)
    starts = [one[: (len(one) + 1) // 2] for one in own]
    high = min(mean_fit(background, key, own), mean_fit(background, key, starts))
    assert key.least_fit == pytest.approx(low + FIT * (high - low), rel=1e-3)
    assert key.fit_slack == pytest.approx(FIT_SLACK * (high - low), rel=1e-3)
    assert key.words == (WORDS,)


def test_a_threshold_is_not_below_what_background_text_reaches(background):
    key = make_router_key(background, texts_around(0.3, 20, seed=1), [], WORDS, seed=0)
    held = background.held_XD.float().split(background.held_lengths.tolist())
    means = [float(white_evidence(one, background, [key])[0].mean()) for one in held]
    assert key.threshold >= 0.0
    assert sum(mean > key.threshold for mean in means) <= 1


def test_a_grown_key_has_both_segments_texts_and_the_wider_limits(background):
    keys = [
        make_router_key(background, texts_around(centre, 10, seed=1), [], WORDS, seed=0)
        for centre in (2.0, 6.0)
    ]
    grown = grow_router_key(*keys)
    assert torch.equal(grown.centroids_CD, torch.cat([key.centroids_CD for key in keys]))
    assert grown.threshold == min(key.threshold for key in keys)
    assert grown.least_fit == min(key.least_fit for key in keys)
    assert grown.fit_slack == max(key.fit_slack for key in keys)
    assert grown.words == (WORDS, WORDS)


def test_words_are_those_of_the_rows_without_special_tokens(background):
    marks = torch.empty(0, dtype=torch.long)
    plain = BackgroundWords(TokenCounts.of([[1, 2, 3]]), 9, marks)
    rows = [Row("a", (0, 5, 6)), Row("b", (0, 5, 7))]
    words = segment_words(replace(background, words=plain), rows, {"a": "a", "b": "b"}, {0})
    assert words.counts.ids_X.tolist() == [5, 6, 7]
    assert words.counts.counts_X.tolist() == [2, 1, 1]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


def test_texts_read_together_give_the_states_and_losses_of_each_alone(base):
    hooks = Hooks(base.model)
    texts = tokenise(base.tokenizer, sentences("law", 3) + sentences("law", 2, num_words=5))
    texts = [[*ids, 0] for ids in texts]
    shared = {"end_id": 0, "precision": "fp32", "what": "reading"}
    together = read_texts(hooks, texts, **shared)
    for number, ids in enumerate(texts):
        alone = read_texts(hooks, [ids], **shared)
        assert len(alone.states[0]) == len(ids) - 1
        assert torch.allclose(together.states[number], alone.states[0], atol=1e-5)
        assert together.nats[number] == pytest.approx(alone.nats[0], rel=1e-5)
        with torch.no_grad():
            logits = base.model(input_ids=torch.tensor([ids[:-1]])).logits[0]
        nats = torch.nn.functional.cross_entropy(
            logits[:-1], torch.tensor(ids[1:-1]), reduction="sum"
        )
        assert alone.nats[0] == pytest.approx(nats.item(), rel=1e-5)
    states = read_texts(hooks, texts, only_states=True, **shared)
    assert all(map(torch.equal, states.states, together.states))
    assert states.nats == [0.0] * len(texts)

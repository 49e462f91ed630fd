"""Spans: an answer is words of a sentence, weighed by readers and by the sentence's nearness."""

from contextlib import nullcontext

import pytest
import torch
from tiny_base import make_tiny_base

from peer_cl.bases import load_base
from pipelines.batches import tokenise
from pipelines.spans import (
    BEGINNING_TOKENS,
    BEGINNINGS,
    MAX_TOKENS,
    NEAR_NATS,
    Line,
    Reader,
    weigh_spans,
)

QUESTION = "Which court hears an appeal?"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


AGAINST = "A text that is longer."


@pytest.fixture(scope="module")
def weigh(base):
    def weigh(*sentences, question=QUESTION, near=0.5, readers=1):
        (spans,) = weigh_texts([[(one, near) for one in sentences]], question, readers)
        return spans

    def weigh_texts(texts, question=QUESTION, readers=1):
        prompts = {f"Question: {question}": 1.0, f"{AGAINST} Question: {question}": -0.5}
        own = [
            Reader(
                [Line(n, tokenise(base.tokenizer, [one])[0]) for n in range(len(texts))],
                lambda *_: nullcontext(),
                weight,
            )
            for one, weight in [*prompts.items()][:readers]
        ]
        return weigh_spans(base.model, base.tokenizer, question, texts, own)

    weigh.texts = weigh_texts
    return weigh


def nats(base, prompt, answer):
    """Return the log probability of an answer and its line's end, without a cache."""
    ids = tokenise(base.tokenizer, [prompt])[0]
    own = tokenise(base.tokenizer, [f" {answer}"])[0][1:]
    told = [*own, tokenise(base.tokenizer, ["\n"])[0][1]]
    with torch.no_grad():
        logits_TV = base.model(torch.tensor([[*ids, *told[:-1]]])).logits[0]
    log_probs_TV = logits_TV[len(ids) - 1 :].log_softmax(-1)
    return float(log_probs_TV.gather(1, torch.tensor(told)[:, None]).sum()), len(own)


def test_a_span_weighs_what_its_readers_say_together(base, weigh):
    words = ["the", "judge", "of", "a", "small", "town"]
    whole = [" ".join(words[i:j]) for i in range(6) for j in range(i + 1, 7)]
    ids = tokenise(base.tokenizer, [f" {one}" for one in whole])
    spans = weigh(" ".join(words), readers=2, near=0.5)
    assert set(spans) == {
        one for one, own in zip(whole, ids, strict=True) if len(own) - 1 <= MAX_TOKENS
    }
    lengths = set()
    for text, score in spans.items():
        alone, length = nats(base, f"Question: {QUESTION}", text)
        against, _ = nats(base, f"{AGAINST} Question: {QUESTION}", text)
        expected = (alone - 0.5 * against) / length + NEAR_NATS * 0.5
        assert score == pytest.approx(expected, abs=1e-3)
        lengths.add(length)
    assert max(lengths) > BEGINNING_TOKENS + 1  # some are read token by token, others at once


def test_spans_lie_within_a_sentence_and_a_cell_and_are_no_words_of_the_question(weigh):
    spans = weigh("| judge | 46 27 |", "An appeal!")
    assert spans
    assert set(spans) <= {"judge", "46", "27", "46 27"}
    assert not weigh("...")


def test_a_near_sentence_counts_more(base, weigh):
    assert weigh("judge", near=1.0)["judge"] - weigh("judge", near=0.0)["judge"] == pytest.approx(
        NEAR_NATS, abs=1e-3
    )


def test_a_long_text_gives_its_likeliest_spans(weigh):
    words = [f"word{number}" for number in range(4 * BEGINNINGS)]
    assert 0 < len(weigh(" ".join(words))) < len(words) * 8


def test_texts_are_weighed_side_by_side_as_each_alone(weigh):
    words = " ".join(f"word{number}" for number in range(BEGINNINGS))
    texts = [[("judge", 0.5)], [(words, 0.2), ("the fever", 0.9)], [("...", 0.1)]]
    together = weigh.texts(texts, readers=2)
    for text, found in zip(texts, together, strict=True):
        (alone,) = weigh.texts([text], readers=2)
        assert found == {one: pytest.approx(score, abs=1e-3) for one, score in alone.items()}
    assert [len(found) > 0 for found in together] == [True, True, False]

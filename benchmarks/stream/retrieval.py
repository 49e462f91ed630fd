"""What RAG's retrieval costs it: which passages it finds, and its answers with the right ones."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.stream.matrices import Scores, mean, share
from benchmarks.stream.methods.embeddings import Embedder, MiniLm
from benchmarks.stream.methods.rag import Rag, answers_with, right_passages
from benchmarks.stream.raw import Raw
from benchmarks.stream.seeds import Measured
from benchmarks.stream.words import WORDS
from benchmarks.stream.workshop import Workshop, recalled

RAG = "rag"


def piece_name(seed: int) -> str:
    """Return the name of the piece."""
    return f"{RAG}/s{seed}/right-passage"


def read_right_passages(shop: Workshop, embed: Embedder | None = None) -> Raw:
    """Ask every question with its right passage given, at the end of the stream.

    Args:
        shop: the stream.
        embed: texts to vectors; None: RAG's own.

    Returns:
        By domain and wording, 1 where the first passage retrieved is the right one, and where the
        question is answered with the right one before it.
    """
    rag = Rag(shop.base(), embed or MiniLm())
    for data in shop.prepared.values():
        rag.learn(data, learning_rate=0.0, settings=shop.settings, progress=shop.progress)
    found, recall = {}, {}
    for number, (name, data) in enumerate(shop.prepared.items()):
        wordings = [question.wording for question in data.questions]
        right = right_passages(rag, data)
        numbers_QK, _ = rag.retrieve([rag.query(question) for question in data.questions], 1)
        first = [rag.passages[one].ids for one in numbers_QK[:, 0]]
        is_right = [one == wanted for one, wanted in zip(first, right, strict=True)]
        found[name] = recalled(is_right, wordings)
        given = list(zip(data.questions, [[ids] for ids in right], strict=True))
        recall[name] = recalled(answers_with(rag, given), wordings)
        shop.progress("asking with the right passage", number + 1, len(shop.prepared), name)
    return {"found": found, "recall": recall}


def retrieved(scores: Scores, seed: int) -> Iterator[Measured]:
    """Yield what retrieval finds, and what it would be worth if it never erred."""
    if not scores.raw.has(piece_name(seed)):
        return
    raw, words = scores.raw.read(piece_name(seed)), WORDS[RAG]
    for wording, said in (("seen", "seen wording"), ("reworded", "reworded")):
        values = [share(raw["found"][name][wording]) for name in scores.names]
        yield Measured(f"{words}: right passage found, {said} (share)", mean(values))
        values = [share(raw["recall"][name][wording]) for name in scores.names]
        name = f"{words}, right passage given: recall at the end, {said} (share)"
        yield Measured(name, mean(values))

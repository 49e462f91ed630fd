"""What RAG's retrieval costs it: which passages it finds, and its answers with the right ones."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.stream.matrices import Scores, mean, share
from benchmarks.stream.methods.embeddings import Embedder, MiniLm
from benchmarks.stream.methods.rag import Rag, answers_with, right_passages
from benchmarks.stream.methods.replies import forms, holds, replies
from benchmarks.stream.raw import Raw
from benchmarks.stream.seeds import Measured
from benchmarks.stream.words import WORDS
from benchmarks.stream.workshop import Workshop, recalled

RAG = "rag"


def piece_name(seed: int) -> str:
    """Return the name of the piece."""
    return f"{RAG}/s{seed}/right-passage"


def replies_piece(seed: int) -> str:
    """Return the name of the piece in which people's ways to ask are tried."""
    return f"{RAG}/s{seed}/replies"


def read_right_passages(shop: Workshop, embed: Embedder | None = None) -> Raw:
    """Ask every question with its right passage given, at the end of the stream.

    Args:
        shop: the stream.
        embed: texts to vectors; None: RAG's own.

    Returns:
        By domain and wording, 1 where the first passage retrieved is the right one, and where the
        question is answered with the right one before it.
    """
    rag = _with_all(shop, embed)
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


def read_replies(shop: Workshop, embed: Embedder | None = None) -> Raw:
    """Ask every question as people ask models with passages, at the end of the stream.

    Args:
        shop: the stream.
        embed: texts to vectors; None: RAG's own.

    Returns:
        By way to ask, passage (found or right), domain and wording, 1 where the reply holds the
        answer.
    """
    rag = _with_all(shop, embed)
    raw: Raw = {}
    for number, (name, data) in enumerate(shop.prepared.items()):
        shop.progress("asking as people do", number, len(shop.prepared), name)
        wordings = [question.wording for question in data.questions]
        asked = [rag.query(question) for question in data.questions]
        answers = [rag.text(question.ids[question.num_prompt :]) for question in data.questions]
        right = [rag.text(ids) for ids in right_passages(rag, data)]
        numbers_QK, _ = rag.retrieve(asked, 1)
        found = [rag.text(rag.passages[one].ids) for one in numbers_QK[:, 0]]
        for form, ask in forms(rag.base.tokenizer).items():
            pairs = [*zip(found, asked, strict=True), *zip(right, asked, strict=True)]
            prompts = {pair: ask(rag.base.tokenizer, *pair) for pair in pairs}
            said = dict(zip(prompts, replies(rag.base, list(prompts.values())), strict=True))
            for which, passages in (("found", found), ("right", right)):
                given = zip(passages, asked, answers, strict=True)
                is_held = [
                    holds(said[passage, prompt], answer) for passage, prompt, answer in given
                ]
                raw.setdefault(form, {}).setdefault(which, {})[name] = recalled(is_held, wordings)
    return raw


def _with_all(shop: Workshop, embed: Embedder | None) -> Rag:
    rag = Rag(shop.base(), embed or MiniLm())
    for data in shop.prepared.values():
        rag.learn(data, learning_rate=0.0, settings=shop.settings, progress=shop.progress)
    return rag


def replied(scores: Scores, seed: int) -> Iterator[Measured]:
    """Yield what RAG answers where it is asked as people do."""
    if not scores.raw.has(replies_piece(seed)):
        return
    ways = {"examples": "three examples before", "chat": "chat template"}
    passages = {"found": "", "right": ", right passage given"}
    for form, by_passage in scores.raw.read(replies_piece(seed)).items():
        for which in by_passage if form in ways else ():
            words = f"{WORDS[RAG]}{passages[which]}, {ways[form]}, answer anywhere in its reply"
            for wording, said in (("seen", "seen wording"), ("reworded", "reworded")):
                values = [share(by_passage[which][name][wording]) for name in scores.names]
                yield Measured(f"{words}: recall at the end, {said} (share)", mean(values))


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

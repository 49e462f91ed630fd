"""Retrieval-augmented generation: nothing is trained, passages are put before the prompt.

A passage is a training text or a fact's statement, cut at 128 tokens, just as the trained methods
read it. Texts in changed wordings are left out: they say nothing that the statements do not.
A further domain adds passages; a domain is removed by taking its passages out, which leaves the
bits as if it had never been there. Whatever else a domain takes is a bare base's.

Shape suffixes: N passages, D width of a vector, Q texts, K retrieved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import torch
from safetensors import safe_open

from benchmarks.stream.data import Prepared
from benchmarks.stream.keeping import save_tensors
from benchmarks.stream.methods.embeddings import Embedder
from peer_cl.bases import Base
from peer_cl.errors import InputError
from pipelines.progress import Progress
from pipelines.questions import Question
from pipelines.reading import Reader, answers, log_probs, reader_of
from pipelines.settings import TrainingSettings

PASSAGE_TOKENS = 128
"""The embedding model reads 256 word pieces, which so many of the base's tokens hardly exceed."""
STRIDE = 32
"""A document that is read on is looked up anew after so many tokens."""
QUERY_TOKENS = 64
"""So many tokens of what was read last ask for passages."""
_FILE = "passages.safetensors"
_TEXTS_A_REPORT = 256


@dataclass(frozen=True)
class Passage:
    """What may be put before a prompt."""

    domain: str
    ids: tuple[int, ...]
    """Without start or end token."""


class Rag:
    """The base with passages to look up.

    Args:
        base: never changed.
        embed: gives texts their vectors.
    """

    name = "rag"
    num_parameters = 0

    def __init__(self, base: Base, embed: Embedder) -> None:
        self.base, self.embed = base, embed
        self.passages: list[Passage] = []
        self._vectors_ND = np.zeros((0, embed([""]).shape[1]), dtype=np.float32)
        self._break = tuple(base.tokenizer("\n", add_special_tokens=False).input_ids)

    def learn(
        self,
        data: Prepared,
        *,
        learning_rate: float,
        settings: TrainingSettings,
        progress: Progress,
    ) -> None:
        """Add a domain's passages; rate and settings say nothing to an index."""
        new = domain_passages(data, self.base.tokenizer.all_special_ids)
        for start in range(0, len(new), _TEXTS_A_REPORT):
            part = new[start : start + _TEXTS_A_REPORT]
            vectors_XD = self.embed([self.text(passage.ids) for passage in part])
            self._vectors_ND = np.concatenate([self._vectors_ND, vectors_XD])
            self.passages += part
            progress("embedding passages", start + len(part), len(new), "")

    def forget(self, domain: str) -> None:
        """Take a domain's passages out.

        Raises:
            InputError: when there are none.
        """
        kept = [number for number, p in enumerate(self.passages) if p.domain != domain]
        if len(kept) == len(self.passages):
            raise InputError(f"no passage is of domain {domain!r}")
        self.passages = [self.passages[number] for number in kept]
        self._vectors_ND = self._vectors_ND[kept]

    def reader(self) -> Reader:
        """Return the bare base: a row alone says not where its prompt ends. Use `scorer`."""
        return reader_of(self.base.model)

    def scorer(self, num_passages: int = 1, least_similarity: float = -1.0) -> RagScorer:
        """Return what questions and documents are scored with.

        Args:
            num_passages: put before a prompt, the likest one next to it.
            least_similarity: passages that are less like the query (cosine) stay away; -1: none.
        """
        return RagScorer(self, num_passages, least_similarity)

    def retrieve(self, texts: Sequence[str], num: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the passages most like each text, and their cosines.

        Returns:
            (Q, K) int64 and (Q, K) fp32, the likest first; K = min(num, passages).
        """
        num = min(num, len(self.passages))
        if not num or not texts:
            return np.zeros((len(texts), 0), np.int64), np.zeros((len(texts), 0), np.float32)
        # Made anew: an index is a cache of the vectors, and an exact one costs a copy.
        index = faiss.IndexFlatIP(self._vectors_ND.shape[1])
        index.add(self._vectors_ND)
        cosines_QK, numbers_QK = index.search(self.embed(texts), num)
        return numbers_QK, cosines_QK

    def before(self, passages: Sequence[Sequence[int]], row: Sequence[int]) -> tuple[int, ...]:
        """Return a row with passages after its start token, a line each."""
        lines = [token for passage in passages for token in (*passage, *self._break)]
        return (row[0], *lines, *row[1:])

    def query(self, question: Question) -> str:
        """Return what a question asks for passages with: its prompt alone."""
        return self.text(question.ids[1 : question.num_prompt])

    def text(self, ids: Sequence[int]) -> str:
        """Return tokens as text."""
        return str(self.base.tokenizer.decode(list(ids)))

    def save(self, folder: Path) -> None:
        """Write passages and vectors into a folder."""
        domains = list(dict.fromkeys(passage.domain for passage in self.passages))
        tensors = {
            "vectors": torch.from_numpy(self._vectors_ND).contiguous(),
            "ids": torch.tensor([token for p in self.passages for token in p.ids]).long(),
            "lengths": torch.tensor([len(p.ids) for p in self.passages]).long(),
            "domains": torch.tensor([domains.index(p.domain) for p in self.passages]).long(),
        }
        save_tensors(tensors, folder / _FILE, {"domains": json.dumps(domains)})

    def load(self, folder: Path) -> None:
        """Read passages and vectors that `save` wrote, in place of those that are there."""
        with safe_open(folder / _FILE, framework="pt") as file:
            domains = json.loads((file.metadata() or {})["domains"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        parts = tensors["ids"].split(tensors["lengths"].tolist())
        self.passages = [
            Passage(domains[number], tuple(part.tolist()))
            for number, part in zip(tensors["domains"].tolist(), parts, strict=False)
        ]
        self._vectors_ND = tensors["vectors"].numpy()


@dataclass(frozen=True)
class RagScorer:
    """The base with retrieved passages, as a `pipelines.general.Scorer`."""

    rag: Rag
    num_passages: int
    least_similarity: float

    def answers(self, asked: Sequence[Question]) -> list[bool]:
        """Return for each question whether greedy decoding after passages and prompt answers it."""
        given = zip(asked, self._found([self.rag.query(one) for one in asked]), strict=True)
        return answers_with(self.rag, [(question, passages) for question, passages in given])

    def log_probs(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the log probability of each token after the start token, nats, a row each.

        Every 32 tokens what was read last asks for passages, which stand before all that was read
        while the next 32 are scored (in-context retrieval, Ram et al. 2023, arXiv 2302.00083). So
        no token is scored by passages that it chose itself, and the first 32 have none.
        """
        places = [(number, start) for number, row in enumerate(rows) for start in _starts(len(row))]
        queries = [
            self.rag.text(rows[n][max(1, start - QUERY_TOKENS) : start]) for n, start in places
        ]
        wholes = []
        for (number, start), passages in zip(places, self._found(queries), strict=True):
            read = rows[number][: start + STRIDE]
            wholes.append(self.rag.before(passages if start > 1 else (), read))
        parts: list[list[np.ndarray]] = [[np.empty(0)] for _ in rows]
        values = log_probs(self.rag.reader(), wholes)
        for (number, start), values_T in zip(places, values, strict=True):
            parts[number].append(values_T[-len(rows[number][start : start + STRIDE]) :])
        return [np.concatenate(part) for part in parts]

    def _found(self, queries: Sequence[str]) -> list[list[tuple[int, ...]]]:
        """Return the passages that each text gets, the likest last: next to the prompt."""
        numbers_QK, cosines_QK = self.rag.retrieve(queries, self.num_passages)
        return [
            [
                self.rag.passages[number].ids
                for number, cosine in zip(numbers_K[::-1], cosines_K[::-1], strict=True)
                if cosine >= self.least_similarity
            ]
            for numbers_K, cosines_K in zip(numbers_QK, cosines_QK, strict=True)
        ]


def _starts(length: int) -> range:
    return range(1, length, STRIDE)


def domain_passages(data: Prepared, special_ids: Sequence[int]) -> list[Passage]:
    """Return a domain's training texts and facts' statements as passages, none twice.

    Args:
        data: the domain.
        special_ids: tokens that belong to no text.
    """
    cut: dict[tuple[int, ...], None] = {}
    for row in data.rows:
        if row.kind in ("text", "fact"):
            ids = tuple(token for token in row.ids if token not in special_ids)
            for start in range(0, len(ids), PASSAGE_TOKENS):
                cut[ids[start : start + PASSAGE_TOKENS]] = None
    return [Passage(data.name, ids) for ids in cut]


def answers_with(rag: Rag, given: Sequence[tuple[Question, Sequence[Sequence[int]]]]) -> list[bool]:
    """Return for each question whether greedy decoding after its passages and prompt answers it.

    Args:
        rag: whose base reads.
        given: questions, each with the passages that stand before it.
    """
    asked = []
    for question, passages in given:
        ids = rag.before(passages, question.ids)
        num_added = len(ids) - len(question.ids)
        asked.append(replace(question, ids=ids, num_prompt=question.num_prompt + num_added))
    return answers(rag.reader(), asked)


def right_passages(rag: Rag, data: Prepared) -> list[tuple[int, ...]]:
    """Return for each of a domain's questions the statement that holds its answer.

    With these, `answers_with` says what retrieval without any error would reach.

    Raises:
        InputError: when a question has no statement, or the two wordings are not asked in turn.
    """
    seen = [question for question in data.questions if question.wording == "seen"]
    other = [question for question in data.questions if question.wording != "seen"]
    if (*seen, *other) != data.questions or list(map(_answer, seen)) != list(map(_answer, other)):
        raise InputError(
            f"{data.name}: its questions are not all seen ones, then one other of each"
        )
    special = rag.base.tokenizer.all_special_ids
    facts = replace(data, rows=tuple(row for row in data.rows if row.kind == "fact"))
    statements = {rag.text(p.ids): p.ids for p in domain_passages(facts, special)}
    found = []
    for question in seen:
        start = rag.text(question.ids[1:])
        matches = [ids for text, ids in statements.items() if text.startswith(start)]
        if not matches:
            raise InputError(f"{data.name}: no statement begins {start[:80]!r}")
        found.append(matches[0])
    return found * 2


def _answer(question: Question) -> tuple[int, ...]:
    return question.ids[question.num_prompt :]

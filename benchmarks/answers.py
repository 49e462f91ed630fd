"""Questions that people asked about articles: from memory, as `ask` answers, and by RAG.

SQuAD's articles, each a domain (`--data FOLDER` with squad_stream.jsonl): the first eight by the
sha256 of their names are learned, with what `--study` gives them, and asked in a sample drawn by
the hash of each question. An answer is right that contains the wanted one (first line, 16 tokens).
RAG is the base with the passage that `ask` finds, in the form that was best on others.
Every answer is kept in `--work`, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import torch

from app.output import show_progress
from benchmarks.results import Figure
from peer_cl.model import PeerModel
from pipelines import init_store, open_store
from pipelines.batches import tokenise
from pipelines.chat import chat_ids
from pipelines.corpora import SourceDocument
from pipelines.loading import SMOLLM2
from pipelines.packages import cache_folder
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store
from pipelines.study.questions import StudyQuestion, plain_words, stands

ARTICLES, ASKED, ANSWER_TOKENS = 8, 24, 16
Study = Literal["none", "built-in", "half", "all"]
"""What is learned of questions: none; those that rules make; half of people's, or all, before them.
"""


@dataclass(frozen=True)
class Question:
    """A question that somebody asked about a passage."""

    article: str
    passage: str
    question: str
    answer: str

    @property
    def key(self) -> str:
        """The sha256 of passage and question."""
        return hashlib.sha256(f"{self.passage}\n{self.question}".encode()).hexdigest()

    @property
    def is_studied(self) -> bool:
        """Whether it is in the half that is learned with `--study half`."""
        return int(self.key[0], 16) % 2 == 0


@dataclass(frozen=True)
class Article:
    """An article: its passages by id, and what people asked about them."""

    name: str
    passages: dict[str, str]
    questions: tuple[Question, ...]

    @property
    def domain(self) -> str:
        """Its name as a domain's."""
        return re.sub(r"\W+", "-", self.name).strip("-").lower()


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return how many questions are answered (`--data`, `--work`, `--articles`, `--asked` ...)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks answers")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=cache_folder() / "answers")
    parser.add_argument("--articles", type=int, default=ARTICLES)
    parser.add_argument("--asked", type=int, default=ASKED)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", default=SMOLLM2)
    parser.add_argument("--study", choices=get_args(Study), default="built-in")
    options = parser.parse_args(list(arguments))
    articles = read_articles(options.data / "squad_stream.jsonl")[: options.articles]
    about = "" if options.base == SMOLLM2 else f"-{options.base}"
    place = options.work / f"{options.study}-{options.seed}{about}"
    with show_progress() as progress:
        store = _store(place, options.base, progress)
        with store:
            _learn(store, articles, options.study, options.seed, progress)
            model, tokenizer = store.load()
            kept = KeptAnswers(place / "answers.jsonl")
            asker = _Asker(store, model, tokenizer, articles)
            for article in articles:
                asked = sample(article.questions, options.asked)
                for number, one in enumerate(asked, start=1):
                    kept.put(one, asker.ask)
                    progress(f"asking {article.name}", number, len(asked), "")
            said = [
                (one, kept.found[one.key])
                for a in articles
                for one in sample(a.questions, options.asked)
            ]
            ends = tokenise(tokenizer, [f" {one.answer}\n" for one, _ in said])
            fits = {
                one.key
                for (one, _), ids in zip(said, ends, strict=True)
                if len(ids) - 1 <= ANSWER_TOKENS
            }
            found = [*_answered(said, options.study, fits)]
            if options.study == "built-in":
                found += _continued(model, tokenizer, articles)
            return found


def read_articles(path: Path) -> list[Article]:
    """Return the articles of a file, by the sha256 of their names."""
    rows = defaultdict[str, list[dict[str, Any]]](list)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["domain"]].append(row)
    return [
        Article(
            name=name,
            passages={row["doc_id"]: row["text"] for row in rows[name]},
            questions=tuple(
                Question(name, row["doc_id"], " ".join(one["question"].split()), one["answer"])
                for row in rows[name]
                for one in row["questions"]
            ),
        )
        for name in sorted(rows, key=lambda one: hashlib.sha256(one.encode()).hexdigest())
    ]


def sample(questions: Sequence[Question], num: int) -> list[Question]:
    """Return so many of the questions, the first by hash."""
    return sorted(questions, key=lambda one: one.key)[:num]


def _store(place: Path, base: str, progress: Progress) -> Store:
    if (place / "store.toml").is_file():
        return open_store(place)
    return init_store(place, base=base, capacity=48, progress=progress)


def _learn(
    store: Store, articles: Sequence[Article], study: Study, seed: int, progress: Progress
) -> None:
    for article in articles:
        if store.registry.queries.live().state(article.domain) is not None:
            continue
        documents = [
            SourceDocument(text, article.name, key) for key, text in article.passages.items()
        ]
        questions = [
            StudyQuestion(one.passage, one.question, one.answer)
            for one in article.questions
            if (study == "all" or (study == "half" and one.is_studied))
            # A few answers are not spelled as the text has them; those can only be asked.
            and stands(one.answer, article.passages[one.passage])
        ]
        settings = TrainingSettings(seed=seed)
        if study == "none":
            settings = replace(settings, study_questions=0)
        store.ingest(
            article.domain, documents, questions=questions, settings=settings, progress=progress
        )


# Asking


@dataclass(frozen=True)
class Said:
    """What each way says to a question."""

    memory: str
    """Empty where nothing is known, as of the next two."""
    short: str
    """The first line."""
    sentence: str
    """That is quoted."""
    base: str
    rag: str
    found: str
    """The source of the passage that is found; empty: none."""


class KeptAnswers:
    """Answers in a file, each written once."""

    def __init__(self, path: Path) -> None:
        self._path, self.found = path, dict[str, Said]()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                key = row.pop("key")
                self.found[key] = Said(**row)

    def put(self, question: Question, ask: Callable[[str], Said]) -> None:
        """Ask a question, unless it is kept."""
        if question.key in self.found:
            return
        said = self.found[question.key] = ask(question.question)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": question.key, **asdict(said)}, ensure_ascii=False) + "\n")


class _Asker:
    def __init__(
        self, store: Store, model: PeerModel, tokenizer: Any, articles: Sequence[Article]
    ) -> None:
        self._store, self._model, self._tokenizer = store, model, tokenizer
        self._passages = {k: (a.name, text) for a in articles for k, text in a.passages.items()}

    def ask(self, question: str) -> Said:
        """Return what each way says to a question."""
        given = {"model": self._model, "tokenizer": self._tokenizer}
        answer = self._store.ask(question, details=True, **given)
        title, text = self._passages[answer.sources[0].source]
        return Said(
            memory=answer.memory or "",
            short=answer.text if answer.is_known else "",
            sentence=answer.sources[0].sentence if answer.is_known else "",
            base=self._chat(f"Question: {question}\nAnswer:"),
            rag=self._chat(f"{title}\n\n{text}\n\nQuestion: {question}\nAnswer:"),
            found=answer.sources[0].source if answer.is_known else "",
        )

    def _chat(self, content: str) -> str:
        """Return the base's answer, through its chat template where it has one."""
        ids = chat_ids(self._tokenizer, [{"role": "user", "content": content}])
        if ids is None:
            ids = tokenise(self._tokenizer, [content])[0]
        return write_line(self._model.base, self._tokenizer, ids)


@torch.no_grad()
def write_line(model: Any, tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the line that a transformers model writes greedily after token ids."""
    ids_BT = torch.tensor([ids])
    written = model.generate(
        input_ids=ids_BT,
        attention_mask=torch.ones_like(ids_BT),
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        repetition_penalty=1.0,
        pad_token_id=tokenizer.eos_token_id,
    )
    new = written[0, ids_BT.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip().split("\n")[0]


def _normalised(text: str) -> str:
    words = [word for word in plain_words(text).split() if word not in ("a", "an", "the")]
    return " ".join(words)


def contains(said: str, answer: str) -> bool:
    """Return whether an answer stands in what was said, articles left out."""
    return stands(_normalised(answer), _normalised(said))


def f1(said: str, answer: str) -> float:
    """Return the F1 of the words that two answers share, as SQuAD counts it."""
    one, other = _normalised(said).split(), _normalised(answer).split()
    shared = sum(min(one.count(word), other.count(word)) for word in set(one))
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def _answered(
    said: Sequence[tuple[Question, Said]], study: Study, fits: Collection[str]
) -> Iterator[Figure]:
    """Yield what each way answers; `fits`: keys of questions whose answers can be told whole."""
    sets = {"all asked": said}
    if study == "half":
        sets = {
            "the half that was studied": [pair for pair in said if pair[0].is_studied],
            "the other half": [pair for pair in said if not pair[0].is_studied],
        }
    for name, pairs in sets.items():
        shares = {
            way: fmean(contains(getattr(one, way), q.answer) for q, one in pairs)
            for way in ("base", "memory", "short", "sentence", "rag")
        }
        about = f"{name}, {len(pairs)} questions"
        least = {"none": None, "built-in": 0.08, "half": 0.10, "all": 0.90}[study]
        if name == "the half that was studied":
            least = 0.90
        for way, share in shares.items():
            yield Figure(f"{about}: {way} (contains, share)", share)
            exact = [_normalised(getattr(one, way)) == _normalised(q.answer) for q, one in pairs]
            yield Figure(f"{about}: {way} (exact, share)", fmean(exact))
            words = [f1(getattr(one, way), q.answer) for q, one in pairs]
            yield Figure(f"{about}: {way} (F1)", fmean(words))
        yield Figure(f"{about}: memory less base", shares["memory"] - shares["base"], least=least)
        if study == "built-in":
            yield Figure(f"{about}: short less RAG", shares["short"] - shares["rag"], least=0.05)
        found = [one.found for _, one in pairs]
        yield Figure(f"{about}: a passage found (share)", fmean(map(bool, found)))
        right = [one.found == q.passage for q, one in pairs if one.found]
        yield Figure(f"{about}: the right one, of those found (share)", fmean(right))
        given = [(q, one) for q, one in pairs if one.found == q.passage]
        for way in ("memory", "short", "sentence"):
            share = fmean(contains(getattr(one, way), q.answer) for q, one in given)
            yield Figure(f"{about}: {way}, the right passage found (contains, share)", share)
        whole = [contains(one.memory, q.answer) for q, one in pairs if q.key in fits]
        fitting = f"memory, the {len(whole)} with an answer of at most {ANSWER_TOKENS} tokens"
        yield Figure(f"{about}: {fitting} (contains, share)", fmean(whole))


# What was learned


@torch.no_grad()
def _continued(model: PeerModel, tokenizer: Any, articles: Sequence[Article]) -> Iterator[Figure]:
    """Yield how many sentences go on as they do, from their first halves with nothing before."""
    hits: dict[str, list[bool]] = {"": [], ", its domain named": []}
    for article in articles:
        sentences = [
            sentence.split()
            for text in article.passages.values()
            for sentence in re.split(r"(?<=[.!?])\s+", text)
        ]
        long = [words for words in sentences if 8 <= len(words) <= 30]
        order = sorted(long, key=lambda words: hashlib.sha256(" ".join(words).encode()).digest())
        for words in order[:25]:
            half = len(words) // 2
            ids_BT = torch.tensor(tokenise(tokenizer, [" ".join(words[:half])]))
            for about, own in hits.items():
                domains = article.domain if about else None
                written = model.generate(
                    ids_BT, max_new_tokens=12, do_sample=False, domains=domains
                )
                new = tokenizer.decode(written[0, ids_BT.shape[1] :], skip_special_tokens=True)
                own.append(new.split()[:3] == words[half : half + 3])
    for about, own in hits.items():
        name = f"{len(own)} learned sentences, given their first half{about}: go on as learned"
        yield Figure(f"{name} (share)", fmean(own), least=0.8)

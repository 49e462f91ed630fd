"""What is learned from texts about a text: articles with lists of implications, asked questions.

`python -m benchmarks rewording --data FOLDER`. The lists are a published set that another model
wrote, five of each passage. It was asked for "a list of implications derived directly or
indirectly from the content", so none is a rewording such as `peer-cl reword` asks for: a list says
what the passage says, and what the model made of it and knew besides; six in ten begin with
"Certainly!" or the like. They are learned as a person's `--rewordings` are, with every word.

The questions are what people asked about the passages, with short answers. Each article is learned
three times: its passages alone, its passages with the lists, and its passages read so often again
that as many tokens are read. A list is nearly three times as long as its passage, and rows that
long would make wider steps and fewer: so lists are cut between their lines into texts about as long
as their passage, and the last two ways are alike in tokens, in steps and in the length of a row.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.many.articles import Articles, slug
from benchmarks.results import RESULTS, Figure, reported
from benchmarks.stream import pools
from benchmarks.stream.data import Prepared
from benchmarks.stream.domains import StreamDomain
from benchmarks.stream.intervals import interval
from benchmarks.stream.raw import RawFolder, sums
from benchmarks.stream.workshop import BUDGET, Workshop
from peer_cl.errors import CorpusError
from pipelines.asking import Told, ask
from pipelines.documents import SourceDocument, document_id
from pipelines.general import ReaderScorer
from pipelines.packages import cache_folder
from pipelines.quiet import get_ready
from pipelines.settings import TrainingSettings

FILE = "squad_rewritings_200.json"
COMMAND = "python -m benchmarks rewording --data FOLDER"
ARTICLES = 6
"""Those with the most passages that have lists."""
SETTINGS = TrainingSettings(text_passes=4.0, least_steps=1)
"""A passage is read four times; by default 1.5, where facts are learned besides. No article is read
more often for being small: the three ways would no longer differ by what they say."""
TEXT, AGAIN, LISTS = "text alone", "text, as many tokens", "text and lists of implications"


@dataclass(frozen=True)
class Reworded:
    """The articles of a folder that have passages with lists; each is a domain of these passages.

    Args:
        folder: of the public sets.
    """

    folder: Path

    @functools.cached_property
    def passages(self) -> list[dict[str, Any]]:
        """The file's passages.

        Raises: CorpusError: when the folder has no such file.
        """
        path = self.folder / FILE
        try:
            return list(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise CorpusError(
                f"no {path}: name the folder of the public sets with --data"
            ) from None

    def names(self, most: int) -> tuple[str, ...]:
        """Return the domains with the most passages, and of as many the first by name."""
        counts = Counter(slug(one["title"]) for one in self.passages)
        return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:most])

    def load(self, name: str, *, has_lists: bool) -> StreamDomain:
        """Return an article's passages, and people's questions with short answers.

        Args:
            name: the domain's.
            has_lists: with the lists, cut, as rewordings.
        """
        asked = Articles(self.folder).load(name, num_tokens=None).asked
        own = [one for one in self.passages if slug(one["title"]) == name]
        documents = tuple(SourceDocument(one["context"], one["title"], FILE) for one in own)
        ids = {document.document_id for document in documents}
        return StreamDomain(
            name,
            documents,
            (),
            "",
            tuple(one for one in asked if one.document_id in ids),
            rewordings={document_id(one["context"]): _cut_lists(one) for one in own}
            if has_lists
            else {},
        )


def _cut_lists(passage: dict[str, Any]) -> tuple[str, ...]:
    num_words = len(passage["context"].split())
    return tuple(part for text in passage["completions"] for part in cut(text, num_words))


def cut(text: str, num_words: int) -> tuple[str, ...]:
    r"""Return a text in parts of about so many words each, cut between its lines.

    Words and not characters: a list has more characters a token than its passage, and as many
    tokens a word.

    Example:
        >>> cut("one two\nthree\n\nfour five six\n", num_words=3)
        ('one two\nthree', 'four five six')
    """
    lines = text.splitlines()
    sizes = [len(line.split()) for line in lines]
    whole = max(1, sum(sizes))
    parts: list[list[str]] = [[] for _ in range(max(1, round(whole / num_words)))]
    before = 0
    for line, size in zip(lines, sizes, strict=True):  # a line is where its middle is
        place = int(len(parts) * (before + size / 2) / whole)
        parts[min(place, len(parts) - 1)].append(line)
        before += size
    joined = ("\n".join(part).strip() for part in parts)
    return tuple(part for part in joined if part)


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Learn what is missing and return the figures.

    Args:
        arguments: `--data FOLDER` with the public sets; `--articles N`: more or fewer, of which
            nothing is kept in the repository; `--work FOLDER` for the stores, which are gone on
            with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks rewording")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--articles", type=int, default=ARTICLES)
    parser.add_argument("--work", type=Path, default=cache_folder() / "rewording")
    options = parser.parse_args(list(arguments))
    get_ready()
    found = compare(Reworded(options.data), options.articles, options.work)
    if options.articles != ARTICLES:
        print("\n".join(f"{one.figure}: {one.value}" for one in found))
        return []
    return found


def compare(articles: Reworded, num: int, work: Path, **others: Any) -> list[Figure]:
    """Learn articles in every way and return what came of it.

    Args:
        articles: where they are.
        num: how many of them.
        work: where the stores are kept.
        others: of the workshops.
    """
    names = articles.names(num)
    about: dict[str, Any] = {"settings": SETTINGS, **others}

    def shop(*, has_lists: bool) -> Workshop:
        load = functools.partial(articles.load, has_lists=has_lists)
        return Workshop(
            raw=RawFolder(RESULTS / "rewording"), work=work, names=names, load=load, **about
        )

    alone, with_lists = shop(has_lists=False), shop(has_lists=True)
    plain, listed = alone.prepared, with_lists.prepared
    same = dict.fromkeys(names, alone.settings)
    again = {name: _as_often(alone.settings, plain[name], listed[name]) for name in names}
    told = {
        TEXT: _learned(alone, TEXT, same),
        AGAIN: _learned(alone, AGAIN, again),
        LISTS: _learned(with_lists, LISTS, same),
    }
    read_again = {
        name: replace(alone, names=(name,), settings=settings).prepared[name]
        for name, settings in again.items()
    }
    return [
        *_base(told[TEXT]),
        *(figure for way, learned in told.items() for figure in _of_way(way, learned)),
        *_difference(told[LISTS], told[AGAIN]),
        *_read({TEXT: plain, AGAIN: read_again, LISTS: listed}),
    ]


def _as_often(settings: TrainingSettings, plain: Prepared, listed: Prepared) -> TrainingSettings:
    """Return settings by which passages alone are as many tokens as they are with their lists."""
    passes = settings.text_passes * listed.num_tokens / plain.num_tokens
    return replace(settings, text_passes=passes)


@dataclass(frozen=True)
class _Learned:
    """What the pools of one way make of questions and of unseen texts."""

    told: list[Told]
    nats: float
    base_nats: float
    num_tokens: int
    """Of the unseen texts."""

    @property
    def right(self) -> list[float]:
        """Return by question 1 where the pool, forced on, answered it."""
        return [float(one.forced) for one in self.told]


def _learned(shop: Workshop, way: str, settings: dict[str, TrainingSettings]) -> _Learned:
    """Learn every article in one way, and ask its pool."""
    with shop.store(slug(way)) as store:
        for number, name in enumerate(shop.names):
            shop.progress(way, number, len(shop.names), name)
            pools.ingest(store, shop.domain(name), settings[name], shop.progress)
        branches, shortlist = pools.load([store], shop.names)
        asked = [one for name in shop.names for one in shop.prepared[name].questions]
        told = ask(branches, shortlist, asked, BUDGET)
        nats = base_nats = 0.0
        num_tokens = 0
        for name in shop.names:
            rows = [item.ids for item in shop.prepared[name].test]
            reader = functools.partial(branches.branch, name)
            nats += sum(sums(ReaderScorer(reader).log_probs(rows)))
            base_nats += sum(sums(ReaderScorer(branches.base).log_probs(rows)))
            num_tokens += sum(len(ids) - 1 for ids in rows)
    return _Learned(told, nats, base_nats, num_tokens)


def _base(found: _Learned) -> list[Figure]:
    right = sum(one.base for one in found.told) / len(found.told)
    loss = found.base_nats / found.num_tokens
    return [
        reported("people's questions asked", len(found.told), COMMAND),
        reported("tokens of unseen text", found.num_tokens, COMMAND),
        reported("base: people's questions answered (share)", right, COMMAND),
        reported("base: unseen loss (nats a token)", loss, COMMAND),
    ]


def _of_way(way: str, found: _Learned) -> list[Figure]:
    right, loss = float(np.mean(found.right)), found.nats / found.num_tokens
    return [
        reported(f"{way}: people's questions answered, pool forced on (share)", right, COMMAND),
        reported(f"{way}: unseen loss, pool forced on (nats a token)", loss, COMMAND),
    ]


def _difference(lists: _Learned, again: _Learned) -> list[Figure]:
    """Return what the lists bring over the control, and between which values it would lie were
    other questions drawn, of these runs: another seed would move it besides."""
    more = np.subtract(lists.right, again.right)
    low, high = interval([(more, np.ones(len(more)))])
    said = f"{LISTS}, less {AGAIN}: people's questions answered"
    return [
        reported(f"{said} (share)", float(more.mean()), COMMAND),
        reported(f"{said}, low end of 95 % (share)", low, COMMAND),
        reported(f"{said}, high end of 95 % (share)", high, COMMAND),
    ]


def _read(prepared: dict[str, dict[str, Prepared]]) -> list[Figure]:
    """Return what each way read: the control must not differ in how much it was trained."""
    found = []
    for way, domains in prepared.items():
        num_tokens = sum(one.num_tokens for one in domains.values())
        num_steps = sum(len(one.steps) for one in domains.values())
        found.append(reported(f"{way}: tokens read in training", num_tokens, COMMAND))
        found.append(reported(f"{way}: steps of training", num_steps, COMMAND))
    return found

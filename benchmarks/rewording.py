"""What other words bring: articles learned with and without rewordings, asked people's questions.

`python -m benchmarks rewording --data FOLDER`. The rewordings are a published set that another
model wrote, five of each passage; the questions are what people asked about the passages, with
short answers. Each article is learned three times: its passages alone, its passages with the
rewordings, and its passages read so often again that as many tokens are read.
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

from benchmarks.many.articles import Articles, slug
from benchmarks.results import RESULTS, Figure, reported
from benchmarks.stream import pools
from benchmarks.stream.data import Prepared
from benchmarks.stream.domains import StreamDomain
from benchmarks.stream.raw import RawFolder, sums
from benchmarks.stream.workshop import BUDGET, Workshop
from peer_cl.errors import CorpusError
from pipelines.asking import ask
from pipelines.documents import SourceDocument, document_id
from pipelines.general import ReaderScorer
from pipelines.packages import cache_folder
from pipelines.quiet import get_ready
from pipelines.settings import TrainingSettings

FILE = "squad_rewritings_200.json"
COMMAND = "python -m benchmarks rewording --data FOLDER"
ARTICLES = 6
"""Those with the most reworded passages."""
SETTINGS = TrainingSettings(text_passes=4.0, least_steps=1)
"""A passage is read four times; by default 1.5, where facts are learned besides. No article is read
more often for being small: the three ways would no longer differ by what they say."""
TEXT, AGAIN, REWORDED = "text alone", "text, as many tokens", "text and rewordings"


@dataclass(frozen=True)
class Reworded:
    """The articles of a folder that have reworded passages; each is a domain of these passages.

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

    def load(self, name: str, *, is_reworded: bool) -> StreamDomain:
        """Return an article's reworded passages, and people's questions with short answers."""
        asked = Articles(self.folder).load(name, num_tokens=None).asked
        own = [one for one in self.passages if slug(one["title"]) == name]
        documents = tuple(SourceDocument(one["context"], one["title"], FILE) for one in own)
        ids = {document.document_id for document in documents}
        said = {document_id(one["context"]): tuple(one["completions"]) for one in own}
        return StreamDomain(
            name,
            documents,
            (),
            "",
            tuple(one for one in asked if one.document_id in ids),
            rewordings=said if is_reworded else {},
        )


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Learn what is missing and return the figures.

    Args:
        arguments: `--data FOLDER` with the public sets; `--articles N`: fewer, of which nothing is
            kept in the repository; `--work FOLDER` for the stores, which are gone on with.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks rewording")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--articles", type=int, default=ARTICLES)
    parser.add_argument("--work", type=Path, default=cache_folder() / "rewording")
    options = parser.parse_args(list(arguments))
    get_ready()
    found = compare(Reworded(options.data), options.articles, options.work)
    if options.articles < ARTICLES:
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

    def shop(way: str) -> Workshop:
        load = functools.partial(articles.load, is_reworded=way == REWORDED)
        return Workshop(
            raw=RawFolder(RESULTS / "rewording"), work=work, names=names, load=load, **about
        )

    shops = {way: shop(way) for way in (TEXT, REWORDED)}
    plain, reworded = (shops[way].prepared for way in (TEXT, REWORDED))
    settings = shops[TEXT].settings
    again = {
        name: replace(
            settings,
            text_passes=settings.text_passes * reworded[name].num_tokens / plain[name].num_tokens,
        )
        for name in names
    }
    same = dict.fromkeys(names, settings)
    found = [
        reported("people's questions asked", _num_asked(plain), COMMAND),
        *_learned(shops[TEXT], TEXT, same, is_first=True),
        *_learned(shops[TEXT], AGAIN, again),
        *_learned(shops[REWORDED], REWORDED, same),
    ]
    read_again = {
        name: replace(shops[TEXT], names=(name,), settings=told).prepared[name]
        for name, told in again.items()
    }
    for way, prepared in ((TEXT, plain), (AGAIN, read_again), (REWORDED, reworded)):
        num_tokens = sum(one.num_tokens for one in prepared.values())
        found.append(reported(f"{way}: tokens read in training", num_tokens, COMMAND))
    num_unseen = sum(len(item.ids) - 1 for one in plain.values() for item in one.test)
    found.append(reported("tokens of unseen text", num_unseen, COMMAND))
    return found


def _num_asked(prepared: dict[str, Prepared]) -> int:
    return sum(len(one.questions) for one in prepared.values())


def _learned(
    shop: Workshop, way: str, settings: dict[str, TrainingSettings], *, is_first: bool = False
) -> list[Figure]:
    """Learn every article in one way, and return what its pool answers and foresees."""
    with shop.store(slug(way)) as store:
        for number, name in enumerate(shop.names):
            shop.progress(way, number, len(shop.names), name)
            pools.ingest(store, shop.domain(name), settings[name], shop.progress)
        branches, shortlist = pools.load([store], shop.names)
        asked = [one for name in shop.names for one in shop.prepared[name].questions]
        told = ask(branches, shortlist, asked, BUDGET)
        nats = num_tokens = base_nats = 0.0
        for name in shop.names:
            rows = [item.ids for item in shop.prepared[name].test]
            reader = functools.partial(branches.branch, name)
            nats += sum(sums(ReaderScorer(reader).log_probs(rows)))
            base_nats += sum(sums(ReaderScorer(branches.base).log_probs(rows)))
            num_tokens += sum(len(ids) - 1 for ids in rows)
    answered = sum(one.forced for one in told) / len(told)
    figures = []
    if is_first:
        right = sum(one.base for one in told) / len(told)
        figures = [
            reported("base: people's questions answered (share)", right, COMMAND),
            reported("base: unseen loss (nats a token)", base_nats / num_tokens, COMMAND),
        ]
    return [
        *figures,
        reported(f"{way}: people's questions answered, pool forced on (share)", answered, COMMAND),
        reported(f"{way}: unseen loss, pool forced on (nats a token)", nats / num_tokens, COMMAND),
    ]

"""Prose that no threshold reads, by the thousand and at length: who is asked, and what it costs.

The passages are LAMBADA's, each a document of at most 128 tokens; WikiText's paragraphs follow each
other in documents of 512 and of 2,048.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from benchmarks.stream.matrices import mean, share
from benchmarks.stream.mixing import Book
from benchmarks.stream.pieces import POOLS
from benchmarks.stream.raw import Raw, sums
from benchmarks.stream.seeds import Measured
from benchmarks.stream.texts import Texts, cut
from benchmarks.stream.workshop import BUDGET, Workshop
from peer_cl.errors import InputError
from peer_cl.mixture import worst_added_nats
from pipelines.batches import tokenise
from pipelines.branches import PoolBranches, Shortlist
from pipelines.general import ReaderScorer
from pipelines.general_tasks import FILES, LAMBADA, WIKITEXT, read_set, wikitext_paragraphs
from pipelines.reading import Reader

SHORT, LONG = 128, (512, 2048)
"""Tokens of a document, the start token left out."""
LENGTHS = (SHORT, *LONG)
MOST = {128: 1000, 512: 40, 2048: 12}
"""Documents of a length whose shortlist is looked at."""
SCORED = {128: 60, 512: 12, 2048: 4}
"""Of these, so many are read by every pool."""
SIZES = (1, 8, 48)
"""Pools in the store, where the stream has as many."""
GOAL = 0.99


def piece_name(seed: int) -> str:
    """Return the name of the piece."""
    return f"{POOLS}/s{seed}/prose"


def read_prose(
    shop: Workshop,
    seed: int,
    branches: PoolBranches,
    shortlist: Shortlist,
    only: int | None = None,
) -> Raw:
    """Return, by length, which domains each document asks, and losses with every pool asked.

    Args:
        shop: where to work.
        seed: of the pools.
        branches: the base and every domain's pool.
        shortlist: decides which of them are asked.
        only: this length, of which the sets may have no document; default: each.

    Raises: InputError: when no folder of public sets was named.
    """
    texts, names = prose(shop), list(shop.names)
    if only is not None:
        texts = {length: rows for length, rows in texts.items() if length == str(only)}
    book, found = Book(shop, POOLS, seed), {}
    readers: list[Reader] = [
        branches.base,
        *(functools.partial(branches.branch, name) for name in names),
    ]
    for number, (length, rows) in enumerate(texts.items()):
        shop.progress("prose", number, len(texts), f"documents of {length} tokens")
        asked = shortlist.asked(rows)
        read = rows[: SCORED[int(length)]]
        said = [ReaderScorer(reader).log_probs(read) for reader in readers]
        stacked = [torch.from_numpy(np.stack(one))[:, None] for one in zip(*said, strict=True)]
        found[length] = {
            "asked": {name: [int(one) for one in asked[name]] for name in names},
            "base": sums(said[0]),
            "mixture": {
                str(size): sums(book.mixed(one[: size + 1]) for one in stacked)
                for size in _sizes(len(names))
            },
        }
    return {"lengths": found, "budget": BUDGET}


def prose(shop: Workshop) -> Texts:
    """Return documents by their length in tokens, no more than the stream reads of a public set.

    Raises: InputError: when no folder of public sets was named.
    """
    if shop.data is None:
        raise InputError("prose by the thousand needs the public sets: name their folder, --data")
    passages = [
        f"{one['context']} {one['continuation'].strip()}"
        for one in read_set(shop.data / FILES[LAMBADA]).contents.values()
    ]
    short = tokenise(shop.tokenizer, passages[: MOST[SHORT]])
    content = (shop.data / FILES[WIKITEXT]).read_text(encoding="utf-8")
    paragraphs = [tuple(ids) for ids in tokenise(shop.tokenizer, wikitext_paragraphs(content))]
    gap = tuple(shop.tokenizer("\n\n", add_special_tokens=False).input_ids)
    found: Texts = {
        str(SHORT): [tuple(ids[: SHORT + 1]) for ids in short],
        **{str(length): cut(paragraphs, gap, length)[: MOST[length]] for length in LONG},
    }
    # A set may be short.
    return {length: rows[: shop.most_items] for length, rows in found.items() if rows}


def _sizes(num_domains: int) -> list[int]:
    return sorted({*(size for size in SIZES if size < num_domains), num_domains})


def prose_figures(raw: Raw, names: Sequence[str]) -> Iterator[Measured]:
    """Yield who is asked by prose, and its worst loss, by length and by pools in the store."""
    bound = worst_added_nats(raw["budget"])
    for length, found in raw["lengths"].items():
        num = len(next(iter(found["asked"].values())))
        for size, mixture in found["mixture"].items():
            asked = [found["asked"][name] for name in names[: int(size)]]
            counts = [sum(one) for one in zip(*asked, strict=True)]
            said = f"prose of {length} tokens, {size} {'pool' if size == '1' else 'pools'}"
            silent = share([int(count == 0) for count in counts])
            name = f"ask no pool, {num} documents, {said} (share)"
            yield Measured(name, silent, at_least=GOAL)
            yield Measured(f"pools asked a document, {said} (number)", mean(counts))
            worst = max(m - b for m, b in zip(mixture, found["base"], strict=True))
            name = f"worst added loss of {len(mixture)} documents, {said} (nats)"
            yield Measured(name, worst, at_most=bound, is_worst=True)

"""The pieces that measure general ability: of the base, and of methods at the stream's end.

Scoring itself is the product's: `pipelines.general` and `pipelines.general_mixture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks.stream.mixing import NAME_ODDS
from benchmarks.stream.pieces import CHAINS, places, scorer_of, state_folder
from benchmarks.stream.raw import DIGITS, Raw
from benchmarks.stream.workshop import Workshop
from peer_cl.choice import named_by_context
from peer_cl.errors import InputError
from peer_cl.scoring import evidence_tokens
from pipelines.branches import Branches, Shortlist
from pipelines.general import ItemScore, ReaderScorer, score
from pipelines.general_mixture import read_mixture
from pipelines.general_tasks import FILES, GeneralItem, read_set
from pipelines.reading import reader_of


def items_of(shop: Workshop, task: str, most: int | None = None) -> tuple[GeneralItem, ...]:
    """Return a task's items, no more than the stream reads of a public set.

    Raises: InputError: when no folder of public sets was named.
    """
    if shop.data is None:
        raise InputError("general ability needs the public sets: name their folder with --data")
    fewest = min((most for most in (most, shop.most_items) if most is not None), default=None)
    return read_set(shop.data / FILES[task]).items(shop.tokenizer, fewest)


def read_base_ability(shop: Workshop, task: str) -> Raw:
    """Read every item of a task with the bare model."""
    return _kept(score(ReaderScorer(reader_of(shop.base().model)), items_of(shop, task)))


def read_chain_ability(shop: Workshop, method: str, seed: int, task: str) -> Raw:
    """Read a task's first items with a method's model after the whole stream."""
    made = CHAINS[method](shop.base(), len(shop.names), seed)
    last = places(method, seed, shop.names)[-1]
    made.load(state_folder(shop, last, last.number))
    return _kept(score(scorer_of(made), items_of(shop, task, shop.ability_items)))


def read_mixture_ability(
    shop: Workshop, branches: Branches, shortlist: Shortlist, task: str
) -> Raw:
    """Read every item of a task with all branches behind the mixture."""
    before = [ItemScore.from_dict(one) for one in shop.raw.read(f"ability/base/{task}")["items"]]
    read = read_mixture(branches, shortlist, items_of(shop, task), before)
    return _kept(read.scores) | {"num_asked": read.num_asked[task]}


def read_named_ability(shop: Workshop, branches: Branches, shortlist: Shortlist, task: str) -> Raw:
    """Read the items of a task whose context names a domain, where names count.

    Every other item asks whom it asks where they do not.
    """
    naming = [item for item in items_of(shop, task) if _names_any(shortlist, item.context)]
    base = {one["key"]: one for one in shop.raw.read(f"ability/base/{task}")["items"]}
    before = [ItemScore.from_dict(base[item.key]) for item in naming]
    (odds,) = NAME_ODDS
    read = read_mixture(branches, replace(shortlist, name_odds=odds), naming, before)
    return _kept(read.scores) | {"num_asked": read.num_asked[task]}


def _names_any(shortlist: Shortlist, context: Sequence[int]) -> bool:
    ids_BT = torch.tensor([context])
    counted_BT = evidence_tokens(ids_BT, None, shortlist.model.special_ids)
    signatures = list(shortlist.signatures.values())
    lengths_B = torch.tensor([len(context)])
    return bool(named_by_context(ids_BT, counted_BT, signatures, lengths_B).any())


def _kept(scores: Sequence[ItemScore]) -> Raw:
    items = []
    for one in scores:
        nats = tuple(round(value, DIGITS) for value in one.log_probs)
        items.append(replace(one, log_probs=nats).to_dict())
    return {"items": items}

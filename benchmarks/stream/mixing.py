"""The piece that puts branches behind the mixture: everything here comes from per-token scores.

Pools and adapters alike: the mixture only reads what each branch says of each token.

Shape suffixes: B rows, T tokens, P branches, Q = P + 1 with the base first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream.pieces import subject
from benchmarks.stream.raw import DIGITS, Raw, rare_sums, sums
from benchmarks.stream.workshop import BUDGET, Workshop
from peer_cl.mixture import share
from pipelines import mixture_scores
from pipelines.asking import Told, ask
from pipelines.branches import Branches, Shortlist

CONTEXT = 32
"""Tokens that are given where a continuation is scored."""
NAME_ODDS = (1.0,)
"""Where a person lets names count: what a named domain has beside its share, against the base."""
GATES_NATS = (0.0, 3.0, 7.0, 13.0)
"""A hard gate serves a branch only once its evidence is so far above the base's: at 0 as soon as it
is ahead, at 7 where the mixture gives a branch half of the weight, at 13 hardly ever wrongly."""


@dataclass(frozen=True)
class Book:
    """Per-token scores of the base and of branches, in one order."""

    shop: Workshop
    method: str
    seed: int

    def stack(self, names: Sequence[str], rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return for each row its log probabilities (Q, 1, T), the base first."""
        tokens = self.shop.tokens
        found = [tokens.read("base", rows)]
        found += [tokens.read(subject(self.method, self.seed, name), rows) for name in names]
        return [torch.from_numpy(np.stack(one))[:, None] for one in zip(*found, strict=True)]

    def mixed(self, stacked_Q1T: Tensor, asked: Sequence[bool] | None = None) -> Tensor:
        """Return the mixture's log probability of each token, (T,), branches asked from the first.

        Args:
            stacked_Q1T: log probabilities, the base first.
            asked: by branch, whether it takes part; default: all do.
        """
        chosen = [0, *range(1, len(stacked_Q1T))]
        if asked is not None:
            chosen = [0, *(number for number, takes in enumerate(asked, 1) if takes)]
        return mixture_scores.mixed(stacked_Q1T[chosen], share(BUDGET, self.shop.capacity))


def gated(stacked_Q1T: Tensor, nats: float) -> Tensor:
    """Return log probabilities behind a hard gate: the best branch, once it is so far ahead.

    Example: the branch is ahead by 2 nats after its first token, and is served from then on.
        >>> stacked = torch.tensor([[[-3.0, -3.0]], [[-1.0, -1.0]]])
        >>> gated(stacked, nats=1.5).tolist()
        [-3.0, -1.0]
    """
    if len(stacked_Q1T) == 1:
        return stacked_Q1T[0, 0]
    past_QT = stacked_Q1T[:, 0].cumsum(-1).roll(1, -1)
    past_QT[:, 0] = 0.0
    lead_PT = past_QT[1:] - past_QT[:1]
    best_T = lead_PT.argmax(0)
    served_T = torch.where(lead_PT.max(0).values > nats, best_T + 1, 0)
    return stacked_Q1T[:, 0].gather(0, served_T[None])[0]


def mix(shop: Workshop, method: str, seed: int, branches: Branches, shortlist: Shortlist) -> Raw:
    """Return what the mixture makes of texts and questions, after each domain and at the end."""
    book, names = Book(shop, method, seed), list(shop.names)
    shop.progress("mixing", 0, 5, "documents")
    stacks = {group: book.stack(names, rows) for group, rows in shop.groups("test").items()}
    raw: Raw = {
        "rows": _rows(stacks, len(names), book.mixed),
        "gates": {},
        "rare_nats": _rare(book, stacks),
    }
    shop.progress("mixing", 1, 5, "lengths and context")
    raw["blocks"] = {name: _blocks(book, names, name, shortlist) for name in names}
    shop.progress("mixing", 2, 5, "foreign text")
    groups = shop.groups("prose", "look-alike")
    strange = {group: book.stack(names, rows) for group, rows in groups.items()}
    raw["foreign"] = _foreign(book, names, shortlist, strange)
    for nats in GATES_NATS:
        gate = functools.partial(gated, nats=nats)
        foreign = {group: sums(map(gate, stacked)) for group, stacked in strange.items()}
        raw["gates"][str(nats)] = {"rows": _rows(stacks, len(names), gate), "foreign": foreign}
    shop.progress("mixing", 3, 5, "questions")
    raw["recall"] = _recalls(shop, branches, shortlist)
    raw["general"] = _general(shop, branches, shortlist)
    raw["naming"] = _naming(shop, branches, shortlist)
    shop.progress("mixing", 4, 5, "questions, names count")
    raw["named"] = {}
    for odds in NAME_ODDS:
        named = replace(shortlist, name_odds=odds)
        raw["named"][str(odds)] = {
            "recall": _recalls(shop, branches, named),
            "general": _general(shop, branches, named),
            "naming": _naming(shop, branches, named),
        }
    return raw | {"method": method, "seed": seed, "budget": BUDGET, "capacity": shop.capacity}


def _rows(
    stacks: dict[str, list[Tensor]], num_names: int, how: Callable[[Tensor], Tensor]
) -> list[dict[str, list[float]]]:
    """Return documents' losses with 0, 1, ... domains learned; later branches take no part."""
    return [
        {
            group: sums(how(one[: num_learned + 1]) for one in stacked)
            for group, stacked in stacks.items()
        }
        for num_learned in range(num_names + 1)
    ]


def _rare(book: Book, stacks: dict[str, list[Tensor]]) -> dict[str, list[float]]:
    """Return documents' losses without stock words, each right after its domain was learned."""
    shop, found = book.shop, {}
    for number, name in enumerate(shop.names):
        group = f"test/{name}"
        log_probs = [book.mixed(one[: number + 2]).numpy() for one in stacks[group]]
        found[group] = rare_sums(log_probs, shop.texts[group], shop.prepared[name].stock)
    return found


def _blocks(book: Book, names: Sequence[str], own: str, shortlist: Shortlist) -> Raw:
    """Return a domain's documents of one length, whole and after some context.

    `own_only` is the mixture with the right branch alone: what it lacks of `forced` is delay, what
    `mixture` lacks of it is the others' doing.
    """
    rows = book.shop.texts[f"blocks128/{own}"]
    stacked, place = book.stack(names, rows), names.index(own)
    asked = shortlist.asked(rows, [CONTEXT + 1] * len(rows))
    alone = [name == own for name in names]
    listed = [[asked[name][number] for name in names] for number in range(len(rows))]
    after = [book.mixed(one, these) for one, these in zip(stacked, listed, strict=True)]
    return {
        "base": sums(one[0, 0] for one in stacked),
        "forced": sums(one[place + 1, 0] for one in stacked),
        "mixture": sums(map(book.mixed, stacked)),
        "own_only": sums(book.mixed(one, alone) for one in stacked),
        "context": {
            "base": sums(one[0, 0, CONTEXT:] for one in stacked),
            "forced": sums(one[place + 1, 0, CONTEXT:] for one in stacked),
            "mixture": sums(one[CONTEXT:] for one in after),
            "asked_own": [int(these[place]) for these in listed],
        },
    }


def _foreign(
    book: Book, names: Sequence[str], shortlist: Shortlist, strange: dict[str, list[Tensor]]
) -> dict[str, Raw]:
    """Return what text of no domain loses with every branch asked, and whom it would ask."""
    found: dict[str, Raw] = {}
    for group, stacked in strange.items():
        rows = book.shop.texts[group]
        asked = shortlist.asked(rows)
        found[group] = {
            "base": sums(one[0, 0] for one in stacked),
            "mixture": sums(map(book.mixed, stacked)),
            "num_asked": [sum(asked[name][n] for name in names) for n in range(len(rows))],
        }
    return found


def _recalls(shop: Workshop, branches: Branches, shortlist: Shortlist) -> dict[str, Raw]:
    """Return each domain's answers at the end: forced, mixture, and the own branch's weight.

    Who is asked, and what each branch says, never depends on other domains; so the answers right
    after a domain was learned differ from these only where another domain's branch has weight.
    """
    found: dict[str, Raw] = {}
    for number, name in enumerate(shop.names):
        asked = shop.prepared[name].questions
        wordings = [question.wording for question in asked]
        told = ask(branches, shortlist, asked, BUDGET)
        early = ask(*first(branches, shortlist, number + 1), asked, BUDGET)
        found[name] = {
            wording: _answers(
                [one for one, w in zip(told, wordings, strict=True) if w == wording],
                [one for one, w in zip(early, wordings, strict=True) if w == wording],
                name,
            )
            for wording in dict.fromkeys(wordings)
        }
    return found


def _answers(told: Sequence[Told], early: Sequence[Told], name: str) -> Raw:
    return {
        "forced": [int(one.forced) for one in told],
        "mixture": [int(one.mixture) for one in told],
        "mixture_when_learned": [int(one.mixture) for one in early],
        "guided": [int(one.guided) for one in told],
        "guided_when_learned": [int(one.guided) for one in early],
        "own_weight": [round(one.weights.get(name, 0.0), DIGITS) for one in told],
    }


def _general(shop: Workshop, branches: Branches, shortlist: Shortlist) -> Raw:
    """Return for general questions the largest weight of any branch, and which have a rare word."""
    return {
        "largest_weight": _largest(ask(branches, shortlist, shop.general, BUDGET)),
        "has_rare_word": shop.general_rare,
    }


def _naming(shop: Workshop, branches: Branches, shortlist: Shortlist) -> dict[str, list[float]]:
    """Return by domain, for sentences that only name its subjects, any branch's largest weight."""
    return {
        name: _largest(ask(branches, shortlist, shop.naming(name), BUDGET)) for name in shop.names
    }


def _largest(told: Sequence[Told]) -> list[float]:
    return [round(max(one.weights.values(), default=0.0), DIGITS) for one in told]


def first(branches: Branches, shortlist: Shortlist, num: int) -> tuple[Branches, Shortlist]:
    """Return the store as it was when only the first domains were learned."""
    names = list(branches.names[:num])
    signatures = {name: shortlist.signatures[name] for name in names}
    return _First(branches, tuple(names)), replace(shortlist, signatures=signatures)


class _First:
    """Some of the branches."""

    def __init__(self, every: Branches, names: tuple[str, ...]) -> None:
        self.every, self.names = every, names

    def base(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return self.every.base(ids_BT, mask_BT)

    def branch(self, name: str, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return self.every.branch(name, ids_BT, mask_BT)

"""Which fact a text asks for: the half of the router that finds facts.

A fact's key is a product of two sub-keys, and both must fit: *whom* it is about, its subject's
token ids, and *what* about them, points in the base's space of relations. That space is learned
once for a base, from background prompts: wordings of one relation lie near to each other, and
sentences that only name a subject lie far from all. An item is found by a threshold that was set
then, so none changes whether another is found; of a domain's items that are found at one place the
nearest is active.

Shape suffixes: B rows, T tokens, U = T + 1 borders, A pairs of an item and a place that names it,
O places at which a pair is tried, K relation keys of an item, X numbers a token, E width of the
relation space.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from peer_cl.devices import brought
from peer_cl.own import NO_ITEM, OwnExperts
from peer_cl.passages import WINDOW as PASSAGE_WINDOW
from peer_cl.passages import PassageIndex, bar_of

WINDOW = 32
"""What is asked is looked for in so many tokens, and the subject has to stand among them."""


@dataclass(frozen=True)
class RelationSpace:
    """A base's space of relations; fixed when a store is made."""

    layers: tuple[int, ...]
    """After which its states are read."""
    last_XE: Tensor
    """From the last token's states to the space,"""
    mean_XE: Tensor
    """and from the mean over the window's tokens outside of the subject."""
    offset_E: Tensor
    usual_E: Tensor
    """Where background prompts lie on the average, each relation counted once."""
    threshold: float
    """Least score of a prompt that asks for an item's relation."""

    @property
    def text_threshold(self) -> float:
        """Least score in scored text, where an item is tried behind every token: half way to 1."""
        return (1 + self.threshold) / 2

    def maps_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return both maps into the space on a device, brought there once."""
        last_XE, mean_XE = brought(self, device, "last_XE", "mean_XE")
        return last_XE, mean_XE

    def points(self, last_X: Tensor, mean_X: Tensor) -> Tensor:
        """Return where prompts lie, from their states: (..., E), of length one."""
        return functional.normalize(
            last_X @ self.last_XE + mean_X @ self.mean_XE + self.offset_E, dim=-1
        )

    def scores(self, points: Tensor, keys_KE: Tensor) -> Tensor:
        """Return how near points (..., E) lie to the nearest of some keys, in cosines, against what
        is usual for them in the background: 1 at a key, 0 where it is no nearer than others.

        A prompt that lies near to every relation asks for none of them in particular.
        """
        usual = points @ self.usual_E
        return ((points @ keys_KE.T).amax(-1) - usual) / (1 - usual)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors, for a file."""
        return {
            "relation_layers": torch.tensor(self.layers),
            "relation_last": self.last_XE,
            "relation_mean": self.mean_XE,
            "relation_offset": self.offset_E,
            "relation_usual": self.usual_E,
            "relation_threshold": torch.tensor(self.threshold, dtype=torch.float64),
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> RelationSpace:
        """Return what `to_tensors` wrote; KeyError where a tensor is missing."""
        return RelationSpace(
            tuple(tensors["relation_layers"].tolist()),
            tensors["relation_last"],
            tensors["relation_mean"],
            tensors["relation_offset"],
            tensors["relation_usual"],
            float(tensors["relation_threshold"]),
        )


class Pairs(NamedTuple):
    """Items and the places that name them."""

    rows_A: Tensor
    begins_A: Tensor
    """The subject's first token,"""
    ends_A: Tensor
    """and the one after its last."""
    items: tuple[int, ...]


class FoundItem(NamedTuple):
    """A fact that a text asks for, or a passage that it repeats."""

    row: int
    item: int
    begin: int
    """The last token of a fact's subject; where a text begins to repeat a passage."""
    at: int
    """The token behind which its answer is expected, or what stands next in a passage."""
    until: int
    """In scored text, the token from which on it is no longer active."""
    score: float
    """Of a fact, `RelationSpace.scores` of its relation keys; of a passage, the share of what
    the last tokens tell that stands in it."""
    is_passage: bool = False


def directions(states: Sequence[Tensor]) -> Tensor:
    """Return states of several layers (B, T, D) as directions, side by side: (B, T, X), fp32."""
    return torch.cat([functional.normalize(one.float(), dim=-1) for one in states], -1)


def window_means(values_BTX: Tensor, counted_BT: Tensor, pairs: Pairs, at_AO: Tensor) -> Tensor:
    """Return means over the last `WINDOW` tokens that count, up to `at_AO` and outside the subject.

    Args:
        values_BTX: what is averaged; 0 where nothing is left.
        counted_BT: bool; which tokens count.
        pairs: whose subjects are left out.
        at_AO: int64, the last token of each window.

    Returns:
        (A, O, X).
    """
    counted_BT1 = counted_BT[..., None]
    sums_BUX = functional.pad(torch.where(counted_BT1, values_BTX, 0.0).cumsum(1), (0, 0, 1, 0))
    nums_BU = functional.pad(counted_BT.long().cumsum(1), (1, 0))
    rows_A1 = pairs.rows_A[:, None]
    last_AO = at_AO + 1
    first_AO = (last_AO - WINDOW).clamp_min(0)
    # Of the subject, what lies within the window.
    left_AO, right_AO = (
        torch.maximum(torch.minimum(one_A[:, None], last_AO), first_AO)
        for one_A in (pairs.begins_A, pairs.ends_A)
    )

    def between(of_BU: Tensor, low_AO: Tensor, high_AO: Tensor) -> Tensor:
        return of_BU[rows_A1, high_AO] - of_BU[rows_A1, low_AO]

    sums_AOX = between(sums_BUX, first_AO, last_AO) - between(sums_BUX, left_AO, right_AO)
    nums_AO = between(nums_BU, first_AO, last_AO) - between(nums_BU, left_AO, right_AO)
    return sums_AOX / nums_AO.clamp_min(1)[..., None]


class RelationStates:
    """A batch of texts in the space of relations.

    Args:
        space: the base's.
        states: the texts', by layer.
        counted_BT: bool; which tokens are evidence.
        present_BT: bool; False for padding.
    """

    def __init__(
        self,
        space: RelationSpace,
        states: Mapping[int, Tensor],
        counted_BT: Tensor,
        present_BT: Tensor,
    ) -> None:
        self.space, self.counted_BT, self.present_BT = space, counted_BT, present_BT
        with torch.no_grad():
            flat_BTX = directions([states[layer] for layer in space.layers])
            self._last_BTE, self._mean_BTE = (
                (flat_BTX @ one_XE).cpu() for one_XE in space.maps_on(flat_BTX.device)
            )

    def points(self, pairs: Pairs, at_AO: Tensor) -> Tensor:
        """Return what texts ask about subjects at some tokens: (A, O, E), of length one."""
        mean_AOE = window_means(self._mean_BTE, self.counted_BT, pairs, at_AO)
        last_AOE = self._last_BTE[pairs.rows_A[:, None], at_AO]
        return functional.normalize(last_AOE + mean_AOE + self.space.offset_E, dim=-1)


class JointIndex:
    """Which of many pools a text can be about at all, in one pass over it.

    A pool that is left out would find nothing; of the others each looks for itself.

    Args:
        indexes: of the pools.
    """

    def __init__(self, indexes: Sequence[ItemIndex]) -> None:
        self._by_subject: dict[tuple[int, ...], set[int]] = {}
        for place, index in enumerate(indexes):
            for subject in index.subjects():
                self._by_subject.setdefault(subject, set()).add(place)
        self._lengths = sorted({len(subject) for subject in self._by_subject})
        texts = [(place, ids) for place, index in enumerate(indexes) for ids in index.texts()]
        self._passages = PassageIndex([ids for _, ids in texts])
        self._owners = [place for place, _ in texts]

    def named(self, ids_BT: Tensor) -> list[int]:
        """Return the places of pools of which a subject stands in some text."""
        found = set[int]()
        for ids in ids_BT.tolist():
            for begin in range(len(ids)):
                for length in self._lengths:
                    found |= self._by_subject.get(tuple(ids[begin : begin + length]), set())
        return sorted(found)

    def repeated(
        self, ids_BT: Tensor, nats_BT: Tensor, *, is_prompt: bool, is_given: bool
    ) -> list[int]:
        """Return the places of pools of which some text may repeat a passage.

        `nats_BT`: what each token tells, as for `PassageIndex.find`; the others as for `bar_of`.
        """
        bar = bar_of(is_prompt=is_prompt, is_given=is_given)
        return sorted({self._owners[one] for one in self._passages.shared(ids_BT, nats_BT, bar)})


@functools.lru_cache(maxsize=4)
def _joint(indexes: tuple[ItemIndex, ...]) -> JointIndex:
    return JointIndex(indexes)


def joint_index(indexes: Sequence[ItemIndex]) -> JointIndex:
    """Return the joint index of some pools' items, made once for the same ones."""
    return _joint(tuple(indexes))


class ItemIndex:
    """The items of a pool: facts by their subjects, passages by their pairs of tokens.

    Args:
        own: the own experts of the pool's ingests, the oldest first.
    """

    def __init__(self, own: Sequence[OwnExperts]) -> None:
        self.items = tuple(item for one in own for item in one.items)
        self._num_experts = [one.num_experts for one in own for _ in one.items]
        self.relations = [keys_KE.float() for one in own for keys_KE in one.relations_IKE]
        self._by_subject: dict[tuple[int, ...], list[int]] = {}
        for number, item in enumerate(self.items):
            for subject in item.subjects:
                self._by_subject.setdefault(subject, []).append(number)
        self._lengths = sorted({len(subject) for subject in self._by_subject}, reverse=True)
        texts = [ids for one in own for ids in (one.texts or [None] * len(one.items))]
        self._texts = {number: ids for number, ids in enumerate(texts) if ids is not None}
        self._passage_items = list(self._texts)
        self._passages = PassageIndex([*self._texts.values()])
        self.vectors = [vectors_UE for one in own for vectors_UE in one.vectors]

    def named(self, ids_BT: Tensor, counted_BT: Tensor, present_BT: Tensor) -> tuple[Pairs, Tensor]:
        """Return the items whose subjects stand in texts, and from which token on each no longer
        counts, int64 (A,): of names within others the longest does, once it is read.
        """
        found: list[tuple[int, int, int, int, int]] = []
        firsts = present_BT.long().argmax(1).tolist()
        texts = zip(ids_BT.tolist(), counted_BT.tolist(), firsts, strict=True)
        for row, (ids, counted, first) in enumerate(texts):
            ends: list[int] = []  # of names that begin no later and may be longer
            for begin in range(len(ids)):
                ends = [end for end in ends if end > begin]
                for length in self._lengths:
                    end = begin + length
                    # A text's first token, which nothing predicts, may begin a name, too.
                    known = all(counted[begin + 1 : end]) and (counted[begin] or begin == first)
                    if end > len(ids) or not known:
                        continue
                    if items := self._by_subject.get(tuple(ids[begin:end])):
                        until = min((one for one in ends if one >= end), default=len(ids) + 1) - 1
                        found += [(row, begin, end, until, item) for item in items]
                        ends.append(end)
        columns = list(zip(*found, strict=True)) if found else [()] * 5
        rows_A, begins_A, ends_A, untils_A = (
            torch.tensor(one, dtype=torch.long) for one in columns[:4]
        )
        return Pairs(rows_A, begins_A, ends_A, tuple(columns[4])), untils_A

    def passages(
        self,
        ids_BT: Tensor,
        counted_BT: Tensor,
        nats_BT: Tensor,
        prompt_ends_B: Tensor | None = None,
        *,
        is_given: bool = False,
    ) -> list[FoundItem]:
        """Return the passages that texts repeat, in the order of the texts.

        Args:
            ids_BT, counted_BT, nats_BT: as for `PassageIndex.find`.
            prompt_ends_B: of prompts, the number of their last token plus one: only what they
                repeat at their end.
            is_given: of prompts, a passage that shares half of what one tells is repeated.
        """
        if not self._passage_items:
            return []
        bar = bar_of(is_prompt=prompt_ends_B is not None, is_given=is_given)
        if prompt_ends_B is not None:
            # Tokens differ between a text's beginning and the same words within one.
            counted_BT = counted_BT & (counted_BT.cumsum(1) > 1)
        found = []
        for one in self._passages.find(ids_BT, counted_BT, nats_BT, bar):
            end = one.until if prompt_ends_B is None else int(prompt_ends_B[one.row])
            if one.at < end <= one.until:
                begin = at = one.at
                if prompt_ends_B is not None:
                    # What was compared is read as it was learned: experts are active in all of it.
                    begin, at = min(one.at, max(0, end - PASSAGE_WINDOW)), end - 1
                item = self._passage_items[one.passage]
                found.append(FoundItem(one.row, item, begin, at, one.until, one.score, True))
        return found

    def named_in(self, ids: Sequence[int]) -> set[int]:
        """Return the facts whose subjects stand among token ids."""
        return {
            item
            for begin in range(len(ids))
            for length in self._lengths
            for item in self._by_subject.get(tuple(ids[begin : begin + length]), ())
        }

    def subjects(self) -> Iterable[tuple[int, ...]]:
        """Return all facts' subjects, as token ids."""
        return self._by_subject.keys()

    def texts(self) -> Iterable[Tensor]:
        """Return all passages' token ids."""
        return self._texts.values()

    def text(self, item: int) -> Tensor | None:
        """Return the token ids of a passage, its title included; None for a fact."""
        return self._texts.get(item)

    def has_experts(self, item: int) -> bool:
        """Return whether an item learned anything of its own."""
        return self._num_experts[item] > 0

    def find(
        self,
        states: RelationStates,
        ids_BT: Tensor,
        prompt_ends_B: Tensor | None = None,
        *,
        is_given: bool = False,
    ) -> list[FoundItem]:
        """Return the items that texts ask for, at most one at a place.

        Args:
            states: the texts'.
            ids_BT: their token ids.
            prompt_ends_B: of prompts, behind which token the answer is expected (its number plus
                one); default: it may be expected behind any token.
            is_given: of prompts, the nearest item whose subject is named, whatever its score.
        """
        space = states.space
        least = space.text_threshold if prompt_ends_B is None else space.threshold
        least = -torch.inf if is_given else least
        best: dict[tuple[int, int], FoundItem] = {}
        for one in self.scored(states, ids_BT, prompt_ends_B):
            other = best.get((one.row, one.at))
            # Of two that ask for the same, the one that was learned later.
            if one.score >= least and (
                other is None or (one.score, one.item) > (other.score, other.item)
            ):
                best[one.row, one.at] = one
        return sorted(best.values(), key=lambda one: (one.row, one.at))

    def scored(
        self, states: RelationStates, ids_BT: Tensor, prompt_ends_B: Tensor | None = None
    ) -> list[FoundItem]:
        """Return every item whose subject is named, at every place at which it may be asked for,
        with its score; args as for `find`.
        """
        pairs, untils_A = self.named(ids_BT, states.counted_BT, states.present_BT)
        if not pairs.items:
            return []
        if prompt_ends_B is None:
            at_AO = pairs.ends_A[:, None] - 1 + torch.arange(WINDOW)
        else:
            at_AO = prompt_ends_B[pairs.rows_A, None] - 1
        is_tried_AO = (at_AO < ids_BT.shape[1]) & (at_AO >= pairs.ends_A[:, None] - 1)
        is_tried_AO &= (pairs.begins_A[:, None] > at_AO - WINDOW) & (at_AO < untils_A[:, None])
        at_AO = at_AO.clamp_max(ids_BT.shape[1] - 1)
        is_tried_AO &= states.present_BT[pairs.rows_A[:, None], at_AO]
        points_AOE = states.points(pairs, at_AO)
        scores_AO = torch.stack(
            [
                states.space.scores(points_OE, self.relations[item])
                for points_OE, item in zip(points_AOE, pairs.items, strict=True)
            ]
        )
        return [
            FoundItem(
                row=int(pairs.rows_A[a]),
                item=pairs.items[a],
                begin=int(pairs.ends_A[a]) - 1,
                at=(at := int(at_AO[a, o])),
                until=at + self.items[pairs.items[a]].num_answer,
                score=float(scores_AO[a, o]),
            )
            for a, o in is_tried_AO.nonzero().tolist()
        ]

    def active(self, found: Sequence[FoundItem], shape: Sequence[int], is_prompt: bool) -> Tensor:
        """Return which item is active at each token, `NO_ITEM` for none: int64 (B, T).

        In a prompt it is active from where it begins on; in scored text, which is read causally,
        from where it is found on: a fact for as many tokens as its answer may have, a passage while
        it is repeated. Where a fact is asked for within a passage, the fact is active.
        """
        items_BT = torch.full(tuple(shape), NO_ITEM)
        for one in sorted(found, key=lambda one: not one.is_passage):
            if is_prompt:
                items_BT[one.row, one.begin :] = one.item
            else:
                items_BT[one.row, one.at : one.until] = one.item
        return items_BT

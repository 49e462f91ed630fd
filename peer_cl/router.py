"""The router's half for texts: the keys of domains, and which domains a text is like.

The other half finds the items that a prompt asks for: `peer_cl.items`.

A key holds what a domain's texts are like in the base's hidden states and in words, with
thresholds from the domain's own text and from background text. Each domain decides by its own key
alone: by thresholds, never a top-n, so no domain's presence changes another's. Words decide, and
states count a little.

Shape suffixes: B rows, R rows of one domain, T tokens, U = T + 1 borders between tokens, D width,
P domains, Q branches with the base first, S segments of a domain, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.devices import brought
from peer_cl.errors import DamageError
from peer_cl.items import RelationSpace
from peer_cl.terms import Terms

# --- states -------------------------------------------------------------------------------------

SHRINKAGE = 0.05
"""How far the background's covariance is pulled towards a multiple of the identity."""
TYPICALITY = 0.35
"""Nats that a token's fit loses for each unit of squared distance to the domain. A unit Gaussian's
log density would take a half; with about a third, near-domain text and the domain's own are told
apart best."""

NearestSearch = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Squared distances (T, P) of vectors (T, D) to the nearest row of each of P centroid sets."""


def nearest_distances(vectors_TD: Tensor, centroid_sets: Sequence[Tensor]) -> Tensor:
    """Return squared distances to the nearest centroid of each set, without an index.

    They are rounded once, from fp64, and computed as `stores.index` computes them: a domain that is
    in a store's index and one that is not are measured alike.

    Example:
        >>> nearest_distances(torch.tensor([[0.0, 3.0]]), [torch.tensor([[0.0, 1.0]])]).tolist()
        [[4.0]]
    """
    parts = vectors_TD.split(4096)  # more at a time would take gigabytes
    columns = [
        torch.cat([_nearest(part_TD, one_CD) for part_TD in parts]) for one_CD in centroid_sets
    ]
    return torch.stack(columns, -1)


def _nearest(vectors_TD: Tensor, centroids_CD: Tensor) -> Tensor:
    far_TC = torch.cdist(vectors_TD, centroids_CD, compute_mode="donot_use_mm_for_euclid_dist")
    # The nearest two in fp32 are told apart in fp64.
    ids_TK = far_TC.topk(min(2, len(centroids_CD)), largest=False, sorted=False).indices
    # numpy's sum has an order of its own, which decides the last bit.
    found_TKD = centroids_CD[ids_TK].detach().cpu().numpy()
    own_T1D = vectors_TD.detach().cpu().numpy()[:, None]
    gaps_TKD = np.subtract(own_T1D, found_TKD, dtype=np.float64)
    distances_T = np.square(gaps_TKD, out=gaps_TKD).sum(-1).min(-1)
    return torch.from_numpy(distances_T).to(vectors_TD.device, vectors_TD.dtype)


def whitening(states_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and the symmetric whitening matrix (D, D) of background states.

    More tokens than D give a useful covariance; fewer are still safe since it is shrunk.
    """
    states_TD = states_TD.double()
    mean_D = states_TD.mean(0)
    covariance_DD = torch.cov((states_TD - mean_D).T)
    scale = covariance_DD.diagonal().mean()
    eye_DD = torch.eye(len(mean_D), dtype=torch.float64)
    shrunk_DD = (1 - SHRINKAGE) * covariance_DD + SHRINKAGE * scale * eye_DD
    values_D, vectors_DD = torch.linalg.eigh(shrunk_DD)
    whitening_DD = vectors_DD @ torch.diag(values_D.rsqrt()) @ vectors_DD.T
    return mean_D.float(), whitening_DD.float()


# --- words --------------------------------------------------------------------------------------

UNSEEN_SHARE = 0.07
"""Of background text, at least this share is left for tokens that it does not hold, all equally
likely."""
PRIOR_TOKENS = 100
"""A domain's counts begin as those of so many tokens of background text: it has few texts."""
LEAST_LOG_ODDS = -2.0
"""A token speaks against a domain by no more nats: one that its few texts happen not to hold tells
little, and few such would outweigh all that they do hold."""
WINDOW = 32
"""Tokens of a text that thresholds look at: a prompt is often about as short."""
OWN_SHARE_LOST = 0.06
"""Share of the windows of a domain's own texts that may lie below its threshold."""


@dataclass(frozen=True)
class TokenCounts:
    """How often each token stands in some texts.

    Example:
        >>> counts = TokenCounts.of([[7, 5, 7]])
        >>> counts.at(torch.tensor([5, 6, 7])).tolist()
        [1.0, 0.0, 2.0]
    """

    ids_X: Tensor
    """int64, ascending."""
    counts_X: Tensor
    """int64."""

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]]) -> TokenCounts:
        """Return the counts of texts, each as token ids."""
        tokens = torch.tensor([token for ids in texts for token in ids], dtype=torch.long)
        return cls(*tokens.unique(return_counts=True))

    @cached_property
    def total(self) -> int:
        """How many tokens were counted."""
        return int(self.counts_X.sum())

    def at(self, ids: Tensor) -> Tensor:
        """Return how often each of these tokens was counted: fp64, of the same shape."""
        if not len(self.ids_X):
            return torch.zeros(ids.shape, dtype=torch.float64)
        places = torch.searchsorted(self.ids_X, ids.contiguous()).clamp_max(len(self.ids_X) - 1)
        found = self.counts_X[places].double()
        return torch.where(self.ids_X[places] == ids, found, 0.0)

    def without(self, ids_M: Tensor) -> TokenCounts:
        """Return these counts without those of some tokens."""
        kept_X = ~torch.isin(self.ids_X, ids_M)
        return TokenCounts(self.ids_X[kept_X], self.counts_X[kept_X])


@dataclass(frozen=True)
class BackgroundWords:
    """How likely each token is in background text; fixed when a store is made."""

    counts: TokenCounts
    vocabulary: int
    """How many words there are; at least 1."""
    marks_M: Tensor
    """Tokens that are no words, int64, ascending: they are neither counted nor evidence."""

    def likelihood(self, ids: Tensor) -> Tensor:
        """Return each word's probability: fp64, of the same shape; nan where a token is none."""
        total, once = max(1, self.counts.total), int((self.counts.counts_X == 1).sum())
        # Tokens not counted are as likely as those counted once (Good, 1953), so that after a few
        # pages of background not every other word looks like a domain's.
        unseen = max(UNSEEN_SHARE, once / total)
        likely = (1 - unseen) * (self.counts.at(ids) / total) + unseen / self.vocabulary
        return likely.masked_fill(torch.isin(ids, self.marks_M), torch.nan)

    def nats(self, ids: Tensor) -> Tensor:
        """Return what each word tells, minus its log probability: fp64; 0 where it is none."""
        return -self.likelihood(ids).log().nan_to_num(nan=0.0)


@dataclass(frozen=True)
class DomainWords:
    """What the texts that a segment learned are about."""

    counts: TokenCounts
    threshold: float
    """Nats a token, the mean over a text, from which on a text is about the same."""

    def log_odds(self, ids: Tensor, likelihood: Tensor) -> Tensor:
        """Return how much likelier tokens are here than in background text: nats, fp64.

        No less than `LEAST_LOG_ODDS`, and 0 for what is no word.
        """
        return word_log_odds(self.counts.at(ids), self.counts.total, likelihood)


def word_log_odds(counts: Tensor, total: int | Tensor, likelihood: Tensor) -> Tensor:
    """Return the log odds of tokens that stand so often among `total`, against background text.

    Example:
        >>> background = torch.tensor([0.001, 0.001, torch.nan], dtype=torch.float64)
        >>> counts = torch.tensor([9.0, 0.0, 0.0], dtype=torch.float64)
        >>> word_log_odds(counts, 900, background).round(decimals=2).tolist()
        [2.21, -2.0, 0.0]
    """
    likelier = (counts / likelihood + PRIOR_TOKENS) / (total + PRIOR_TOKENS)
    return likelier.log().clamp_min(LEAST_LOG_ODDS).nan_to_num(nan=0.0)


class Piece(NamedTuple):
    """Token ids of a document, or of a part of it, or of another wording of it."""

    group: str
    """The document's; near-duplicates share one."""
    ids: Sequence[int]


def make_words(background: BackgroundWords, texts: Sequence[Piece]) -> DomainWords:
    """Return the words of a segment.

    The threshold is what all but a few windows of its own texts reach, each seen by the words of
    other groups alone: its own, and a near-duplicate's, would make it look more like the domain
    than a new text will. Where all is one group, each half of a text is seen by the other.
    """
    learned = windows = list(texts)
    counts = TokenCounts.of(piece.ids for piece in learned).without(background.marks_M)
    if len({piece.group for piece in windows}) == 1:
        learned = windows = [half for piece in windows for half in _halves(piece)]
    of_group: dict[str, list[Sequence[int]]] = {}
    for piece in learned:
        of_group.setdefault(piece.group, []).append(piece.ids)
    own = {
        group: TokenCounts.of(all_ids).without(background.marks_M)
        for group, all_ids in of_group.items()
    }
    means: list[float] = []
    for piece in windows:
        ids_T = torch.tensor(piece.ids, dtype=torch.long)
        left_T = counts.at(ids_T) - own[piece.group].at(ids_T)
        total = counts.total - own[piece.group].total
        odds_T = word_log_odds(left_T, total, background.likelihood(ids_T))
        # The last window of a piece may be a few tokens, and tell anything.
        whole = [one for one in odds_T.split(WINDOW) if 2 * len(one) >= WINDOW]
        means += [float(one.mean()) for one in whole or [odds_T] if len(one)]
    reached = torch.tensor(means or [0.0], dtype=torch.float64)
    return DomainWords(counts, float(reached.quantile(OWN_SHARE_LOST)))


def _halves(piece: Piece) -> tuple[Piece, Piece]:
    middle = len(piece.ids) // 2
    return Piece("first", piece.ids[:middle]), Piece("second", piece.ids[middle:])


# --- what a store and its domains keep ----------------------------------------------------------


@dataclass(frozen=True)
class Background:
    """What background text looks like at the state layer; fixed when a store is made."""

    mean_D: Tensor
    whitening_DD: Tensor
    centroids_CD: Tensor
    held_XD: Tensor
    """fp16; whitened states of texts that gave no statistics, one after the other: they give
    thresholds."""
    held_lengths: Tensor
    """int64; how many states each of them has."""
    words: BackgroundWords
    beginnings: tuple[tuple[int, ...], ...] = ()
    """Token ids of how texts begin, the start token first: training keeps a pool quiet there."""
    relations: RelationSpace | None = None
    """Where prompts' relations lie; without it no item is found."""
    terms_V: Tensor | None = None
    """int64; which tokens are one term to questions (`peer_cl.terms`); without it none is found
    by a question."""
    starts: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By kind of items, "facts" and "passages": where their experts begin to learn, down and up
    (L, R, D), fp16; none: at random."""

    @cached_property
    def terms(self) -> Terms | None:
        """What tokens are to questions."""
        if self.terms_V is None:
            return None
        counts, marks_M = self.words.counts, self.words.marks_M
        return Terms.weighed(self.terms_V, counts.ids_X, counts.counts_X, marks_M)

    def whiten(self, states_TD: Tensor) -> Tensor:
        """Return states with the background's mean removed and its covariance made round, fp32."""
        device = states_TD.device
        mean_D, whitening_DD = brought(self, device, "mean_D", "whitening_DD")
        # Centroids were made in fp32, whatever the caller's autocast does to products.
        with torch.autocast(device.type, enabled=False):
            return (states_TD.float() - mean_D) @ whitening_DD

    def to_bytes(self) -> bytes:
        """Return the statistics as safetensors bytes."""
        tokens = [token for row in self.beginnings for token in row]
        lengths = [len(row) for row in self.beginnings]
        relations = {} if self.relations is None else self.relations.to_tensors()
        terms = {} if self.terms_V is None else {"terms": self.terms_V}
        starts = named_starts(self.starts, "start.")
        return save(
            relations
            | terms
            | starts
            | {
                "mean": self.mean_D.contiguous(),
                "whitening": self.whitening_DD.contiguous(),
                "centroids": self.centroids_CD.contiguous(),
                "held": self.held_XD.contiguous(),
                "held_lengths": self.held_lengths.contiguous(),
                "word_ids": self.words.counts.ids_X,
                "word_counts": self.words.counts.counts_X,
                "vocabulary": torch.tensor(self.words.vocabulary),
                "mark_ids": self.words.marks_M,
                "beginnings": torch.tensor(tokens, dtype=torch.int32),
                "beginning_lengths": torch.tensor(lengths, dtype=torch.long),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> Background:
        """Return the statistics that `to_bytes` wrote; DamageError for other bytes."""
        try:
            tensors = load(data)
            counts = TokenCounts(tensors["word_ids"], tensors["word_counts"])
            rows = tensors["beginnings"].split(tensors["beginning_lengths"].tolist())
            return Background(
                mean_D=tensors["mean"],
                whitening_DD=tensors["whitening"],
                centroids_CD=tensors["centroids"],
                held_XD=tensors["held"],
                held_lengths=tensors["held_lengths"],
                words=BackgroundWords(counts, int(tensors["vocabulary"]), tensors["mark_ids"]),
                beginnings=tuple(tuple(row.tolist()) for row in rows if len(row)),
                relations=(
                    RelationSpace.from_tensors(tensors) if "relation_layers" in tensors else None
                ),
                terms_V=tensors.get("terms"),
                starts=starts_in(tensors, "start."),
            )
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise DamageError(f"background statistics cannot be read: {error!r:.200}") from error


def named_starts(
    starts: Mapping[str, tuple[Tensor, Tensor]], before: str = ""
) -> dict[str, Tensor]:
    """Return the tensors that `starts_in` reads, by name."""
    return {
        f"{before}{kind}.{name}": one
        for kind, start in starts.items()
        for name, one in zip(("down", "up"), start, strict=True)
    }


def starts_in(tensors: Mapping[str, Tensor], before: str = "") -> dict[str, tuple[Tensor, Tensor]]:
    """Return where experts begin, by kind, of tensors named KIND.down and KIND.up."""
    kinds = [
        name.removeprefix(before).removesuffix(".down")
        for name in tensors
        if name.startswith(before) and name.endswith(".down")
    ]
    return {one: (tensors[f"{before}{one}.down"], tensors[f"{before}{one}.up"]) for one in kinds}


@dataclass(frozen=True, eq=False)
class RouterKey:
    """What a domain's own text looks like, and from which score on its pool is active."""

    centroids_CD: Tensor
    """Centroids of the domain's whitened states."""
    threshold: float
    """States speak for the domain where their mean log odds a token, in nats, reach this,"""
    least_fit: float = -math.inf
    """and where the mean fit a token, `fit_of`, reaches this,"""
    fit_slack: float = 0.0
    """less so much over the root of the number of tokens; both in nats."""
    cutoff: float = math.inf
    """A token's squared distance, over the width, counts for no more: some tokens lie a hundred
    times farther out than the others, in any text, and one of them would decide for all."""
    words: tuple[DomainWords, ...] = ()
    """Of each segment, at least one, the oldest first: the domain is found by the segment whose
    words a text has, and states count a little (`peer_cl.router`)."""

    def fit_of(self, log_odds: Tensor, distance: Tensor) -> Tensor:
        """Return how well tokens fit the domain: their log odds, less a share of their distance.

        Log odds alone are high for any text that differs from the background in the domain's
        direction; distance alone is small for what any domain shares with background text.
        """
        return log_odds - TYPICALITY * self.centroids_CD.shape[-1] * distance

    def to_bytes(self) -> bytes:
        """Return the key as safetensors bytes."""
        counts = [words.counts for words in self.words]
        limits = [self.threshold, self.least_fit, self.fit_slack, self.cutoff]
        least = [words.threshold for words in self.words]
        return save(
            {
                "centroids": self.centroids_CD.contiguous(),
                "limits": torch.tensor(limits, dtype=torch.float64),
                "word_ids": torch.cat([one.ids_X for one in counts]),
                "word_counts": torch.cat([one.counts_X for one in counts]),
                "word_lengths": torch.tensor([len(one.ids_X) for one in counts]),
                "word_thresholds": torch.tensor(least, dtype=torch.float64),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> RouterKey:
        """Return the key that `to_bytes` wrote; DamageError for other bytes."""
        try:
            tensors = load(data)
            threshold, least_fit, fit_slack, cutoff = tensors["limits"].tolist()
            sizes = tensors["word_lengths"].tolist()
            words = zip(
                tensors["word_ids"].split(sizes),
                tensors["word_counts"].split(sizes),
                tensors["word_thresholds"].tolist(),
                strict=True,
            )
            return RouterKey(
                centroids_CD=tensors["centroids"],
                threshold=threshold,
                least_fit=least_fit,
                fit_slack=fit_slack,
                cutoff=cutoff,
                words=tuple(
                    DomainWords(TokenCounts(ids_X.clone(), counts_X.clone()), least)
                    for ids_X, counts_X, least in words
                ),
            )
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise DamageError(f"a router key cannot be read: {error!r:.200}") from error


LEAK = 0.95
"""Weight that a token's evidence keeps from one token to the next: about 20 tokens of memory."""
MIN_TOKENS = 2
"""A text shorter than this finds no domain."""
LEAST_NATS = 5.0
"""Words that tell less than this in all find no domain: a few common ones may be a domain's."""
TRIED_TOKENS = 128
"""Found causally, a domain is tried at every token: the limits are those of so long a text."""
LEAST_NATS_TRIED = 2 * LEAST_NATS
"""What words have to tell there in all: somewhere in a long text a few are a domain's. Each nat
more lets a domain enter a token later, and lets a tenth fewer other domains in."""
STATES_SHARE = 0.1
"""Nats of words that a nat of states is worth: by how much the log odds of states pass what they
would need alone, or fall short of it."""
MOST_OF_STATES = 5.0
"""Nats of states count up to so many, for a domain or against it."""


# --- what tokens tell ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenEvidence:
    """What each token tells about each domain, before any averaging."""

    log_odds_BTP: Tensor
    """Half the difference of squared distances to background and domain, each at most the key's
    cutoff; above 0 for the domain."""
    distance_BTP: Tensor
    """Squared distance to the domain's nearest centroid, divided by the width and cut off."""
    counted_BT: Tensor
    """Which tokens count: neither padding, special nor masked."""
    words: tuple[Tensor, ...]
    """A domain each, (B, T, S): how much likelier a token is in the texts of each segment than in
    background text, nats."""


def token_evidence(
    states_BTD: Tensor,
    input_ids: Tensor,
    counted_BT: Tensor,
    *,
    background: Background,
    keys: Sequence[RouterKey],
    search: NearestSearch = nearest_distances,
) -> TokenEvidence:
    """Return the evidence of every token for every domain: O(C*D) a token, C centroids in all.

    `states_BTD` are the base's after the state layer, wherever they lie; all else is on the CPU. An
    index may serve `search`.
    """
    # Centroids and the index over them stay on the CPU, wherever the base runs; no gradient goes
    # through a decision.
    white_XD = background.whiten(states_BTD.detach().flatten(0, 1)).cpu()
    log_odds_XP, distance_XP = white_evidence(white_XD, background, keys, search)
    shape = states_BTD.shape[:2]
    likely_BT = background.words.likelihood(input_ids)
    return TokenEvidence(
        log_odds_XP.unflatten(0, shape),
        distance_XP.unflatten(0, shape),
        counted_BT,
        tuple(
            torch.stack([words.log_odds(input_ids, likely_BT) for words in key.words], -1)
            for key in keys
        ),
    )


class _WordTable:
    """The words of many domains' segments, looked up together."""

    def __init__(self, keys: Sequence[RouterKey]) -> None:
        words = [(place, one) for place, key in enumerate(keys) for one in key.words]
        self.owners_S = torch.tensor([place for place, _ in words], dtype=torch.long)
        self.least_S = torch.tensor([one.threshold for _, one in words], dtype=torch.float64)
        self._totals_S = torch.tensor([one.counts.total for _, one in words]).double()
        ids_X = torch.cat([one.counts.ids_X for _, one in words])
        self._ids_X, order_X = ids_X.sort(stable=True)
        self._counts_X = torch.cat([one.counts.counts_X for _, one in words])[order_X].double()
        sizes_S = torch.tensor([len(one.counts.ids_X) for _, one in words])
        self._segments_X = torch.arange(len(words)).repeat_interleave(sizes_S)[order_X]

    def log_odds(self, ids_BT: Tensor, likelihood_BT: Tensor) -> Tensor:
        """Return what `DomainWords.log_odds` does of every segment: (B, T, S), fp64."""
        ids_U, places_BT = ids_BT.unique(return_inverse=True)
        first_U = torch.searchsorted(self._ids_X, ids_U)
        nums_U = torch.searchsorted(self._ids_X, ids_U, right=True) - first_U
        rows_Y = torch.arange(len(ids_U)).repeat_interleave(nums_U)
        within_Y = torch.arange(len(rows_Y)) - (nums_U.cumsum(0) - nums_U)[rows_Y]
        found_Y = first_U[rows_Y] + within_Y
        counts_US = torch.zeros(len(ids_U), len(self._totals_S), dtype=torch.float64)
        counts_US[rows_Y, self._segments_X[found_Y]] = self._counts_X[found_Y]
        likely_U = likelihood_BT.new_zeros(len(ids_U))
        likely_U[places_BT.flatten()] = likelihood_BT.flatten()
        return word_log_odds(counts_US, self._totals_S, likely_U[:, None])[places_BT]


@functools.lru_cache(maxsize=4)
def _word_table(keys: tuple[RouterKey, ...]) -> _WordTable:
    return _WordTable(keys)


def possible_domains(
    keys: Sequence[RouterKey],
    input_ids: Tensor,
    counted_BT: Tensor,
    background: Background,
    lengths_B: Tensor | None = None,
) -> list[int]:
    """Return the places of those domains that texts may find, whatever their states say.

    States count little, and looking for the nearest centroid takes long where there are many
    domains: it is done for these alone, by which nothing that is found changes. Args as for
    `find_by_prompt`, and without `lengths_B` as for `find_causally`.
    """
    table = _word_table(tuple(keys))
    odds_BTS = table.log_odds(input_ids, background.words.likelihood(input_ids))
    if lengths_B is None:
        (words,), count = leaky_means([odds_BTS], counted_BT)
        least_nats = LEAST_NATS_TRIED
    else:
        counted_BT1 = (counted_BT & _first_tokens(counted_BT.shape[1], lengths_B))[..., None]
        words, count, least_nats = _mean(odds_BTS, counted_BT1), counted_BT1.sum(1), LEAST_NATS
    most_lenient_S = table.least_S - STATES_SHARE * MOST_OF_STATES
    needed = torch.maximum(most_lenient_S, least_nats / count.clamp_min(1))
    is_possible_S = (words >= needed - 1e-9).flatten(0, -2).any(0)
    places: list[int] = table.owners_S[is_possible_S].unique().tolist()
    return places


def white_evidence(
    white_XD: Tensor,
    background: Background,
    keys: Sequence[RouterKey],
    search: NearestSearch = nearest_distances,
) -> tuple[Tensor, Tensor]:
    """Return whitened states' log odds for each domain, and distance over the width: (X, P)."""
    width = white_XD.shape[-1]
    most_P = white_XD.new_tensor([key.cutoff * width for key in keys])
    own_XP = search(white_XD, [key.centroids_CD for key in keys])
    base_X1 = nearest_distances(white_XD, [background.centroids_CD])
    own_XP, base_XP = own_XP.minimum(most_P), base_X1.minimum(most_P)
    return 0.5 * (base_XP - own_XP), own_XP / width


# --- means over tokens, and the decision --------------------------------------------------------


def _found(
    keys: Sequence[RouterKey],
    log_odds_BP: Tensor,
    distance_BP: Tensor,
    words: Sequence[Tensor],
    *,
    count_B1: Tensor,
    words_count_B1: Tensor,
    least_nats: float,
) -> Tensor:
    """Return which domains are found by texts, or beginnings of texts: bool, (..., P).

    The means over a text's tokens are taken to be of so many tokens: `count_B1` of states, and
    `words_count_B1` of words, older ones counted by their weight. `least_nats` is what words have
    to tell in all.
    """
    found = []
    root_B = count_B1[..., 0].clamp_min(1).to(log_odds_BP.dtype).sqrt()
    for number, key in enumerate(keys):
        log_odds_B, distance_B = log_odds_BP[..., number], distance_BP[..., number]
        threshold, least_fit, fit_slack = log_odds_B.new_tensor(
            [key.threshold, key.least_fit, key.fit_slack]
        )
        # Few tokens are judged more loosely.
        fit_B = least_fit - fit_slack / root_B
        unfit_B = key.fit_of(torch.zeros_like(log_odds_B), distance_B)
        needed_B = torch.maximum(threshold, fit_B - unfit_B)
        lead_B = (log_odds_B - needed_B).clamp(-MOST_OF_STATES, MOST_OF_STATES)
        least_S = words[number].new_tensor([segment.threshold for segment in key.words])
        mean_BS = least_S - STATES_SHARE * lead_B[..., None]
        needed_BS = torch.maximum(mean_BS, least_nats / words_count_B1.clamp_min(1))
        found.append((words[number] >= needed_BS).any(-1))
    return torch.stack(found, -1) & (count_B1 >= MIN_TOKENS)


def _first_tokens(num_tokens: int, lengths_B: Tensor) -> Tensor:
    """Return which tokens are among each row's first ones: bool (B, T)."""
    return torch.arange(num_tokens, device=lengths_B.device) < lengths_B[:, None]


def _mean(values_BTP: Tensor, counted_BT1: Tensor) -> Tensor:
    """Return the mean of what counts, fp64.

    A running sum has one order whatever the number of domains; `sum` chooses one by the layout, and
    a decision at the very threshold would depend on which other domains there are.
    """
    totals_BTP = torch.where(counted_BT1, values_BTP.double(), 0.0).cumsum(1)
    return totals_BTP[:, -1] / counted_BT1.sum(1).clamp_min(1)


def leaky_means(values: Sequence[Tensor], counted_BT: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return, at each token, the means of what was counted so far, older tokens weighing less, and
    how many tokens that is, older ones counted by their weight: (B, T, 1).

    Other tokens neither add nor make older ones fade. All values, each (B, T, ...), are summed in
    one walk over the tokens.

    Example:
        >>> values, counted = torch.tensor([[[1.0], [9.0], [4.9]]]), torch.tensor([[1, 0, 1]])
        >>> (means,), _ = leaky_means([values.double()], counted.bool())
        >>> means[0, :, 0].round(decimals=4).tolist()
        [1.0, 1.0, 3.0]
    """
    ones_BT1 = torch.ones_like(values[0][..., :1])
    joint_BTP = torch.cat([*values, ones_BT1], -1).double()
    added_BTP = torch.where(counted_BT[..., None], joint_BTP, 0.0)
    faded_BT1 = torch.where(counted_BT[..., None], LEAK, 1.0).double()
    total_BP, totals = torch.zeros_like(joint_BTP[:, 0]), []
    for added_BP, faded_B1 in zip(added_BTP.unbind(1), faded_BT1.unbind(1), strict=True):
        total_BP = torch.addcmul(added_BP, total_BP, faded_B1)
        totals.append(total_BP)
    sizes = [one.shape[-1] for one in values]
    *sums, weight_BT1 = torch.stack(totals, 1).split([*sizes, 1], -1)
    return tuple(one / weight_BT1.clamp_min(1e-9) for one in sums), weight_BT1


# --- routing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Routing:
    """Which domains are active in a batch of texts, and from which token on."""

    domains: tuple[str, ...]
    at_PB: Tensor
    """int64; the border before which a domain enters a row with its prior, -1 for never."""

    def of(self, domains: Sequence[str]) -> Routing:
        """Return the part of some of these domains."""
        places = [self.domains.index(domain) for domain in domains]
        return Routing(tuple(domains), self.at_PB[places])


def find_causally(
    domains: Sequence[str], evidence: TokenEvidence, keys: Sequence[RouterKey]
) -> Routing:
    """Return before which token each domain enters a text that is scored from its first token.

    The decision after token i uses tokens 0..i alone. `evidence` and `keys` are of these domains.
    """
    counted_BT = evidence.counted_BT
    count_BT1 = counted_BT.cumsum(1)[..., None]
    (log_odds_BTP, distance_BTP, *words), words_count_BT1 = leaky_means(
        [evidence.log_odds_BTP, evidence.distance_BTP, *evidence.words], counted_BT
    )
    found_BTP = _found(
        keys,
        log_odds_BTP,
        distance_BTP,
        words,
        count_B1=torch.where(count_BT1 >= MIN_TOKENS, TRIED_TOKENS, 0),
        words_count_B1=words_count_BT1,
        least_nats=LEAST_NATS_TRIED,
    )
    first_BP = found_BTP.int().argmax(1)
    return Routing(tuple(domains), torch.where(found_BTP.any(1), first_BP + 1, -1).T)


def find_by_prompt(
    domains: Sequence[str],
    evidence: TokenEvidence,
    keys: Sequence[RouterKey],
    lengths_B: Tensor,
) -> Routing:
    """Return which domains' texts a prompt is like; each enters before its first token.

    `lengths_B` holds how many tokens of each row are its prompt, padding before it included.
    """
    counted_BT = evidence.counted_BT
    counted_BT1 = (counted_BT & _first_tokens(counted_BT.shape[1], lengths_B))[..., None]
    count_B1 = counted_BT1.sum(1)
    found_PB = _found(
        keys,
        _mean(evidence.log_odds_BTP, counted_BT1),
        _mean(evidence.distance_BTP, counted_BT1),
        [_mean(odds_BTS, counted_BT1) for odds_BTS in evidence.words],
        count_B1=count_B1,
        words_count_B1=count_B1,
        least_nats=LEAST_NATS,
    ).T
    return Routing(tuple(domains), found_PB.long() - 1)

"""Signatures: cheap evidence, from the base's own pass, that a text is a domain's.

A state is whitened with statistics of background text that are fixed once for a store. A domain's
signature is a set of centroids of its own whitened states. A token speaks for the domain by half
the difference of its squared distances to the nearest background centroid and to the nearest
centroid of the domain: the log odds of two equal mixtures of unit Gaussians, up to their densities.
Beside them stand the words of the domain's texts (`peer_cl.words`).

Shape suffixes: B rows, T tokens, D width, C centroids, P pools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peer_cl.errors import DamageError, InputError, ShapeError
from peer_cl.names import Names
from peer_cl.words import OrdinaryWords, TokenCounts, Words

SHRINKAGE = 0.05
"""How far the background's covariance is pulled towards a multiple of the identity."""

TYPICALITY = 0.35
"""Nats that a token's fit loses for each unit of squared distance to the domain. A unit Gaussian's
log density would take a half; with about a third, look-alikes and the domain's own text are told
apart best."""
NO_LIMITS = (0.0, math.inf, 0.0, math.inf, -math.inf, 0.0)
"""Threshold, distance, slack, cut-off, fit and its slack, where a signature has none."""

NearestSearch = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Squared distances (T, P) of vectors (T, D) to the nearest row of each of P centroid sets."""


_NEAR_TIES = 2
"""So many centroids, the nearest in fp32, are told apart in fp64."""
_ROWS = 4096
"""Vectors at a time: more would take gigabytes."""


def nearest_distances(vectors_TD: Tensor, centroid_sets: Sequence[Tensor]) -> Tensor:
    """Return squared distances to the nearest centroid of each set, without an index.

    They are rounded once, from fp64, and computed as `stores.vector_index` computes them: a pool
    that is in a store's index and one that is not are measured alike.

    Example:
        >>> nearest_distances(torch.tensor([[0.0, 3.0]]), [torch.tensor([[0.0, 1.0]])]).tolist()
        [[4.0]]
    """
    columns = [
        torch.cat([_nearest(rows_TD, set_CD) for rows_TD in vectors_TD.split(_ROWS)])
        for set_CD in centroid_sets
    ]
    return torch.stack(columns, -1) if columns else vectors_TD.new_zeros(len(vectors_TD), 0)


def _nearest(vectors_TD: Tensor, centroids_CD: Tensor) -> Tensor:
    far_TC = torch.cdist(vectors_TD, centroids_CD, compute_mode="donot_use_mm_for_euclid_dist")
    num = min(_NEAR_TIES, len(centroids_CD))
    ids_TK = far_TC.topk(num, largest=False, sorted=False).indices
    # numpy's sum has an order of its own, which decides the last bit.
    found_TKD = centroids_CD[ids_TK].detach().cpu().numpy()
    own_T1D = vectors_TD.detach().cpu().numpy()[:, None]
    gaps_TKD = np.subtract(own_T1D, found_TKD, dtype=np.float64)
    distances_T = np.square(gaps_TKD, out=gaps_TKD).sum(-1).min(-1)
    return torch.from_numpy(distances_T).to(vectors_TD.device, vectors_TD.dtype)


@dataclass(frozen=True)
class Background:
    """What ordinary text looks like at the signature layer; fixed when a store is made."""

    mean_D: Tensor
    whitening_DD: Tensor
    centroids_CD: Tensor
    held_XD: Tensor
    """Whitened states of texts that gave no statistics, one after the other, for thresholds."""
    held_lengths: Tensor
    """How many of them each text has."""
    words: OrdinaryWords | None = None
    """How likely each token is; None: of a store that was made before words counted."""

    def whiten(self, states_TD: Tensor) -> Tensor:
        """Return states with the background's mean removed and its covariance made round, fp32."""
        device = states_TD.device
        # What it is held against was made in fp32, whatever the caller's autocast does to products.
        with torch.autocast(device.type, enabled=False):
            return (states_TD.float() - self.mean_D.to(device)) @ self.whitening_DD.to(device)

    def to_bytes(self) -> bytes:
        """Return the statistics as safetensors bytes."""
        tensors = {name: getattr(self, field).contiguous() for name, field in _FIELDS.items()}
        if self.words is not None:
            counts = self.words.counts
            tensors |= {"word_ids": counts.ids_X, "word_counts": counts.counts_X}
            tensors["vocabulary"] = torch.tensor(self.words.vocabulary)
            if len(self.words.marks_M):
                tensors["mark_ids"] = self.words.marks_M
        return save(tensors)

    @staticmethod
    def from_bytes(data: bytes) -> Background:
        """Return the statistics that `to_bytes` wrote.

        Raises:
            DamageError: when the bytes cannot be read, or tensors are missing or unexpected.
        """
        tensors = _load(data, "background statistics")
        own, words = set(_FIELDS), None
        if set(tensors) not in (own, own | _ORDINARY_WORDS, own | _ORDINARY_WORDS | {"mark_ids"}):
            raise DamageError(f"background statistics hold tensors {sorted(tensors)}")
        if "vocabulary" in tensors:
            words = _read_ordinary(tensors)
        return Background(**{field: tensors[name] for name, field in _FIELDS.items()}, words=words)


_FIELDS = {
    "mean": "mean_D",
    "whitening": "whitening_DD",
    "centroids": "centroids_CD",
    "held": "held_XD",
    "held_lengths": "held_lengths",
}
_ORDINARY_WORDS = {"word_ids", "word_counts", "vocabulary"}
_WORDS = {"word_ids", "word_counts", "word_lengths", "word_thresholds"}
"""Of every segment, one after the other."""


def _load(data: bytes, what: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError as error:
        raise DamageError(f"{what} cannot be read as safetensors: {error}") from error


def whitening(states_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and the symmetric whitening matrix (D, D) of background states.

    Args:
        states_TD: float; more tokens than D give a useful covariance, fewer are still safe since
            it is shrunk towards a multiple of the identity.

    Raises:
        InputError: for fewer than two tokens, or states that are all equal or not finite.
    """
    if len(states_TD) < 2:
        raise InputError(f"background statistics need at least 2 tokens, not {len(states_TD)}")
    states_TD = states_TD.double()
    mean_D = states_TD.mean(0)
    covariance_DD = torch.cov((states_TD - mean_D).T)
    scale = covariance_DD.diagonal().mean()
    if not (torch.isfinite(covariance_DD).all() and scale > 0):
        raise InputError("background statistics need finite states that differ from each other")
    eye_DD = torch.eye(len(mean_D), dtype=torch.float64)
    shrunk_DD = (1 - SHRINKAGE) * covariance_DD + SHRINKAGE * scale * eye_DD
    values_D, vectors_DD = torch.linalg.eigh(shrunk_DD)
    whitening_DD = vectors_DD @ torch.diag(values_D.rsqrt()) @ vectors_DD.T
    return mean_D.float(), whitening_DD.float()


@dataclass(frozen=True)
class Signature:
    """What a domain's own text looks like, and from which score on its pool is asked."""

    centroids_CD: Tensor
    """Centroids of the domain's whitened states."""
    threshold: float
    """The pool is asked where the mean log odds a token reach this."""
    max_distance: float = math.inf
    """and the mean squared distance to its centroids, over the width, stays below this: the limit
    of signatures that were made before there was `least_fit`."""
    names: Names = field(default_factory=Names)
    """What the domain's documents and facts are about; used where a person opted in."""
    slack: float = 0.0
    """It may lie above by this share over the root of the number of tokens: few say less."""
    cutoff: float = math.inf
    """A token's squared distance, over the width, counts for no more: some tokens lie a hundred
    times farther out than the others, in any text, and one of them would decide for all."""
    least_fit: float = -math.inf
    """and the mean fit a token, `fit_of`, reaches this,"""
    fit_slack: float = 0.0
    """less so much over the root of the number of tokens; both in nats."""
    words: tuple[Words, ...] = ()
    """Of each segment, the oldest first: where there are any, the pool is asked by the segment
    whose words a text has, and states count a little (`peer_cl.shortlist`)."""

    def fit_of(self, log_odds: Tensor, distance: Tensor) -> Tensor:
        """Return how well tokens fit the domain: their log odds, less a share of their distance.

        Log odds alone are high for any text that differs from the background in the domain's
        direction; distance alone is small for what any domain shares with ordinary text.

        Args:
            log_odds: nats, any shape.
            distance: squared, over the width; the same shape.
        """
        return log_odds - TYPICALITY * self.centroids_CD.shape[-1] * distance

    def to_bytes(self) -> bytes:
        """Return the signature as safetensors bytes."""
        numbers = [self.threshold, self.max_distance, self.slack, self.cutoff]
        numbers += [self.least_fit, self.fit_slack]
        limits = torch.tensor(numbers, dtype=torch.float64)
        tensors = {"centroids": self.centroids_CD.contiguous(), "limits": limits}
        if len(self.names):
            tensors["names"] = self.names.hashes_X
            tensors["name_lengths"] = torch.tensor(self.names.lengths)
        if self.words:
            counts = [words.counts for words in self.words]
            tensors["word_ids"] = torch.cat([one.ids_X for one in counts])
            tensors["word_counts"] = torch.cat([one.counts_X for one in counts])
            tensors["word_lengths"] = torch.tensor([len(one.ids_X) for one in counts])
            thresholds = [words.threshold for words in self.words]
            tensors["word_thresholds"] = torch.tensor(thresholds, dtype=torch.float64)
        return save(tensors)

    @staticmethod
    def from_bytes(data: bytes) -> Signature:
        """Return the signature that `to_bytes` wrote.

        Raises:
            DamageError: when the bytes cannot be read, or tensors are missing or unexpected.
        """
        tensors = _load(data, "a signature")
        own, named = {"centroids", "limits"}, {"names", "name_lengths"}
        if set(tensors) not in (own, own | named, own | _WORDS, own | named | _WORDS):
            raise DamageError(f"a signature holds tensors {sorted(tensors)}")
        limits = tensors["limits"].tolist()
        if len(limits) not in (2, 4, 6):
            raise DamageError(f"a signature holds {len(limits)} limits, not 6")
        # The first stores had neither slack nor cut-off, later ones no fit.
        limits += NO_LIMITS[len(limits) :]
        threshold, max_distance, slack, cutoff, least_fit, fit_slack = limits
        names = Names()
        if "names" in tensors:
            names = Names(tensors["names"], tuple(tensors["name_lengths"].tolist()))
        return Signature(
            tensors["centroids"],
            threshold,
            max_distance,
            names,
            slack,
            cutoff,
            least_fit,
            fit_slack,
            _read_words(tensors) if "word_ids" in tensors else (),
        )


def check_background(background: Background | None, width: int) -> None:
    """Refuse background statistics of states of another width than the base's.

    Args:
        background: None, or the statistics.
        width: D of the base.

    Raises:
        ShapeError: naming both.
    """
    if background is None:
        return
    shapes = [background.mean_D.shape, background.whitening_DD.shape, background.centroids_CD.shape]
    if {size for shape in (*shapes[:2], shapes[2][1:]) for size in shape} != {width}:
        raise ShapeError(
            f"background statistics of shapes {', '.join(str(tuple(one)) for one in shapes)} do "
            f"not fit a base of width {width}: give those that were made with this base"
        )


def check_signature(name: str, signature: Signature | None, width: int) -> None:
    """Refuse a signature whose centroids are not as wide as the base's states.

    Args:
        name: the pool's.
        signature: None, or the pool's.
        width: D of the base.

    Raises:
        ShapeError: naming the pool and both widths.
    """
    if signature is not None and tuple(signature.centroids_CD.shape[1:]) != (width,):
        raise ShapeError(
            f"pool {name!r} has a signature with centroids of shape "
            f"{tuple(signature.centroids_CD.shape)}, which do not fit a base of width {width}: "
            "give one that was made with this base"
        )


def _read_ordinary(tensors: dict[str, Tensor]) -> OrdinaryWords:
    counts = TokenCounts(tensors["word_ids"], tensors["word_counts"])
    counts.check("background statistics")
    vocabulary = tensors["vocabulary"]
    if vocabulary.dtype != torch.long or vocabulary.ndim or int(vocabulary) < 1:
        raise DamageError(f"background statistics hold a vocabulary of {vocabulary.tolist()}")
    marks_M = tensors.get("mark_ids", torch.empty(0, dtype=torch.long))
    if marks_M.dtype != torch.long or marks_M.ndim != 1 or bool((marks_M.diff() <= 0).any()):
        raise DamageError("background statistics: ids of marks must be whole numbers that ascend")
    return OrdinaryWords(counts, int(vocabulary), marks_M)


def _read_words(tensors: dict[str, Tensor]) -> tuple[Words, ...]:
    what = "a signature's words"
    rows = [tensors[name] for name in sorted(_WORDS)]
    shown = [f"{name} {tuple(tensors[name].shape)}" for name in sorted(_WORDS)]
    if any(row.ndim != 1 for row in rows):
        raise DamageError(f"{what} are not rows of numbers: {', '.join(shown)}")
    sizes_S, thresholds_S = tensors["word_lengths"], tensors["word_thresholds"]
    ids_X, counts_X = tensors["word_ids"], tensors["word_counts"]
    fits = (
        sizes_S.dtype == torch.long
        and bool((sizes_S >= 0).all())
        and len(sizes_S) == len(thresholds_S)
        and int(sizes_S.sum()) == len(ids_X) == len(counts_X)
    )
    if not fits:
        raise DamageError(f"{what} do not fit together: {', '.join(shown)}")
    split = (row.split(sizes_S.tolist()) for row in (ids_X, counts_X))
    found = [
        Words(TokenCounts(ids.clone(), counts.clone()), threshold)
        for ids, counts, threshold in zip(*split, thresholds_S.tolist(), strict=True)
    ]
    for words in found:
        words.check(what)
    return tuple(found)

"""Log probabilities of documents under the base and each version: computed once, then stored.

A document's score under a version never changes, so it is kept in the registry under the version's
id and a key made of the token ids and the document's id. Every matrix and mixture figure is derived
from these scores. As when the model scores a text, the base's special tokens are no evidence: they
are read, and left out of what is kept.

Shape suffixes: Q branches with the base first, B rows, T tokens.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peer_cl.mixture import enter_at, mixture_log_probs
from peer_cl.model import PeerModel
from peer_cl.read import Reading, read
from peer_cl.router import find_by_prompt, token_evidence
from pipelines.batches import group_by_length, pad
from pipelines.progress import Progress
from stores.records import BASE_SUBJECT, NewScore, Score
from stores.registry import Registry

TOKENS_PER_PASS = 1024
MAX_TOKENS = 1024
"""Documents are scored up to this many tokens, or to the base's context where that is shorter."""
_KEY_VERSION = "score-3"


@dataclass(frozen=True)
class ScoredText:
    """One text to score: its token ids with the start token first."""

    ids: tuple[int, ...]
    document_id: str | None = None
    """The stored document, whose scores a purge has to find; None for background text."""
    is_cut: bool = False
    """Whether the text goes on, unscored."""
    special_ids: frozenset[int] = frozenset()
    """The base's special tokens, which are no evidence."""

    @functools.cached_property
    def key(self) -> str:
        """The name of its scores in the registry."""
        about = f"{_KEY_VERSION} {self.document_id or ''} ".encode()
        return hashlib.sha256(about + np.array(self.ids, dtype="<i8").tobytes()).hexdigest()

    @property
    def num_first_half(self) -> int:
        """How many tokens, the start token included, are the first half."""
        return 1 + (len(self.ids) - 1) // 2

    @functools.cached_property
    def is_counted_T(self) -> NDArray[np.bool_]:
        """Which tokens after the start token count: bool, one shorter than the ids."""
        return np.array([token not in self.special_ids for token in self.ids[1:]])


@dataclass(frozen=True)
class MixtureLoss:
    """Losses of a set of documents, in nats a token that counts, and the worst document."""

    base: float
    mixture: float
    max_added_nats: float
    """The worst document's whole loss above the base's; positive = lost."""


class ScoreBook:
    """Reads stored scores; computes and stores what is missing.

    The model holds every domain that is to be scored, in these versions.
    """

    def __init__(self, registry: Registry, model: PeerModel, versions: Mapping[str, str]) -> None:
        self.registry, self.model, self.versions = registry, model, dict(versions)
        self._scores: dict[tuple[str, str], Score] = {}

    def fill(self, items: Sequence[ScoredText], what: str, progress: Progress) -> None:
        """Make every score of these texts known, computing only what is not stored."""
        unique = {item.key: item for item in items}
        subjects = (BASE_SUBJECT, *self.versions.values())
        for subject in subjects:
            for key, stored in self.registry.queries.scores(subject, list(unique)).items():
                self._scores[subject, key] = stored
        alike: dict[tuple[str, ...], list[ScoredText]] = defaultdict(list)
        for item in unique.values():
            if missing := tuple(s for s in subjects if (s, item.key) not in self._scores):
                alike[missing].append(item)
        done, total = 0, sum(map(len, alike.values()))
        if total:
            progress(what, 0, total, "")
        for missing, some in alike.items():
            for group in group_by_length([len(item.ids) for item in some], TOKENS_PER_PASS):
                batch = [some[number] for number in group]
                new = self._compute(batch, missing)
                self.registry.put_scores(new)
                self._scores |= {(score.subject, score.document_key): score for score in new}
                done += len(batch)
                progress(what, done, total, "")

    @torch.no_grad()
    def _compute(self, batch: Sequence[ScoredText], missing: Sequence[str]) -> list[NewScore]:
        """Return the scores of some texts by the subjects that all of them miss."""
        ids_BT, mask_BT = pad([item.ids for item in batch], pad_id=0)
        domains = [domain for domain, version in self.versions.items() if version in missing]
        reading = read(self.model, ids_BT, mask_BT, domains=domains)
        domains = list(reading.domains)  # in the model's order, which may be another
        whole_PB, half_PB = self._find(reading, batch, domains)
        log_probs_QBT = reading.log_probs_QBT.numpy()
        return [
            NewScore(
                subject=subject,
                document_key=item.key,
                log_probs=log_probs_QBT[branch, row, 1 : len(item.ids)][item.is_counted_T],
                document_id=item.document_id,
                is_found=bool(whole_PB[branch - 1, row]) if branch else None,
                is_found_by_half=bool(half_PB[branch - 1, row]) if branch else None,
            )
            for branch, subject in enumerate((BASE_SUBJECT, *(self.versions[d] for d in domains)))
            if subject in missing
            for row, item in enumerate(batch)
        ]

    def _find(
        self, reading: Reading, batch: Sequence[ScoredText], domains: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Return in which texts the router finds each domain: by the whole, by the first half."""
        found = torch.zeros(2, len(domains), len(batch), dtype=torch.bool)
        lengths = [len(item.ids) for item in batch], [item.num_first_half for item in batch]
        keys = {d: key for d in domains if (key := self.model.pool(d).key) is not None}
        if keys and self.model.background is not None:
            evidence = token_evidence(
                reading.state_BTD,
                reading.input_ids,
                reading.evidence_BT,
                background=self.model.background,
                keys=list(keys.values()),
            )
            places = [domains.index(domain) for domain in keys]
            for part_PB, own in zip(found, lengths, strict=True):
                routing = find_by_prompt(
                    tuple(keys), evidence, list(keys.values()), torch.tensor(own)
                )
                part_PB[places] = routing.at_PB >= 0
        for place, domain in enumerate(domains):
            for item in reading.items.get(domain, ()):
                for part_PB, own in zip(found, lengths, strict=True):
                    part_PB[place, item.row] |= item.at < own[item.row]
        return found[0], found[1]

    def log_probs(self, subject: str, item: ScoredText) -> NDArray[np.float64]:
        """Return the log probability of each token that counts, nats."""
        return self._scores[subject, item.key].log_probs

    def stack(self, versions: Sequence[str], item: ScoredText) -> Tensor:
        """Return (Q, 1, T) log probabilities of the tokens that count, the base's first."""
        rows = [self.log_probs(subject, item) for subject in (BASE_SUBJECT, *versions)]
        return torch.from_numpy(np.stack(rows))[:, None]

    def is_found(self, version: str, item: ScoredText) -> bool:
        """Return whether the router finds a version's domain by a whole text."""
        return bool(self._scores[version, item.key].is_found)

    def is_found_by_half(self, version: str, item: ScoredText) -> bool:
        """Return whether the router finds a version's domain by a text's first half."""
        return bool(self._scores[version, item.key].is_found_by_half)

    def loss(self, subject: str, items: Sequence[ScoredText]) -> float:
        """Return a subject's loss over texts, nats a token that counts."""
        total = -sum(float(self.log_probs(subject, item).sum()) for item in items)
        return total / self.num_tokens(items)

    def num_tokens(self, items: Sequence[ScoredText]) -> int:
        """Return how many tokens of texts count; at least 1, to divide by."""
        return max(1, sum(len(self.log_probs(BASE_SUBJECT, item)) for item in items))

    def mixture_loss(self, versions: Sequence[str], items: Sequence[ScoredText]) -> MixtureLoss:
        """Return the mixture's loss with every version active from the first token."""
        base = mixture = 0.0
        worst = -np.inf
        for item in items:
            own_base = float(self.log_probs(BASE_SUBJECT, item).sum())
            own_mixture = float(mixed(self.stack(versions, item), self.model.prior).sum())
            base, mixture = base - own_base, mixture - own_mixture
            worst = max(worst, own_base - own_mixture)
        num_tokens = self.num_tokens(items)
        return MixtureLoss(base / num_tokens, mixture / num_tokens, worst)

    def continuation_losses(
        self, versions: Sequence[str], own: str, items: Sequence[ScoredText]
    ) -> tuple[float, float, float]:
        """Return summed losses of second halves: by the base, by one version, by the mixture.

        The first half decides which domains are found; evidence counts from its first token.
        """
        base = oracle = mixture = 0.0
        for item in items:
            start = int(item.is_counted_T[: item.num_first_half - 1].sum())
            found = [version for version in versions if self.is_found_by_half(version, item)]
            base -= float(self.log_probs(BASE_SUBJECT, item)[start:].sum())
            oracle -= float(self.log_probs(own, item)[start:].sum())
            mixture -= float(mixed(self.stack(found, item), self.model.prior)[start:].sum())
        return base, oracle, mixture


def mixed(log_probs_Q1T: Tensor, prior: float) -> Tensor:
    """Return the mixture's log probability of each token that is evidence, (T,).

    Every branch after the base's is active from the first token, with this prior.
    """
    num_branches, _, num_tokens = log_probs_Q1T.shape
    evidence_1T = torch.ones(1, num_tokens, dtype=torch.bool)
    active_at_P1 = torch.zeros(num_branches - 1, 1, dtype=torch.long)
    entries_PBU = enter_at(prior, active_at_P1, num_tokens)
    return mixture_log_probs(log_probs_Q1T, evidence_1T, entries_PBU)[0]

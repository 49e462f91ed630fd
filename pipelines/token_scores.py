"""Log probabilities of documents under the base and each version: computed once, then stored.

The score of a document under a version never changes, so it is kept in the registry under the
version's id and a key made of the token ids. Every matrix and mixture figure is derived from them.

Shape suffixes: Q branches with the base first, B rows, T tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peer_cl.branches import (
    default_position_ids,
    read_states,
    run_base,
    run_branch,
    token_log_probs,
)
from peer_cl.model import PeerModel
from peer_cl.pool import Segment
from peer_cl.shortlist import Means, asked_by_means, token_evidence
from peer_cl.signature import Signature
from pipelines.batches import group_by_length, pad
from pipelines.progress import Progress
from stores import NewScore, Registry

BASE = "base"
TOKENS_PER_PASS = 1024
MAX_TOKENS = 1024
"""Documents are scored up to this many tokens, or to the base's context where that is shorter."""
_VERSION = "score-1"


@dataclass(frozen=True)
class Item:
    """One text to score: its token ids with the start token first."""

    ids: tuple[int, ...]
    document_id: str | None = None
    """The stored document that it is of, so that a purge finds its scores."""
    is_cut: bool = False
    """Whether the text goes on, unscored."""

    @property
    def key(self) -> str:
        """The name of its log probabilities in the registry."""
        return self._name("tokens")

    @property
    def ask_key(self) -> str:
        """The name of its signature evidence in the registry."""
        return self._name("ask")

    @property
    def context_length(self) -> int:
        """How many tokens, the start token included, are the first half."""
        return 1 + (len(self.ids) - 1) // 2

    def _name(self, what: str) -> str:
        data = np.array(self.ids, dtype="<i8").tobytes()
        return hashlib.sha256(f"{_VERSION} {what} ".encode() + data).hexdigest()


@dataclass(frozen=True)
class VersionBranch:
    """A version of a domain, ready to run."""

    version: str
    segments: Sequence[Segment]
    signature: Signature


@dataclass(frozen=True)
class Asked:
    """What a version's signature says of a text: as a whole, and of its first half. Names are left
    out: they are for questions, and whether one counts is not known from what is stored."""

    whole: bool
    first_half: bool


class ScoreBook:
    """Reads stored scores, and computes and stores what is missing.

    Args:
        registry: an open store.
        model: the store's model; its own pools are not used.
        versions: every version that is to be scored.
    """

    def __init__(
        self, registry: Registry, model: PeerModel, versions: Sequence[VersionBranch]
    ) -> None:
        self.registry, self.model = registry, model
        self.versions = {branch.version: branch for branch in versions}
        self._tokens: dict[tuple[str, str], np.ndarray] = {}
        self._evidence: dict[tuple[str, str], np.ndarray] = {}

    def fill(self, items: Sequence[Item], what: str, progress: Progress) -> None:
        """Make every score of these items known, computing only what is not stored."""
        # A background text may be a stored document's too, and goes when that is purged.
        unique = {item.key: item for item in items if item.document_id is None}
        unique |= {item.key: item for item in items if item.document_id is not None}
        for subject in (BASE, *self.versions):
            self._read(subject, list(unique.values()))
        missing = [item for item in unique.values() if self._missing(item)]
        done = 0
        for group in group_by_length([len(item.ids) for item in missing], TOKENS_PER_PASS):
            batch = [missing[number] for number in group]
            self.registry.put_scores(self._compute(batch))
            done += len(batch)
            progress(what, done, len(missing), "")

    def _read(self, subject: str, items: Sequence[Item]) -> None:
        found = self.registry.scores(subject, [item.key for item in items])
        asked = {} if subject == BASE else self.registry.scores(subject, [i.ask_key for i in items])
        for item in items:
            if item.key in found:
                self._tokens[subject, item.key] = np.frombuffer(found[item.key], "<f8")
            if item.ask_key in asked:
                self._evidence[subject, item.ask_key] = np.frombuffer(asked[item.ask_key], "<f8")

    def _missing(self, item: Item) -> list[str]:
        """Return the versions, or the base, that have not scored an item."""
        subjects = [BASE, *self.versions]
        return [
            s
            for s in subjects
            if (s, item.key) not in self._tokens
            or (s != BASE and (s, item.ask_key) not in self._evidence)
        ]

    @torch.no_grad()
    def _compute(self, batch: Sequence[Item]) -> list[NewScore]:
        ids_BT, mask_BT = pad([item.ids for item in batch], pad_id=0)
        attachment = self.model.attachment
        wanted = {subject for item in batch for subject in self._missing(item)}
        new: list[NewScore] = []
        if BASE in wanted:
            base = run_base(attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
            tap_BTD, signature_BTD = base.tap_BTD, base.signature_BTD
            new += self._keep(BASE, batch, token_log_probs(base.logits_BTV, ids_BT))
        else:
            tap_BTD, signature_BTD = read_states(attachment, ids_BT, mask_BT)
        counted_BT = mask_BT.bool()
        counted_BT[:, 0] = False
        for version in sorted(wanted - {BASE}):
            branch = self.versions[version]
            logits_BTV = run_branch(
                attachment,
                branch.segments,
                tap_BTD,
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
            )
            new += self._keep(version, batch, token_log_probs(logits_BTV, ids_BT))
            new += self._judge(branch, batch, signature_BTD, ids_BT, counted_BT)
        return new

    def _keep(self, subject: str, batch: Sequence[Item], log_probs_BT: Tensor) -> list[NewScore]:
        new = []
        for item, row in zip(batch, log_probs_BT, strict=True):
            values = row[1 : len(item.ids)].numpy().astype("<f8")
            self._tokens[subject, item.key] = values
            new.append(
                NewScore(
                    subject=subject,
                    document_key=item.key,
                    values=values.tobytes(),
                    num_tokens=len(values),
                    document_id=item.document_id,
                )
            )
        return new

    def _judge(
        self,
        branch: VersionBranch,
        batch: Sequence[Item],
        states_BTD: Tensor,
        ids_BT: Tensor,
        counted_BT: Tensor,
    ) -> list[NewScore]:
        """Keep the means of evidence of each whole text and of its first half."""
        if self.model.background is None:
            return []
        evidence = token_evidence(
            states_BTD,
            ids_BT,
            counted_BT,
            background=self.model.background,
            signatures=[branch.signature],
        )
        told = (evidence.log_odds_BTP, evidence.distance_BTP, *evidence.words)
        told_BTE = torch.cat([one.double() for one in told], -1)
        new = []
        for row, item in enumerate(batch):
            ends = (len(item.ids), item.context_length)
            means = [told_BTE[row, 1:end].mean(0) for end in ends]
            array = torch.cat(means).nan_to_num(-np.inf).numpy().astype("<f8")
            self._evidence[branch.version, item.ask_key] = array
            new.append(
                NewScore(
                    subject=branch.version,
                    document_key=item.ask_key,
                    values=array.tobytes(),
                    num_tokens=len(array),
                    document_id=item.document_id,
                )
            )
        return new

    def log_probs(self, subject: str, item: Item) -> np.ndarray:
        """Return the log probability of each token after the start token, fp64, nats."""
        return self._tokens[subject, item.key]

    def stack(self, versions: Sequence[str], item: Item) -> Tensor:
        """Return (Q, 1, T) log probabilities, the base first, then these versions."""
        rows = [self.log_probs(subject, item) for subject in (BASE, *versions)]
        return torch.from_numpy(np.stack(rows))[:, None]

    def asked(self, version: str, item: Item) -> Asked:
        """Return whether a version is asked by a text, given whole or by its first half."""
        signature = self.versions[version].signature
        lengths_B = torch.tensor([len(item.ids), item.context_length])
        told_BE = torch.tensor(self._evidence[version, item.ask_key]).view(len(lengths_B), -1)
        log_odds_B1, distance_B1, words_BS = told_BE.tensor_split((1, 2), -1)
        means = Means(log_odds_B1, distance_B1, lengths_B[:, None] - 1, (words_BS,))
        whole, context = asked_by_means(means, [signature])[:, 0].tolist()
        return Asked(whole, context)


def sums(book: ScoreBook, subject: str, items: Sequence[Item]) -> float:
    """Return a subject's loss over items, nats a token."""
    total = sum(-float(book.log_probs(subject, item).sum()) for item in items)
    return total / max(1, sum(len(item.ids) - 1 for item in items))

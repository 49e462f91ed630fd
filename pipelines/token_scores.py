"""Log probabilities of documents under the base and each version: computed once, then stored.

The score of a document under a version never changes, so it is kept in the registry under the
version's id and a key made of the token ids and the document's id. Every matrix and mixture figure
is derived from them. As when the model itself scores a text, the base's special tokens are no
evidence: they are read, and left out of what is kept.

Shape suffixes: Q branches with the base first, B rows, T tokens.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from peer_cl.scoring import evidence_tokens
from peer_cl.shortlist import Means, asked_by_means, token_evidence
from peer_cl.signature import Signature
from pipelines.batches import group_by_length, pad
from pipelines.progress import Progress
from stores import NewScore, Registry
from stores.patience import patiently

BASE = "base"
TOKENS_PER_PASS = 1024
MAX_TOKENS = 1024
"""Documents are scored up to this many tokens, or to the base's context where that is shorter."""
_VERSION = "score-1"
_WITHOUT_SPECIAL = "score-2"
"""Of texts with special tokens, which counted before; all other texts keep their scores."""


@dataclass(frozen=True)
class Item:
    """One text to score: its token ids with the start token first."""

    ids: tuple[int, ...]
    document_id: str | None = None
    """The stored document that it is of, whose scores are its own, so that a purge finds them; None
    for background text."""
    is_cut: bool = False
    """Whether the text goes on, unscored."""
    special_ids: frozenset[int] = frozenset()
    """The base's special tokens, which are no evidence."""

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

    @functools.cached_property
    def counted_T(self) -> Tensor:
        """Which tokens after the start token count: bool, one shorter than the ids."""
        special_ids = torch.tensor(sorted(self.special_ids), dtype=torch.long)
        return evidence_tokens(torch.tensor([self.ids]), None, special_ids)[0, 1:]

    @property
    def num_counted(self) -> int:
        """How many tokens count."""
        return int(self.counted_T.sum())

    @property
    def num_counted_context(self) -> int:
        """How many tokens of the first half count."""
        return int(self.counted_T[: self.context_length - 1].sum())

    def shared_keys(self) -> dict[str, str]:
        """Return what a document's scores are named, by how they were when a name was the tokens'
        alone: texts that begin alike then shared one, and so did background text."""
        shared = replace(self, document_id=None)
        return {shared.key: self.key, shared.ask_key: self.ask_key}

    def _name(self, what: str) -> str:
        version = _VERSION if self.special_ids.isdisjoint(self.ids[1:]) else _WITHOUT_SPECIAL
        about = " ".join([version, what, *([self.document_id] if self.document_id else [])])
        data = np.array(self.ids, dtype="<i8").tobytes()
        return hashlib.sha256(f"{about} ".encode() + data).hexdigest()


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
        unique = {item.key: item for item in items}
        for subject in (BASE, *self.versions):
            self._read(subject, list(unique.values()))
        older = [item for item in unique.values() if item.document_id and self._missing(item)]
        if older and self._adopt(older, functools.partial(progress, what, 0, len(older))):
            for subject in (BASE, *self.versions):
                self._read(subject, older)
        missing = [item for item in unique.values() if self._missing(item)]
        done = 0
        for group in group_by_length([len(item.ids) for item in missing], TOKENS_PER_PASS):
            batch = [missing[number] for number in group]
            put = functools.partial(self.registry.put_scores, self._compute(batch))
            patiently(put, functools.partial(progress, what, done, len(missing)))
            done += len(batch)
            progress(what, done, len(missing), "")

    def _adopt(self, items: Sequence[Item], waiting: Callable[[str], object]) -> int:
        """Give documents' scores of before the names that they have now; return how many names."""
        renamed: dict[str, dict[str, str]] = {}
        for item in items:
            renamed.setdefault(item.document_id or "", {}).update(item.shared_keys())
        return patiently(functools.partial(self.registry.rename_scores, renamed), waiting)

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
            new += self._judge(branch, batch, signature_BTD, ids_BT, mask_BT)
        return new

    def _keep(self, subject: str, batch: Sequence[Item], log_probs_BT: Tensor) -> list[NewScore]:
        new = []
        for item, row in zip(batch, log_probs_BT, strict=True):
            if (subject, item.key) in self._tokens:  # what is stored stays, to the bit
                continue
            values = row[1 : len(item.ids)][item.counted_T].numpy().astype("<f8")
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
        mask_BT: Tensor,
    ) -> list[NewScore]:
        """Keep the means of evidence of each whole text and of its first half."""
        if self.model.background is None:
            return []
        evidence = token_evidence(
            states_BTD,
            ids_BT,
            mask_BT.bool(),  # which of them count is the items' to say
            background=self.model.background,
            signatures=[branch.signature],
        )
        told = (evidence.log_odds_BTP, evidence.distance_BTP, *evidence.words)
        told_BTE = torch.cat([one.double() for one in told], -1)
        new = []
        for row, item in enumerate(batch):
            if (branch.version, item.ask_key) in self._evidence:
                continue
            ends = (len(item.ids), item.context_length)
            means = [told_BTE[row, 1:end][item.counted_T[: end - 1]].mean(0) for end in ends]
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
        """Return the log probability of each token that counts, fp64, nats."""
        return self._tokens[subject, item.key]

    def stack(self, versions: Sequence[str], item: Item) -> Tensor:
        """Return (Q, 1, T) log probabilities of what counts, the base's first, then versions'."""
        rows = [self.log_probs(subject, item) for subject in (BASE, *versions)]
        return torch.from_numpy(np.stack(rows))[:, None]

    def asked(self, version: str, item: Item) -> Asked:
        """Return whether a version is asked by a text, given whole or by its first half."""
        signature = self.versions[version].signature
        counts_B1 = torch.tensor([[item.num_counted], [item.num_counted_context]])
        told_BE = torch.tensor(self._evidence[version, item.ask_key]).view(len(counts_B1), -1)
        log_odds_B1, distance_B1, words_BS = told_BE.tensor_split((1, 2), -1)
        means = Means(log_odds_B1, distance_B1, counts_B1, (words_BS,))
        whole, context = asked_by_means(means, [signature])[:, 0].tolist()
        return Asked(whole, context)


def sums(book: ScoreBook, subject: str, items: Sequence[Item]) -> float:
    """Return a subject's loss over items, nats a token that counts."""
    total = sum(-float(book.log_probs(subject, item).sum()) for item in items)
    return total / max(1, sum(len(book.log_probs(subject, item)) for item in items))

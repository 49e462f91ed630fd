"""Branches behind the mixture: pools or adapters, one a domain, that never depend on each other.

Shape suffixes: B rows, T tokens, V vocabulary, P branches, Q = P + 1 with the base first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from peer_cl.branches import (
    default_position_ids,
    read_states,
    run_base,
    run_branch,
    run_trunk,
)
from peer_cl.choice import Choice, choose_by_context
from peer_cl.model import PeerModel
from peer_cl.pool import Segment
from peer_cl.scoring import evidence_tokens
from peer_cl.shortlist import token_evidence
from peer_cl.signature import Signature
from pipelines.batches import group_by_length, pad
from pipelines.token_scores import TOKENS_PER_PASS


class Branches(Protocol):
    """A base, and for each domain a model that is the base with something added."""

    names: tuple[str, ...]

    def base(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the base's logits (B, T, V)."""

    def branch(self, name: str, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return a domain's logits (B, T, V)."""


class PoolBranches:
    """Our pools: layers from the tap up with a pool on."""

    def __init__(self, model: PeerModel, segments: dict[str, Sequence[Segment]]) -> None:
        self.model, self.segments = model, segments
        self.names = tuple(segments)

    def base(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the bare model's logits."""
        attachment = self.model.attachment
        return run_base(
            attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
        ).logits_BTV

    def branch(self, name: str, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Return the logits with one domain's pool forced on."""
        attachment = self.model.attachment
        tap_BTD = run_trunk(attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        return run_branch(
            attachment,
            self.segments[name],
            tap_BTD,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
        )


@dataclass(frozen=True)
class Shortlist:
    """Which domains a text asks: the store's signatures, for pools and for adapters alike."""

    model: PeerModel
    signatures: dict[str, Signature]
    name_odds: float = 0.0
    """What a domain has beside its share where a context names it, as odds against the base."""

    @torch.no_grad()
    def asked(
        self, rows: Sequence[Sequence[int]], lengths: Sequence[int] | None = None
    ) -> dict[str, list[bool]]:
        """Return by domain whether each row's first tokens ask it.

        Args:
            rows: token ids, the start token first.
            lengths: how many tokens of each row are context; default: all.
        """
        lengths = [len(row) for row in rows] if lengths is None else lengths
        heads = [tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)]
        found = {name: [False] * len(rows) for name in self.signatures}
        for group in group_by_length([len(head) for head in heads], TOKENS_PER_PASS):
            ids_BT, mask_BT = pad([heads[number] for number in group], pad_id=0)
            lengths_B = torch.tensor([len(heads[number]) for number in group])
            choice = self.choose_batch(ids_BT, mask_BT, lengths_B)
            for name, at_B in zip(choice.pools, choice.at_PB.tolist(), strict=True):
                for number, at in zip(group, at_B, strict=True):
                    found[name][number] = at >= 0
        return found

    def choose_batch(self, ids_BT: Tensor, mask_BT: Tensor, lengths_B: Tensor) -> Choice:
        """Return which domains the first tokens of each row ask."""
        names, signatures = tuple(self.signatures), list(self.signatures.values())
        if self.model.background is None or not signatures:
            return Choice(names, torch.full((len(names), len(ids_BT)), -1))
        _, states_BTD = read_states(self.model.attachment, ids_BT, mask_BT)
        evidence = token_evidence(
            states_BTD,
            ids_BT,
            evidence_tokens(ids_BT, mask_BT, self.model.special_ids),
            background=self.model.background,
            signatures=signatures,
        )
        return choose_by_context(names, ids_BT, evidence, signatures, lengths_B, self.name_odds)

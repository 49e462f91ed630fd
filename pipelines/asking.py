"""Asking: what the base, a question's own domain and the mixture answer, and who would speak.

An answer is right when each of its tokens is the likeliest one after the prompt and the answer's
earlier tokens: then, and only then, greedy decoding writes it.

Shape suffixes: B rows, T tokens, V vocabulary, P branches, Q = P + 1 with the base first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peer_cl.branches import logits_at, row_log_probs, token_log_probs
from peer_cl.choice import Choice, settle
from peer_cl.held import Held, guide, mix_last
from peer_cl.mixture import (
    enter_at,
    held_weights,
    log_masses,
    log_weights,
    mixture_log_probs,
)
from peer_cl.scoring import evidence_tokens
from pipelines.batches import group_by_length, pad
from pipelines.branches import Branches, Shortlist
from pipelines.questions import Question
from pipelines.token_scores import TOKENS_PER_PASS

GUIDANCE = 1.25
"""The guidance scale at which answers are looked at beside the mixture's own."""


@dataclass(frozen=True)
class Told:
    """What was answered to one question, and who would speak."""

    base: bool
    forced: bool
    """The question's own domain alone; False where it has none."""
    mixture: bool
    guided: bool
    """The mixture with a guidance scale of GUIDANCE."""
    weights: dict[str, float]
    """By domain that was asked: its weight after the prompt, before anything is dropped."""


@torch.no_grad()
def ask(
    branches: Branches, shortlist: Shortlist, asked: Sequence[Question], budget: float
) -> list[Told]:
    """Return the answers to questions: the prompt chooses the shortlist and gives the weights.

    Args:
        branches: base and domains.
        shortlist: who is asked; its names are those of the branches.
        asked: the questions; one whose prompt is all of it is only weighed.
        budget: b of the store.
    """
    told: list[Told | None] = [None] * len(asked)
    for group in group_by_length([len(question.ids) for question in asked], TOKENS_PER_PASS):
        batch = [asked[number] for number in group]
        for number, one in zip(group, _tell(branches, shortlist, batch, budget), strict=True):
            told[number] = one
    return [one for one in told if one is not None]


@dataclass(frozen=True)
class Heard:
    """What base and asked domains make of a batch, and who speaks after its contexts."""

    choice: Choice
    base_BTV: Tensor
    said: dict[str, tuple[Tensor, Tensor]]
    """By domain that was read, its rows and its logits there."""
    log_probs_QBT: Tensor
    """Of each token; zeros in rows that a domain did not read."""
    evidence_BT: Tensor
    """bool; every token but padding, special tokens and the start."""

    def log_masses(self, evidence_BT: Tensor, share: float) -> Tensor:
        """Return masses (Q, B, U), as `peer_cl.mixture.log_masses` does."""
        return log_masses(self.log_probs_QBT, evidence_BT, *self._entering(evidence_BT, share))

    def mixture_log_probs(self, share: float) -> Tensor:
        """Return the mixture's log probability of each token, (B, T)."""
        entering = self._entering(self.evidence_BT, share)
        return mixture_log_probs(self.log_probs_QBT, self.evidence_BT, *entering)

    def _entering(self, evidence_BT: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
        """Return the shares and the odds that enter before each token."""
        num_tokens = evidence_BT.shape[1]
        return enter_at(share, self.choice.at_PB, num_tokens), self.choice.odds(num_tokens)


@torch.no_grad()
def hear(
    branches: Branches,
    shortlist: Shortlist,
    ids_BT: Tensor,
    mask_BT: Tensor,
    lengths_B: Tensor,
    own: Sequence[str | None] = (),
) -> Heard:
    """Let the base and those domains read texts that their contexts ask.

    Args:
        branches: base and domains.
        shortlist: who is asked; its names are those of the branches.
        ids_BT, mask_BT: the texts, padded on the right.
        lengths_B: how many tokens of each are context.
        own: by row, a domain that reads it whoever is asked.
    """
    choice = shortlist.choose_batch(ids_BT, mask_BT, lengths_B)
    base_BTV = branches.base(ids_BT, mask_BT)
    last_B = lengths_B - 1
    base_BV = logits_at(base_BTV, last_B)
    log_probs, said = [token_log_probs(base_BTV, ids_BT)], {}
    lasts = []
    for place, name in enumerate(branches.names):
        reads_B = choice.at_PB[place] >= 0
        if own:
            reads_B = reads_B | torch.tensor([one == name for one in own])
        rows = reads_B.nonzero().squeeze(-1)
        log_probs.append(torch.zeros_like(log_probs[0]))
        lasts.append((rows, base_BV[rows]))
        if len(rows):
            said[name] = (rows, branches.branch(name, ids_BT[rows], mask_BT[rows]))
            log_probs[-1] = row_log_probs(said[name][1], rows, ids_BT)
            lasts[-1] = (rows, logits_at(said[name][1], last_B[rows]))
    log_probs_QBT = torch.stack(log_probs)
    evidence_BT = evidence_tokens(ids_BT, mask_BT, shortlist.model.special_ids)
    choice = settle(choice, log_probs_QBT, evidence_BT, lengths_B, base_BV, lasts)
    return Heard(choice, base_BTV, said, log_probs_QBT, evidence_BT)


def _tell(
    branches: Branches, shortlist: Shortlist, batch: Sequence[Question], budget: float
) -> list[Told]:
    ids_BT, mask_BT = pad([question.ids for question in batch], pad_id=0)
    lengths_B = torch.tensor([question.num_prompt for question in batch])
    heard = hear(branches, shortlist, ids_BT, mask_BT, lengths_B, [one.domain for one in batch])
    prompt_BT = torch.arange(ids_BT.shape[1]) < lengths_B[:, None]
    masses_QB = heard.log_masses(heard.evidence_BT & prompt_BT, shortlist.model.share)[..., -1]
    weights_QB = log_weights(masses_QB).exp()
    held = Held(branches.names, held_weights(masses_QB, budget))
    return [
        _one(question, row, heard.base_BTV, heard.said, held, weights_QB[1:, row].tolist())
        for row, question in enumerate(batch)
    ]


def _one(
    question: Question,
    row: int,
    base_BTV: Tensor,
    said: dict[str, tuple[Tensor, Tensor]],
    held: Held,
    weights: Sequence[float],
) -> Told:
    span = slice(question.num_prompt - 1, len(question.ids) - 1)
    answer = list(question.ids[question.num_prompt :])
    base_TV = base_BTV[row, span]
    own: dict[str, Tensor] = {}
    for name, (rows, logits) in said.items():
        places = (rows == row).nonzero()
        if len(places):
            own[name] = logits[int(places[0, 0]), span]
    speaking = {
        number: own[name]
        for number, name in enumerate(held.pools, 1)
        if held.weights_QB[number, row] > 0
    }
    every = Held(held.pools, held.weights_QB[:, row, None].expand(-1, len(base_TV)))
    mixed_TV = guided_TV = base_TV
    if answer and speaking:
        mixed_TV = mix_last(every, base_TV, speaking)
        guided_TV = guide(mixed_TV, base_TV, GUIDANCE)
    forced_TV = own.get(question.domain)
    return Told(
        base=base_TV.argmax(-1).tolist() == answer,
        forced=forced_TV is not None and forced_TV.argmax(-1).tolist() == answer,
        mixture=mixed_TV.argmax(-1).tolist() == answer,
        guided=guided_TV.argmax(-1).tolist() == answer,
        weights={n: w for n, w in zip(held.pools, weights, strict=True) if w > 0},
    )

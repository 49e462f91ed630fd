"""Exact recall of facts, in the wording that was trained and in others.

An answer is recalled when each of its tokens is the likeliest one after the prompt and the answer's
earlier tokens: then, and only then, greedy decoding writes it.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peer_cl.branches import (
    BasePass,
    default_position_ids,
    row_log_probs,
    run_base,
    run_branch,
    token_log_probs,
)
from peer_cl.generation import Held, mix_last
from peer_cl.mixture import enter_at, held_weights, log_masses
from peer_cl.model import PeerModel
from peer_cl.shortlist import asked_by_context, named_by_context, token_evidence
from pipelines.batches import group_by_length, pad, tokenise
from pipelines.facts import Fact
from pipelines.progress import Progress
from pipelines.token_scores import TOKENS_PER_PASS, VersionBranch

WORDINGS = ("seen", "reworded")


@dataclass(frozen=True)
class Question:
    """A prompt with the answer that should follow it."""

    domain: str
    wording: str
    ids: tuple[int, ...]
    """Start token, prompt and answer."""
    num_prompt: int
    """How many of them are start token and prompt."""


@dataclass
class Tally:
    """How many questions of one domain and wording were answered exactly."""

    num: int = 0
    base: int = 0
    forced: int = 0
    mixture: int = 0

    def shares(self) -> dict[str, float]:
        """Return the shares that were answered, 0 to 1."""
        return {
            name: getattr(self, name) / max(1, self.num) for name in ("base", "forced", "mixture")
        }


def read_fact(text: str) -> Fact:
    """Return the fact in a stored probe document."""
    about: dict[str, Any] = json.loads(text)
    return Fact(**{**about, "reworded_prompts": tuple(about["reworded_prompts"])})


def questions(tokenizer: Any, domain: str, facts: Sequence[Fact]) -> list[Question]:
    """Return every fact as a question in its trained wording and in each other one."""
    asked = [("seen", fact.seen_prompt, fact.answer) for fact in facts]
    asked += [("reworded", prompt, f.answer) for f in facts for prompt in f.reworded_prompts]
    prompts = tokenise(tokenizer, [prompt for _, prompt, _ in asked])
    wholes = tokenise(tokenizer, [f"{prompt} {answer}" for _, prompt, answer in asked])
    return [
        Question(domain, wording, tuple(whole), len(prompt))
        for (wording, _, _), prompt, whole in zip(asked, prompts, wholes, strict=True)
    ]


@torch.no_grad()
def recall(
    model: PeerModel,
    branches: dict[str, VersionBranch],
    asked: Sequence[Question],
    progress: Progress,
) -> dict[tuple[str, str], Tally]:
    """Return, by domain and wording, how many questions the base, the pool and the mixture answer.

    The mixture is as in generation: the prompt alone chooses the shortlist and gives the weights,
    which are then held.

    Args:
        model: the store's model; its own pools are not used.
        branches: the live version of each domain.
        asked: the questions.
        progress: told how many are done.
    """
    tallies = {(q.domain, q.wording): Tally() for q in asked}
    done = 0
    for group in group_by_length([len(question.ids) for question in asked], TOKENS_PER_PASS):
        batch = [asked[number] for number in group]
        for question, answers in zip(batch, _answer(model, branches, batch), strict=True):
            tally = tallies[question.domain, question.wording]
            tally.num += 1
            tally.base += answers[0]
            tally.forced += answers[1]
            tally.mixture += answers[2]
        done += len(batch)
        progress("asking facts", done, len(asked), "")
    return tallies


def _answer(
    model: PeerModel, branches: dict[str, VersionBranch], batch: Sequence[Question]
) -> list[tuple[bool, bool, bool]]:
    """Return for each question whether base, own pool and mixture answer it exactly."""
    ids_BT, mask_BT = pad([question.ids for question in batch], pad_id=0)
    base = run_base(model.attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
    prompt_BT = torch.arange(ids_BT.shape[1]) < torch.tensor([[q.num_prompt] for q in batch])
    prompt_BT[:, 0] = False
    names = sorted(branches)
    asked_PB, odds_PB = _asked(model, [branches[name] for name in names], base, ids_BT, prompt_BT)
    logits: dict[str, tuple[Tensor, Tensor]] = {}
    for place, name in enumerate(names):
        own_B = torch.tensor([question.domain == name for question in batch])
        rows = (asked_PB[place] | own_B).nonzero().squeeze(-1)
        if len(rows):
            logits[name] = (
                rows,
                run_branch(
                    model.attachment,
                    branches[name].segments,
                    base.tap_BTD[rows],
                    input_ids=ids_BT[rows],
                    attention_mask=mask_BT[rows],
                    position_ids=default_position_ids(ids_BT.shape[1], 0, ids_BT.device),
                ),
            )
    held = _hold(model, names, asked_PB, odds_PB, base.logits_BTV, logits, ids_BT, prompt_BT)
    answers = []
    for row, question in enumerate(batch):
        span = slice(question.num_prompt - 1, len(question.ids) - 1)
        base_TV = base.logits_BTV[row, span]
        said = {name: _row(logits[name], row)[span] for name in _speaking(held, row, question)}
        answers.append(
            (
                _exact(base_TV, question),
                _exact(said[question.domain], question),
                _exact(_mixed(held, row, base_TV, said), question),
            )
        )
    return answers


def _asked(
    model: PeerModel,
    branches: Sequence[VersionBranch],
    base: BasePass,
    ids_BT: Tensor,
    prompt_BT: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return who is asked, (P, B), and the odds of those whose domain is named."""
    if model.background is None or not branches:
        none_PB = torch.zeros(len(branches), len(prompt_BT), dtype=torch.bool)
        return none_PB, none_PB.double()
    signatures = [branch.signature for branch in branches]
    evidence = token_evidence(
        base.signature_BTD, prompt_BT, background=model.background, signatures=signatures
    )
    lengths_B = torch.full((len(prompt_BT),), prompt_BT.shape[1])
    asked_PB = asked_by_context(evidence, signatures, lengths_B)
    if not model.name_odds:
        return asked_PB, torch.zeros_like(asked_PB, dtype=torch.float64)
    named_PB = named_by_context(ids_BT, prompt_BT, signatures, lengths_B)
    return asked_PB | named_PB, named_PB.double() * model.name_odds


def _hold(
    model: PeerModel,
    names: Sequence[str],
    asked_PB: Tensor,
    odds_PB: Tensor,
    base_BTV: Tensor,
    logits: dict[str, tuple[Tensor, Tensor]],
    ids_BT: Tensor,
    prompt_BT: Tensor,
) -> Held:
    """Return the weights after each prompt, as generation holds them."""
    log_probs = [token_log_probs(base_BTV, ids_BT)]
    for name in names:
        if name in logits:
            rows, branch = logits[name]
            log_probs.append(row_log_probs(branch, rows, ids_BT))
        else:
            log_probs.append(torch.zeros_like(log_probs[0]))
    entries = enter_at(model.share, asked_PB.long() - 1, ids_BT.shape[1])
    masses_QB = log_masses(torch.stack(log_probs), prompt_BT, entries, odds_PB)[..., -1]
    return Held(tuple(names), held_weights(masses_QB, model.budget))


def _row(branch: tuple[Tensor, Tensor], row: int) -> Tensor:
    rows, logits = branch
    return logits[int((rows == row).nonzero()[0, 0])]


def _speaking(held: Held, row: int, question: Question) -> set[str]:
    """Return the pools whose logits one row needs: its own domain's, and those with weight."""
    weights = held.weights_QB[1:, row].tolist()
    return {question.domain} | {n for n, w in zip(held.pools, weights, strict=True) if w > 0}


def _mixed(held: Held, row: int, base_TV: Tensor, said: dict[str, Tensor]) -> Tensor:
    """Return one row's mixed logits where its answer is predicted, (T, V)."""
    weights_Q = held.weights_QB[:, row]
    every = Held(held.pools, weights_Q[:, None].expand(-1, len(base_TV)))
    speaking = {
        number: said[name] for number, name in enumerate(held.pools, 1) if weights_Q[number] > 0
    }
    return mix_last(every, base_TV, speaking)


def _exact(answer_TV: Tensor, question: Question) -> bool:
    """Return whether logits at the answer's places choose each of its tokens."""
    return answer_TV.argmax(-1).tolist() == list(question.ids[question.num_prompt :])

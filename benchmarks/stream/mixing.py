"""What branches find: each domain's own, and all of them behind the mixture.

Pools and adapters alike: `peer_cl.read.read` makes everything here, from any model that can run a
domain's branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.corpora.frozen import text_key
from benchmarks.corpora.questions import general_prompts, naming_sentences
from benchmarks.efficiency import BlockLosses, context_losses, whole_losses
from benchmarks.prompts import TOKENS_PER_PASS, largest_posteriors, num_found, posteriors
from benchmarks.stream.data import Prepared, Texts
from benchmarks.stream.raw import DIGITS, Keyed, Piece
from peer_cl.mixture import enter_at, mixture_log_probs
from peer_cl.read import Reader, read
from pipelines.batches import group_by_length, pad
from pipelines.progress import Progress, no_progress
from pipelines.recall import Answer, answer

MENTION_ODDS = (1.0,)
"""What a domain whose documents a prompt names has, as odds against the base."""


class BranchReader(Reader, Protocol):
    """A model whose branches can be read, and switched off."""

    def set_pool(self, names: str | Sequence[str] | None) -> None:
        """Let only these domains be active; None: every one."""


def branch_pieces(
    model: BranchReader,
    tokenizer: Any,
    domains: Sequence[Prepared],
    texts: Texts,
    about: Mapping[str, Piece],
    progress: Progress = no_progress,
) -> dict[str, Piece]:
    """Return every piece of a method with one branch a domain.

    Args:
        model: all branches, with the keys by which the router finds them.
        tokenizer: the base's.
        domains: in the order in which they were learned.
        texts: of every group.
        about: by domain, what else is known of how it was learned.
        progress: called as it goes.

    Returns: by the pieces' names, "NUMBER-DOMAIN" and "mixture".
    """
    names = [one.name for one in domains]
    rows = {key: ids for group in texts.values() for key, ids in group.items()}
    scores = _read_all(model, names, rows, progress)
    asked = {one.name: list(one.questions.values()) for one in domains}
    progress("asking", 0, len(names), "")
    model.mention_odds = 0.0
    told = {name: _answers(model, asked[name]) for name in names}
    pieces: dict[str, Piece] = {}
    for number, one in enumerate(domains):
        right = [int(found.oracle) for found in told[one.name]]
        pieces[f"{number}-{one.name}"] = {
            "nats": _nats({key: s_QT[1 + number] for key, s_QT in scores.items()}),
            "right": dict(zip(one.questions, right, strict=True)),
            **about[one.name],
        }
    pieces["mixture"] = {
        "rows": [_rows(model, scores, texts, num) for num in range(len(names) + 1)],
        **_blocks(model, texts, names),
        "foreign": _foreign(model, scores, texts),
        "prompts": _prompts(model, tokenizer, domains),
        "prompts_mention_odds": {},
    }
    for odds in MENTION_ODDS:
        progress("asking, mentions count", 0, len(names), "")
        model.mention_odds = odds
        pieces["mixture"]["prompts_mention_odds"][str(odds)] = _prompts(model, tokenizer, domains)
    return pieces


def _read_all(
    model: Reader, names: Sequence[str], rows: Mapping[str, Sequence[int]], progress: Progress
) -> dict[str, Tensor]:
    """Return each text's log probabilities by base and branches, (Q, T) without the start token."""
    found: dict[str, Tensor] = {}
    keys = list(rows)
    for group in group_by_length([len(rows[key]) for key in keys], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[keys[number]] for number in group], pad_id=0)
        reading = read(model, ids_BT, mask_BT, routing="all")
        order = [0, *(1 + reading.domains.index(name) for name in names)]
        for place, number in enumerate(group):
            length = len(rows[keys[number]])
            found[keys[number]] = reading.log_probs_QBT[order, place, 1:length]
        progress("reading", len(found), len(keys), "texts")
    return found


def _nats(log_probs: Mapping[str, Tensor]) -> Keyed:
    return {key: round(-float(one_T.sum()), DIGITS) for key, one_T in log_probs.items()}


def _mixed(model: Reader, scores_QT: Tensor, num_learned: int) -> Tensor:
    """Return the mixture's log probabilities (T,) of the first branches, active from the start."""
    scores_QBT = scores_QT[: 1 + num_learned, None]
    at_PB = torch.zeros(num_learned, 1, dtype=torch.long)
    entries_PBU = enter_at(model.prior, at_PB, scores_QBT.shape[-1])
    return mixture_log_probs(
        scores_QBT, torch.ones_like(scores_QBT[0], dtype=torch.bool), entries_PBU
    )[0]


def _rows(model: Reader, scores: Mapping[str, Tensor], texts: Texts, num_learned: int) -> Keyed:
    """Return test documents' losses with the first domains learned; later ones take no part."""
    keys = [key for group, own in texts.items() if group.startswith("test/") for key in own]
    return _nats({key: _mixed(model, scores[key], num_learned) for key in keys})


def _foreign(model: Reader, scores: Mapping[str, Tensor], texts: Texts) -> dict[str, Keyed]:
    """Return background text's losses with every domain active, and how many the router finds."""
    rows = {
        key: ids
        for group, own in texts.items()
        if group.startswith(("prose/", "near-domain/"))
        for key, ids in own.items()
    }
    num = len(next(iter(scores.values()))) - 1
    return {
        "routed": _nats({key: _mixed(model, scores[key], num) for key in rows}),
        "num_active": dict(zip(rows, num_found(model, list(rows.values())), strict=True)),
    }


def _blocks(model: Reader, texts: Texts, names: Sequence[str]) -> dict[str, dict[str, Keyed]]:
    """Return losses of documents of one length, whole and after some context."""
    found: dict[str, dict[str, Keyed]] = {"whole": {}, "after_32": {}}
    measures = {"whole": whole_losses, "after_32": context_losses}
    for name in names:
        own = texts[f"blocks128/{name}"]
        for part, measure in measures.items():
            losses: list[BlockLosses] = measure(model, name, list(own.values()))
            for column in ("base", "oracle", "routed", "own_only", "own_active"):
                values = (round(float(getattr(one, column)), DIGITS) for one in losses)
                found[part].setdefault(column, {}).update(zip(own, values, strict=True))
    return found


def _prompts(model: BranchReader, tokenizer: Any, domains: Sequence[Prepared]) -> dict[str, Any]:
    """Return recall of every fact, and the posteriors after prompts, by key."""
    recall: dict[str, Keyed] = {"oracle": {}, "routed": {}, "routed_when_learned": {}}
    recall["own_posterior"] = {}
    naming: Keyed = {}
    for number, one in enumerate(domains):
        asked, keys = list(one.questions.values()), list(one.questions)
        model.set_pool([other.name for other in domains[: number + 1]])
        early = _answers(model, asked)
        model.set_pool(None)
        told = _answers(model, asked)
        weights = posteriors(model, [q.ids[: q.num_prompt] for q in asked])
        for key, first, end, own in zip(keys, early, told, weights, strict=True):
            recall["oracle"][key] = int(end.oracle)
            recall["routed"][key] = int(end.routed)
            recall["routed_when_learned"][key] = int(first.routed)
            recall["own_posterior"][key] = round(own.get(one.name, 0.0), DIGITS)
        sentences = naming_sentences(one.facts)
        heavy = largest_posteriors(model, tokenizer, sentences)
        naming |= {text_key(s): round(w, DIGITS) for s, w in zip(sentences, heavy, strict=True)}
    general = [prompt.prompt for prompt in general_prompts()]
    heavy = largest_posteriors(model, tokenizer, general)
    return {
        "recall": recall,
        "general": {text_key(p): round(w, DIGITS) for p, w in zip(general, heavy, strict=True)},
        "naming": naming,
    }


def _answers(model: Any, asked: Sequence[Any]) -> list[Answer]:
    return answer(model, asked, no_progress)

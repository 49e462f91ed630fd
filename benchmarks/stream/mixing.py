"""What branches find: each domain's own, and all of them behind the mixture.

Pools and adapters alike: `peer_cl.read.read` takes any model that can run a domain's branch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.corpora.frozen import text_key
from benchmarks.corpora.questions import general_prompts, naming_sentences
from benchmarks.efficiency import CONTEXT, block_losses
from benchmarks.prompts import batches, largest_posteriors, num_found, posteriors
from benchmarks.stream.data import Prepared, Texts
from benchmarks.stream.raw import DIGITS, Keyed, Piece
from peer_cl.mixture import enter_at, mixture_log_probs
from peer_cl.read import Reader, read
from pipelines.progress import Progress, no_progress
from pipelines.recall import answer

MENTION_ODDS = 1.0
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
    """Return every piece of a method with one branch a domain: NUMBER-DOMAIN, and "mixture".

    Domains come in the order in which they were learned; `about` has by domain what else is known
    of how it was learned.
    """
    names = [one.name for one in domains]
    rows = {key: ids for group in texts.values() for key, ids in group.items()}
    scores = _read_all(model, names, rows, progress)
    progress("asking", 0, len(names), "")
    model.mention_odds = 0.0
    pieces: dict[str, Piece] = {}
    for number, one in enumerate(domains):
        right = [int(found.oracle) for found in answer(model, list(one.questions.values()))]
        pieces[f"{number}-{one.name}"] = {
            "nats": _nats({key: s_QT[1 + number] for key, s_QT in scores.items()}),
            "right": dict(zip(one.questions, right, strict=True)),
            **about[one.name],
        }
    test = [key for group in texts if group.startswith("test/") for key in texts[group]]
    background = [texts[g] for g in texts if g.startswith(("prose/", "near-domain/"))]
    foreign = {key: ids for own in background for key, ids in own.items()}
    num_active = num_found(model, list(foreign.values()))
    pieces["mixture"] = {
        "rows": [_mixed(model, scores, test, num) for num in range(len(names) + 1)],
        **_blocks(model, texts, names),
        "foreign": {
            "routed": _mixed(model, scores, list(foreign), len(names)),
            "num_active": dict(zip(foreign, num_active, strict=True)),
        },
        "prompts": _prompts(model, tokenizer, domains),
    }
    progress("asking, mentions count", 0, len(names), "")
    model.mention_odds = MENTION_ODDS
    prompts = _prompts(model, tokenizer, domains)
    pieces["mixture"]["prompts_mention_odds"] = {str(MENTION_ODDS): prompts}
    return pieces


def _read_all(
    model: Reader, names: Sequence[str], rows: Mapping[str, Sequence[int]], progress: Progress
) -> dict[str, Tensor]:
    """Return each text's log probabilities by base and branches, (Q, T) without the start token."""
    found: dict[str, Tensor] = {}
    keys = list(rows)
    for group, ids_BT, mask_BT in batches(list(rows.values())):
        reading = read(model, ids_BT, mask_BT, routing="all")
        order = [0, *(1 + reading.domains.index(name) for name in names)]
        for place, number in enumerate(group):
            length = len(rows[keys[number]])
            found[keys[number]] = reading.log_probs_QBT[order, place, 1:length]
        progress("reading", len(found), len(keys), "texts")
    return found


def _nats(log_probs: Mapping[str, Tensor]) -> Keyed:
    return {key: round(-float(one_T.sum()), DIGITS) for key, one_T in log_probs.items()}


def _mixed(
    model: Reader, scores: Mapping[str, Tensor], keys: Sequence[str], num_learned: int
) -> Keyed:
    """Return the mixture's losses of texts by the first branches, active from the start."""
    mixed = {}
    for key in keys:
        scores_QBT = scores[key][: 1 + num_learned, None]
        at_PB = torch.zeros(num_learned, 1, dtype=torch.long)
        entries_PBU = enter_at(model.prior, at_PB, scores_QBT.shape[-1])
        counted_BT = torch.ones_like(scores_QBT[0], dtype=torch.bool)
        mixed[key] = mixture_log_probs(scores_QBT, counted_BT, entries_PBU)[0]
    return _nats(mixed)


def _blocks(model: Reader, texts: Texts, names: Sequence[str]) -> dict[str, dict[str, Keyed]]:
    """Return losses of documents of one length, whole and after some context."""
    found: dict[str, dict[str, Keyed]] = {"whole": defaultdict(dict), "after_32": defaultdict(dict)}
    for name in names:
        own = texts[f"blocks128/{name}"]
        for part, context in (("whole", 0), ("after_32", CONTEXT)):
            losses = block_losses(model, name, list(own.values()), context)
            for column, values in losses.items():
                rounded = (round(float(value), DIGITS) for value in values)
                found[part][column].update(zip(own, rounded, strict=True))
    return found


def _prompts(model: BranchReader, tokenizer: Any, domains: Sequence[Prepared]) -> dict[str, Any]:
    """Return recall of every fact, and the posteriors after prompts, by key."""
    recall: dict[str, Keyed] = {"routed": {}, "routed_when_learned": {}, "own_posterior": {}}
    naming: Keyed = {}
    for number, one in enumerate(domains):
        asked, keys = list(one.questions.values()), list(one.questions)
        model.set_pool([other.name for other in domains[: number + 1]])
        early = answer(model, asked)
        model.set_pool(None)
        told = answer(model, asked)
        weights = posteriors(model, [q.ids[: q.num_prompt] for q in asked])
        for key, first, end, own in zip(keys, early, told, weights, strict=True):
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

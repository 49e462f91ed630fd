"""What branches find: each domain's own, and all of them behind the mixture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.corpora.frozen import text_key
from benchmarks.corpora.questions import general_prompts, naming_sentences
from benchmarks.efficiency import CONTEXT, block_losses
from benchmarks.prompts import batches, largest_posteriors, num_found, row_logits
from benchmarks.stream.data import Prepared, Texts
from benchmarks.stream.raw import DIGITS, WORDINGS, Keyed, Piece, Scores
from peer_cl.mixture import enter_at, mixture_log_probs
from peer_cl.model import PeerModel
from peer_cl.read import Reader, read, relation_states, token_log_probs
from pipelines.batches import num_shared, tokenise
from pipelines.facts import Fact
from pipelines.progress import Progress, no_progress
from pipelines.recall import Question, answer, is_right, questions

SAID_TOKENS = 2
"""An answer counts as said where so many of its first tokens follow."""
NUM_SAID = 60
"""Prompts of each kind that must not bring an answer, a domain."""


def text_pieces(
    model: Reader,
    domains: Sequence[Prepared],
    texts: Texts,
    about: Mapping[str, Piece],
    progress: Progress = no_progress,
) -> dict[str, Piece]:
    """Return what texts lose: a piece NUMBER-DOMAIN of each branch, and "mixture" of all.

    Domains come in the order in which they were learned; `about` has by domain what else is known
    of how it was learned.
    """
    names = [one.name for one in domains]
    rows = {key: ids for group in texts.values() for key, ids in group.items()}
    scores = _read_all(model, names, rows, progress)
    pieces: dict[str, Piece] = {
        f"{number}-{name}": {
            "nats": _nats({key: s_QT[1 + number] for key, s_QT in scores.items()}),
            **about[name],
        }
        for number, name in enumerate(names)
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
    }
    return pieces


def base_scores(model: PeerModel, domains: Sequence[Prepared], texts: Texts) -> Scores:
    """Return what base.json.zst holds: the bare base's scores of these texts and questions."""
    rows = {key: ids for group in texts.values() for key, ids in group.items()}
    asked = {key: question for one in domains for key, question in one.questions.items()}
    keys, ids = list(rows), list(rows.values())
    scored = {
        keys[number]: token_log_probs(logits_TV[None], torch.tensor([ids[number]]))[0, 1:]
        for number, logits_TV in row_logits(model.base, ids)
    }
    keys, every = list(asked), list(asked.values())
    right: Keyed = {
        keys[number]: int(is_right(logits_TV, every[number]))
        for number, logits_TV in row_logits(model.base, [question.ids for question in every])
    }
    return {
        "method": "base",
        "pieces": {},
        "texts": {group: list(own) for group, own in texts.items()},
        "questions": {
            one.name: {
                wording: [key for key, each in one.questions.items() if each.wording == wording]
                for wording in WORDINGS
            }
            for one in domains
        },
        "tokens": {key: len(ids) - 1 for key, ids in rows.items()},
        "nats": _nats(scored),
        "right": right,
    }


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


def asked_piece(
    model: Reader,
    tokenizer: Any,
    domains: Sequence[Prepared],
    progress: Progress = no_progress,
) -> Piece:
    """Return recall of every fact and what prompts find, by key.

    An item is found by its own score alone, so no later domain changes what an earlier one answers
    but where it scores better: recall at the end is asked.
    """
    recall: dict[str, Keyed] = defaultdict(dict)
    said: dict[str, list[list[int]]] = defaultdict(list)
    naming: Keyed = {}
    general = [prompt.prompt for prompt in general_prompts()]
    least = _least_score(model)
    for number, one in enumerate(domains):
        progress("asking", number, len(domains), one.name)
        asked, keys = list(one.questions.values()), list(one.questions)
        for key, told in zip(keys, answer(model, asked), strict=True):
            recall["oracle"][key] = int(told.oracle)
            recall["routed"][key] = int(told.routed)
            recall["own_domain"][key] = int(told.writer == one.name)
        nearest = nearest_items(model, [q.ids[: q.num_prompt] for q in asked])
        for key, found in zip(keys, nearest, strict=True):
            is_right = found is not None and found.item_id == one.asked[key].document_id
            is_found = found is not None and found.score >= least
            recall["right_item"][key] = int(is_right)
            recall["item_found"][key] = int(is_found)
            # The found item's stored answer, printed: no expert takes part.
            recall["lookup"][key] = int(is_found and is_right)
        sentences = naming_sentences(one.facts)
        heavy = largest_posteriors(model, tokenizer, sentences)
        naming |= {text_key(s): round(w, DIGITS) for s, w in zip(sentences, heavy, strict=True)}
        for kind, pairs in _quiet_prompts(one, sentences, general).items():
            said[kind] += _said(model, tokenizer, one.name, pairs)
    heavy = largest_posteriors(model, tokenizer, general)
    return {
        "recall": dict(recall),
        "said": dict(said),
        "general": {text_key(p): round(w, DIGITS) for p, w in zip(general, heavy, strict=True)},
        "naming": naming,
    }


def wordings_piece(
    model: Reader,
    tokenizer: Any,
    domains: Sequence[Prepared],
    progress: Progress = no_progress,
) -> Piece:
    """Return routed recall in every paraphrase of every fact, by domain and number."""
    found: Keyed = {}
    for number, one in enumerate(domains):
        progress("asking in all wordings", number, len(domains), one.name)
        every = questions(tokenizer, one.name, one.facts_asked)
        asked = [question for question in every if question.wording == "paraphrase"]
        told = answer(model, asked)
        found |= {f"{one.name} {n}": int(each.routed) for n, each in enumerate(told)}
    return {"routed": found}


def _quiet_prompts(
    domain: Prepared, sentences: Sequence[str], general: Sequence[str]
) -> dict[str, list[tuple[str, Fact]]]:
    """Return prompts that do not ask for a fact, each with the fact whose answer must not come."""
    of_subject = {fact.subject: fact for fact in domain.facts}
    named = [
        (sentence, max((f for s, f in of_subject.items() if s in sentence), key=_length))
        for sentence in sentences[:: len(sentences) // NUM_SAID or 1]
    ]
    shifted = zip(domain.facts[1:], domain.facts, strict=False)
    others = [(a.taught_prompt, b) for a, b in shifted if a.answer != b.answer]
    return {
        "naming": named,
        "another": others[:NUM_SAID],
        "general": list(zip(general[:NUM_SAID], domain.facts, strict=False)),
    }


def _least_score(model: Reader) -> float:
    space = None if model.background is None else model.background.relations
    return 0.0 if space is None else space.threshold


def _length(fact: Fact) -> int:
    return len(fact.subject)


def _said(
    model: Reader, tokenizer: Any, domain: str, pairs: Sequence[tuple[str, Fact]]
) -> list[list[int]]:
    """Return whether a fact's answer begins to be said after each prompt: with the prompt's
    nearest item of the domain given, and as it is routed.
    """
    prompts = tokenise(tokenizer, [prompt for prompt, _ in pairs])
    wholes = tokenise(tokenizer, [f"{prompt} {fact.answer}" for prompt, fact in pairs])
    asked = []
    for prompt, whole in zip(prompts, wholes, strict=True):
        start = num_shared(prompt, whole)
        asked.append(Question(domain, "said", tuple(whole[: start + SAID_TOKENS]), start))
    return [[int(one.oracle), int(one.routed)] for one in answer(model, asked)]


class NearestItem(NamedTuple):
    """The item of any domain that a prompt asks for most."""

    domain: str
    item_id: str
    score: float


def nearest_items(model: Reader, prompts: Sequence[Sequence[int]]) -> list[NearestItem | None]:
    """Return each prompt's nearest item, whatever its score; None where no subject is named."""
    found: list[NearestItem | None] = [None] * len(prompts)
    indexes = {name: index for name in model.active_pools if (index := model.items(name))}
    for group, ids_BT, mask_BT in batches(prompts):
        states = relation_states(model, ids_BT, mask_BT)
        if states is None:
            continue
        for name, index in indexes.items():
            for one in index.find(states, ids_BT, mask_BT.sum(1), is_given=True):
                number, best = group[one.row], found[group[one.row]]
                if best is None or one.score > best.score:
                    item_id = index.items[one.item].item_id
                    found[number] = NearestItem(name, item_id, one.score)
    return found

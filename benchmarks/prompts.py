"""What should find nothing, and what is expected to fail.

General prompts, sentences that only name a subject and near-domain text should find nothing. Facts
asked with a typo in their subject, without it, in another language, and denied are expected to
fail. Instruments that any store is measured with. A prompt is counted where some domain has a
posterior above a half after it: that domain's pool would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.corpora.questions import general_prompts, naming_sentences
from benchmarks.results import Figure, share_above_half, store_options
from peer_cl.generate import weigh_prompt
from peer_cl.mixture import worst_added_nats
from peer_cl.read import Reader, read
from pipelines import open_store
from pipelines.background import load_background
from pipelines.batches import group_by_length, pad, tokenise
from pipelines.facts import Fact
from pipelines.recall import answer, questions
from pipelines.store import Store

TOKENS_PER_PASS = 1024
BACKGROUND_TOKENS = 128
"""Documents of background sources are cut here."""
BACKGROUND_DOCUMENTS = 30
"""Of each source."""
NUM_HARD = 50
"""Facts of a domain that are asked in ways that are expected to fail."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what the domains of a store (`--store FOLDER`) do where they should do nothing."""
    with open_store(store_options("prompts", arguments).store) as store:
        model, tokenizer = store.load()
        figures = [*_prompts(store, model, tokenizer)]
        figures += _near_domain(model, tokenizer, worst_added_nats(store.registry.config.budget))
        model.detach()
    return figures


def _prompts(store: Store, model: Reader, tokenizer: Any) -> Iterator[Figure]:
    general = general_prompts()
    heavy = largest_posteriors(model, tokenizer, [one.prompt for one in general])
    name = f"{len(general)} general prompts, any posterior above 0.5 (share)"
    yield Figure(name, share_above_half(heavy), most=0.01)
    rare = [weight for weight, one in zip(heavy, general, strict=True) if one.rare is not None]
    name = f"of these the {len(rare)} with a rare word of a domain, any posterior above 0.5 (share)"
    yield Figure(name, share_above_half(rare))
    queries = store.registry.queries
    for state in queries.live().domains:
        asked = queries.documents(state.domain, state.version, kind="question")
        facts = [Fact.from_question(queries.document_text(d)) for d in asked if d.text_object]
        if texts := naming_sentences(facts):
            heavy = largest_posteriors(model, tokenizer, texts)
            name = f"{len(texts)} sentences that only name a subject, {state.domain}"
            yield Figure(f"{name}, any posterior above 0.5 (share)", share_above_half(heavy))
            yield from _hard(model, tokenizer, state.domain, facts)


def _hard(model: Reader, tokenizer: Any, domain: str, facts: Sequence[Fact]) -> Iterator[Figure]:
    """Yield what becomes of questions that are expected to fail."""
    ways: dict[str, Callable[[Fact], str]] = {
        "a typo in the subject": lambda f: f.taught_prompt.replace(f.subject, _typo(f.subject)),
        "no subject named": lambda f: f.taught_prompt.replace(f.subject, "it"),
        "in German": lambda f: f"Was ist {f.relation} von {f.subject}? Antwort:",
        "denied": lambda f: f"It is not true that {f.taught_prompt}",
    }
    for words, asked in ways.items():
        some = [
            replace(fact, taught_prompt=asked(fact), paraphrase_prompts=())
            for fact in facts[:NUM_HARD]
            if fact.subject in fact.taught_prompt
        ]
        told = answer(model, questions(tokenizer, domain, some))
        said = f"{domain}, {len(some)} facts asked with {words}"
        yield Figure(f"{said}: answer said (share)", fmean(one.routed for one in told))


def _typo(subject: str) -> str:
    """Return a subject with two letters in its middle exchanged.

    Example:
        >>> _typo("quartz")
        'quratz'
    """
    at = max(0, len(subject) // 2 - 1)
    return subject[:at] + subject[at : at + 2][::-1] + subject[at + 2 :]


def _near_domain(model: Reader, tokenizer: Any, bound: float) -> Iterator[Figure]:
    for source in load_background("test"):
        if source.kind != "near-domain":
            continue  # `evaluate` measures prose
        texts = source.documents[:BACKGROUND_DOCUMENTS]
        rows = [ids[: BACKGROUND_TOKENS + 1] for ids in tokenise(tokenizer, texts)]
        said = (
            f"near-domain {source.name}, {len(rows)} documents of up to {BACKGROUND_TOKENS} tokens"
        )
        share = sum(num == 0 for num in num_found(model, rows)) / len(rows)
        yield Figure(f"nothing found, {said} (share)", share, least=0.9)
        name = f"worst added loss, every domain active, {said} (nats)"
        yield Figure(name, max(added_nats(model, rows)), most=bound)


def largest_posteriors(model: Reader, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """Return after each prompt the largest posterior of any domain; 0 where none is found."""
    found = posteriors(model, tokenise(tokenizer, texts))
    return [max(weights.values(), default=0.0) for weights in found]


def posteriors(model: Reader, rows: Sequence[Sequence[int]]) -> list[dict[str, float]]:
    """Return after each prompt, given as token ids, the posteriors of the domains that are found.

    Those that another prompt of its batch finds have 0.
    """
    found: list[dict[str, float]] = [{} for _ in rows]
    for group, ids_BT, mask_BT in batches(rows):
        weighed = weigh_prompt(model, ids_BT, mask_BT)
        for place, number in enumerate(group):
            weights = weighed.weights_QB[1:, place].tolist()
            found[number] = dict(zip(weighed.domains, weights, strict=True))
    return found


def num_found(model: Reader, rows: Sequence[Sequence[int]]) -> list[int]:
    """Return for each text, as token ids, how many domains the router finds by all of it."""
    found_B = torch.zeros(len(rows), dtype=torch.long)
    for group, ids_BT, mask_BT in batches(rows):
        entries_PBU = read(model, ids_BT, mask_BT, routing="prompt").entries_PBU
        found_B[group] = (entries_PBU.sum(-1) > 0).sum(0)
    return [int(num) for num in found_B]


def added_nats(model: Reader, rows: Sequence[Sequence[int]]) -> list[float]:
    """Return what each text loses over the base with every domain active from its first token."""
    added_B = torch.zeros(len(rows), dtype=torch.float64)
    for group, ids_BT, mask_BT in batches(rows):
        added_B[group] = read(model, ids_BT, mask_BT, routing="all").added_nats_B
    return [float(value) for value in added_B]


def batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield the numbers of rows of similar length, given as token ids, their ids and their mask."""
    for group in group_by_length([len(ids) for ids in rows], TOKENS_PER_PASS):
        yield group, *pad([rows[number] for number in group], pad_id=0)


@torch.no_grad()
def row_logits(model: Any, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
    """Yield each row's number and its logits by a bare model, (T, V)."""
    for group, ids_BT, mask_BT in batches(rows):
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        for number, logits_TV in zip(group, logits_BTV, strict=True):
            yield number, logits_TV[: len(rows[number])]

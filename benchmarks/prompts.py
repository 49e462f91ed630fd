"""What should find nothing: general prompts, sentences that only name a subject, near-domain text.

Instruments that any store is measured with. A prompt is counted where some domain has a posterior
above a half after it: that domain's pool would write.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.corpora.questions import general_prompts, naming_sentences
from benchmarks.results import Figure, at_least, at_most, reported
from peer_cl.generate import weigh_prompt
from peer_cl.mixture import worst_added_nats
from peer_cl.read import Reader, read
from pipelines import open_store
from pipelines.background import BackgroundSource, load_background
from pipelines.batches import group_by_length, pad, tokenise
from pipelines.facts import Fact
from pipelines.store import Store

COMMAND = "python -m benchmarks prompts"
TOKENS_PER_PASS = 1024
BACKGROUND_TOKENS = 128
"""Documents of background sources are cut here."""
BACKGROUND_DOCUMENTS = 30
"""Of each source."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what a store's domains do where they should do nothing.

    Args:
        arguments: `--store FOLDER`, default ./knowledge.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--store", default="knowledge")
    with open_store(parser.parse_args(list(arguments)).store) as store:
        model, tokenizer = store.load()
        figures = list(_prompts(store, model, tokenizer))
        bound = worst_added_nats(store.registry.config.budget)
        for source in load_background("test"):
            if source.kind == "near-domain":  # `evaluate` measures prose
                figures += _near_domain(model, tokenizer, source, bound)
        model.detach()
    return figures


def _prompts(store: Store, model: Reader, tokenizer: Any) -> Iterator[Figure]:
    general = general_prompts()
    heavy = largest_posteriors(model, tokenizer, [one.prompt for one in general])
    name = f"{len(general)} general prompts, any posterior above 0.5 (share)"
    yield at_most(name, share_above_half(heavy), 0.01, COMMAND)
    rare = [weight for weight, one in zip(heavy, general, strict=True) if one.rare is not None]
    name = f"of these the {len(rare)} with a rare word of a domain, any posterior above 0.5 (share)"
    yield reported(name, share_above_half(rare), COMMAND)
    for state in store.registry.queries.live().domains:
        texts = naming_sentences(_facts(store, state.domain, state.version))
        if texts:
            heavy = largest_posteriors(model, tokenizer, texts)
            name = f"{len(texts)} sentences that only name a subject, {state.domain}"
            value = share_above_half(heavy)
            yield reported(f"{name}, any posterior above 0.5 (share)", value, COMMAND)


def _facts(store: Store, domain: str, version: str) -> list[Fact]:
    queries = store.registry.queries
    asked = queries.documents(domain, version, kind="question")
    return [Fact.from_question(queries.document_text(one)) for one in asked if one.text_object]


def _near_domain(
    model: Reader, tokenizer: Any, source: BackgroundSource, bound: float
) -> Iterator[Figure]:
    texts = source.documents[:BACKGROUND_DOCUMENTS]
    rows = [ids[: BACKGROUND_TOKENS + 1] for ids in tokenise(tokenizer, texts)]
    found = num_found(model, rows)
    said = f"near-domain {source.name}, {len(rows)} documents of up to {BACKGROUND_TOKENS} tokens"
    share = sum(num == 0 for num in found) / len(found)
    yield at_least(f"nothing found, {said} (share)", share, 0.9, COMMAND)
    name = f"worst added loss, every domain active, {said} (nats)"
    yield at_most(name, max(added_nats(model, rows)), bound, COMMAND)


def largest_posteriors(model: Reader, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """Return after each prompt the largest posterior of any domain; 0 where none is found."""
    found = posteriors(model, tokenise(tokenizer, texts))
    return [max(weights.values(), default=0.0) for weights in found]


def posteriors(model: Reader, rows: Sequence[Sequence[int]]) -> list[dict[str, float]]:
    """Return after each prompt, given as token ids, the posteriors of the domains that are found.

    Those that another prompt of its batch finds have 0.
    """
    found: list[dict[str, float]] = [{} for _ in rows]
    for group in group_by_length([len(ids) for ids in rows], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
        weighed = weigh_prompt(model, ids_BT, mask_BT)
        for place, number in enumerate(group):
            weights = weighed.weights_QB[1:, place].tolist()
            found[number] = dict(zip(weighed.domains, weights, strict=True))
    return found


def share_above_half(weights: Sequence[float]) -> float:
    """Return the share of weights above a half.

    Example:
        >>> share_above_half([0.9, 0.1])
        0.5
    """
    return sum(weight > 0.5 for weight in weights) / max(1, len(weights))


def num_found(model: Reader, rows: Sequence[Sequence[int]]) -> list[int]:
    """Return for each text, as token ids, how many domains the router finds by all of it."""
    found = [0] * len(rows)
    for group in group_by_length([len(ids) for ids in rows], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
        entries_PBU = read(model, ids_BT, mask_BT, routing="prompt").entries_PBU
        counts = (entries_PBU.sum(-1) > 0).sum(0).tolist()
        for number, count in zip(group, counts, strict=True):
            found[number] = count
    return found


def added_nats(model: Reader, rows: Sequence[Sequence[int]]) -> list[float]:
    """Return what each text loses over the base with every domain active from its first token."""
    added = torch.zeros(len(rows), dtype=torch.float64)
    for group in group_by_length([len(ids) for ids in rows], TOKENS_PER_PASS):
        ids_BT, mask_BT = pad([rows[number] for number in group], pad_id=0)
        added[group] = read(model, ids_BT, mask_BT, routing="all").added_nats_B
    return [float(value) for value in added]

"""What an ingest would find in a corpus: documents, tokens, duplicates, minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.corpora import Skipped, read_corpus
from pipelines.facts import read_facts
from stores.registry import Registry

if TYPE_CHECKING:
    from pipelines.settings import TrainingSettings

TOKENS_A_SECOND = 150.0
"""Tokens read a second by the default base on two cores, where the store has learned nothing."""


@dataclass(frozen=True)
class Preview:
    """What an ingest would find."""

    num_documents: int
    """In the corpus, without facts."""
    num_facts: int
    """That are new."""
    num_copies: int
    """Documents that the corpus holds twice, or that the domain knows already; left out."""
    num_erased: int
    """Documents that were erased from the domain; left out."""
    num_new: int
    num_tokens: int
    """Of new documents and facts."""
    seconds: float
    """About how long the training takes."""
    skipped: tuple[Skipped, ...]
    """Malformed lines and files that cannot be read."""


def preview(
    registry: Registry, domain: str, corpus: Path, facts: Path | None, settings: TrainingSettings
) -> Preview:
    """Return what an ingest would find, malformed lines left out."""
    from pipelines.batches import tokenise
    from pipelines.loading import load_tokenizer

    queries = registry.queries
    state = queries.live().state(domain)
    registry.check_growth(domain, state.version if state else None)
    read = read_corpus(corpus, "skip")
    taught, bad_facts = read_facts(facts, "skip") if facts else ((), ())
    known = {one.document_id for one in queries.documents(domain)} if state else set()
    erased = queries.erased(domain).keys()
    texts = {one.document_id: one for one in read.documents}
    new = [one for key, one in texts.items() if key not in known | erased]
    new_facts = [one for one in taught if one.document_id not in known | erased]
    rows = [one.text for one in new] + [one.statement for one in new_facts]
    num_tokens = [len(ids) - 1 for ids in tokenise(load_tokenizer(registry), rows)]
    text_tokens = sum(num_tokens[: len(new)]) * (1 - settings.hold_out_percent / 100)
    fact_tokens = sum(num_tokens[len(new) :])
    to_read = (settings.text_passes + settings.passage_steps) * text_tokens
    to_read += settings.own_steps * fact_tokens
    return Preview(
        num_documents=len(read.documents),
        num_facts=len(new_facts),
        num_copies=len(read.documents) - len(texts) + len(texts.keys() & known),
        num_erased=len(texts.keys() & erased - known),
        num_new=len(new),
        num_tokens=sum(num_tokens),
        seconds=to_read / _tokens_a_second(registry),
        skipped=(*read.skipped, *bad_facts),
    )


def _tokens_a_second(registry: Registry) -> float:
    """Return how many tokens the store's earlier trainings on texts read a second."""
    versions = [state.version for state in registry.queries.live().domains]
    chains = registry.queries.chains(versions).values()
    past = [segment for chain in chains for segment in chain if not segment.objects_of("facts")]
    passes = [one.config["text_passes"] + one.config["passage_steps"] for one in past]
    read = sum(one.num_tokens * times for one, times in zip(past, passes, strict=True))
    seconds = sum(segment.seconds for segment in past)
    return read / seconds if seconds else TOKENS_A_SECOND

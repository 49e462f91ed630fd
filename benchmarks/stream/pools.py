"""Ours: each domain is ingested into a real store, exactly as a user does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.stream.domains import StreamDomain
from pipelines.branches import PoolBranches, Shortlist
from pipelines.evaluate import version_branch
from pipelines.ingest import IngestReport
from pipelines.naming import names_of
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store


def ingest(
    store: Store, domain: StreamDomain, settings: TrainingSettings, progress: Progress
) -> IngestReport | None:
    """Ingest a domain; None where it is there already."""
    if store.registry.live().state(domain.name) is not None:
        return None
    # What is asked stays out of the store: it keeps the facts' own wording alone.
    facts = [replace(fact, reworded_prompts=()) for fact in domain.facts]
    return store.ingest(
        domain.name, domain.documents, facts=facts, settings=settings, progress=progress
    )


def load(store: Store, names: Sequence[str]) -> tuple[PoolBranches, Shortlist]:
    """Return the pools of domains, and their signatures with the domains' names."""
    model, tokenizer = store.load_base()
    registry = store.registry
    segments, signatures = {}, {}
    for name in names:
        state = registry.live().state(name)
        if state is not None:
            one = version_branch(registry, model, name, state.version)
            known = names_of(registry, name, state.version, tokenizer)
            segments[name] = one.segments
            signatures[name] = replace(one.signature, names=known)
    return PoolBranches(model, segments), Shortlist(model, signatures)

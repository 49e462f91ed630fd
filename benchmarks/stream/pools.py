"""Ours: each domain is ingested into a real store, exactly as a user does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.stream.domains import StreamDomain
from peer_cl.model import PeerModel
from pipelines.branches import PoolBranches, Shortlist
from pipelines.evaluate import version_branch
from pipelines.ingest import IngestReport
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
    """Return the pools and signatures of domains."""
    model, _ = store.load_base()
    return branches_of(store, model, names)


def branches_of(
    store: Store, model: PeerModel, names: Sequence[str]
) -> tuple[PoolBranches, Shortlist]:
    """Return the pools and signatures of domains, on a model that is there."""
    registry = store.registry
    found = {}
    for name in names:
        state = registry.live().state(name)
        if state is not None:
            found[name] = version_branch(registry, model, name, state.version)
    return (
        PoolBranches(model, {name: one.segments for name, one in found.items()}),
        Shortlist(model, {name: one.signature for name, one in found.items()}),
    )

"""Ours: each domain is ingested into a real store, exactly as a user does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.stream.domains import StreamDomain
from peer_cl.errors import StateError
from pipelines.branches import PoolBranches, Shortlist
from pipelines.evaluate import version_branch
from pipelines.naming import names_of
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings, recorded_hold_out
from pipelines.store import Store
from stores import Registry

AGAIN = "remove the raw files of peer, and its pieces are done again"
LITTLE = 0.05
"""How often texts are read where only the signature is wanted; facts, which are short, as often as
ever: the wordings in which they are read are words of the signature."""


def ingest(
    store: Store,
    domain: StreamDomain,
    settings: TrainingSettings,
    progress: Progress,
    *,
    others: Sequence[Store] = (),
) -> float:
    """Ingest a domain, unless it is there already; return the seconds that its run took.

    Args:
        store: learns it.
        domain: documents and facts.
        settings: how it is learned.
        progress: told how far it is.
        others: stores that are read together; what one of them has is not learned again, and where
            two have it, the first of them counts, as in `load`.

    Raises:
        StateError: when it is there and was learned with other settings.
    """
    for one in (*others, store):
        if one.registry.live().state(domain.name) is not None:
            return _seconds_of(one, domain.name, settings)
    # What is asked stays out of the store: it keeps the facts' own wording alone.
    facts = [replace(fact, reworded_prompts=()) for fact in domain.facts]
    report = store.ingest(
        domain.name,
        domain.documents,
        facts=facts,
        rewordings=domain.rewordings,
        settings=settings,
        progress=progress,
    )
    return report.seconds


def sign(
    store: Store, domain: StreamDomain, settings: TrainingSettings, progress: Progress
) -> None:
    """Ingest a domain for its signature alone, unless it is there already.

    A signature is of the bare model's states and of words, whatever the pool learned, so the pool
    here learns next to nothing.

    Raises: StateError: as `ingest`.
    """
    little = replace(
        settings,
        text_passes=LITTLE,
        least_steps=1,
        kl_weight=0.0,
        validations=0,
    )
    ingest(store, domain, little, progress)


def _seconds_of(store: Store, name: str, settings: TrainingSettings) -> float:
    """Return how long a domain's run took, once it is plain that it was run as is wanted."""
    run = store.registry.domain(name).runs[-1]
    wanted = json.loads(json.dumps(settings.record()))
    if settings.precision == "auto":  # the run's record says what that came to
        del wanted["precision"]
    # A record leaves it out where it is what runs did before there was a setting for it.
    wanted["hold_out_percent"] = settings.hold_out_percent
    found = {**run.config, "hold_out_percent": recorded_hold_out(run.config)}
    differing = [
        f"{key} {found.get(key)}, not {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if differing:
        raise StateError(
            f"{name} was learned with {'; '.join(differing)}: remove {store.registry.folder} "
            "and the raw files of its domains, and they are learned again"
        )
    return run.seconds


def load(stores: Sequence[Store], names: Sequence[str]) -> tuple[PoolBranches, Shortlist]:
    """Return the pools of domains, and their signatures with the domains' names.

    Args:
        stores: one, or several in which processes side by side learned. Since domains never
            depend on each other, pools of several are those that one store would hold.
        names: of the domains.

    Raises:
        StateError: when no store has one of them, or two have it with different settings.
    """
    if not stores:
        raise StateError(f"no store with pools is there: {AGAIN}")
    model, tokenizer = stores[0].load_base()
    segments, signatures = {}, {}
    for name in names:
        registry, version = _holder(stores, name)
        one = version_branch(registry, model, name, version)
        known = names_of(registry, name, version, tokenizer)
        segments[name] = one.segments
        signatures[name] = replace(one.signature, names=known)
    return PoolBranches(model, segments), Shortlist(model, signatures)


def _holder(stores: Sequence[Store], name: str) -> tuple[Registry, str]:
    """Return a registry that holds a domain, and the live version.

    Parts may hold the same domain, where another process tuned it than learned it.
    """
    states = [(store.registry, store.registry.live().state(name)) for store in stores]
    held = [(registry, state.version) for registry, state in states if state is not None]
    configs = [registry.domain(name).runs[-1].config for registry, _ in held]
    if any(config != configs[0] for config in configs):
        folders = " and ".join(str(registry.folder) for registry, _ in held)
        raise StateError(f"{folders} learned {name} with different settings: remove one of them")
    if held:
        return held[0]
    folders = ", ".join(str(store.registry.folder) for store in stores)
    raise StateError(f"{folders} has no {name}: {AGAIN}")

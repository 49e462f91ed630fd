"""The demo: four real corpora are learned, measured, frozen, rolled back and restored.

Run again, it tells what is there and does only what is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from peer_cl.errors import StateError
from peer_cl.model import PeerModel
from pipelines import demo_corpora
from pipelines.base_models import SMOLLM2
from pipelines.batches import tokenise
from pipelines.init import init_store
from pipelines.progress import Progress, no_progress
from pipelines.prompts import completion_prompt
from pipelines.settings import TrainingSettings
from pipelines.store import Store, open_store
from pipelines.writing import Writing, write
from stores import Registry, Snapshot

CAPACITY = 8
NAME_ODDS = 1.0
"""Names count in the demo's store: most questions are short, and name whom they are about."""
COMPLETIONS = 2
"""Held-out prompts shown for each domain."""
LEARNED = "demo"
LEARNED_QUICK = "demo --quick"
FROZE = "demo: it shall learn nothing more"
TOOK = "demo: take it back"
STOPPED = "demo: it was stopped; as it was before its proofs"
BROUGHT_BACK = "demo: bring all back"
"""Why a demo's acts were done. Where the last stands in the history, the proofs were given."""
PROBES = (
    "The capital of France is",
    "In mineralogy, beryl is placed among the",
    "Attackers use Trusted Relationship for the tactic of",
    "Miosis: abnormal constriction of the",
)
"""Texts whose logits prove that a rollback is exact."""


@dataclass(frozen=True)
class DemoSize:
    """How much of everything a demo does."""

    tokens: Mapping[str, int] = field(
        default_factory=lambda: {
            "security": 21_000,
            "medicine": 26_000,
            "geography": 19_000,
            "minerals": 17_000,
        }
    )
    """Of documents read a domain, held-out ones included: about 23 of 100."""
    facts: int = 100
    background_documents: int = 8
    """Of each test source."""
    background_tokens: int = 192
    """Each of them is cut to so many."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)


QUICK = DemoSize(
    tokens={"security": 7_000, "minerals": 7_000},
    facts=30,
    background_documents=8,
    settings=TrainingSettings(text_passes=1.0, fact_passes=6.0),
)


@dataclass(frozen=True)
class DemoFace:
    """Where a demo shows what it finds: the command line's tables, or a test's list."""

    say: Callable[[str], None]
    show_report: Callable[[dict[str, Any]], None]
    show_writings: Callable[[str, list[Writing]], None]


def run_demo(
    folder: str | Path,
    face: DemoFace,
    *,
    quick: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Run the demo in a store and return its evaluation.

    Args:
        folder: of the store; made where it is missing.
        face: where things are shown.
        quick: less of everything, to see that it works.
        progress: told how far it is.

    Raises:
        StateError: when a proof fails, or the store is not one that a demo made.
        CorpusError: when a package can neither be found in the cache nor downloaded.
    """
    began, folder = time.monotonic(), Path(folder)
    size = QUICK if quick else DemoSize()
    with _opened(folder, face, progress) as store:
        domains, why = tuple(size.tokens), LEARNED_QUICK if quick else LEARNED
        _check_own(store, domains, why)
        _undo_stopped(store, face)
        missing = [d for d in domains if store.registry.live().state(d) is None]
        if not missing:
            face.say(f"{folder} holds {', '.join(domains)} already: nothing is learned again.")
        report = _learn(store, missing, size, why, face, progress)
        face.show_report(report)
        _complete(store, size, face)
        if not any(event.why == BROUGHT_BACK for event in store.registry.history()):
            _take_back(store, domains, face)
        face.say(f"\n{_next_steps(folder, domains[-1])}")
        face.say(f"{(time.monotonic() - began) / 60:.1f} minutes in all")
    return report


def _opened(folder: Path, face: DemoFace, progress: Progress) -> Store:
    if (folder / "store.toml").is_file():
        return open_store(folder)
    face.say(f"making the store {folder} on SmolLM2-135M-Instruct ...")
    return init_store(folder, capacity=CAPACITY, name_odds=NAME_ODDS, progress=progress)


def _check_own(store: Store, domains: tuple[str, ...], why: str) -> None:
    """Refuse a store whose figures would not be the demo's.

    Raises: StateError: naming what is another's.
    """
    config, folder = store.registry.config, store.registry.layout.folder
    made, own = (config.base_id, config.capacity, config.name_odds), (SMOLLM2, CAPACITY, NAME_ODDS)
    if made != own:
        raise StateError(
            "{} was made with base {}, capacity {} and name odds {:g}, the demo's with {}, {} and "
            "{:g}; name another folder with --store".format(folder, *made, *own)
        )
    for act in store.registry.history():
        if act.action == "ingest" and act.domain in domains and act.why != why:
            raise StateError(
                f"{folder} holds a domain {act.domain!r} that `{why}` did not learn; name another "
                "folder with --store"
            )


def _undo_stopped(store: Store, face: DemoFace) -> None:
    """Restore what a demo that was stopped in the middle of its proofs had frozen or taken back."""
    registry = store.registry
    acts = registry.history()
    num_undone = len(list(itertools.takewhile(lambda act: act.why in (FROZE, TOOK), acts)))
    if num_undone:
        before = acts[num_undone].snapshot_id
        store.restore(before, STOPPED)
        _keep_evaluation(registry, before)
        face.say(f"a demo was stopped in the middle of its proofs: snapshot {before} is restored")


def _keep_evaluation(registry: Registry, snapshot_id: int) -> None:
    """Give the live snapshot, which equals an earlier one, that one's evaluation."""
    found, live = registry.evaluation(snapshot_id), registry.live().id
    if found is not None:
        registry.put_evaluation(live, {**found, "snapshot": live})


def _learn(
    store: Store,
    missing: list[str],
    size: DemoSize,
    why: str,
    face: DemoFace,
    progress: Progress,
) -> dict[str, Any]:
    """Ingest and evaluate one missing domain after the other; return the last evaluation."""
    for domain in missing:
        corpus = demo_corpora.load(domain, size.tokens[domain])
        face.say(f"\n{domain}: {corpus.notice}")
        done = store.ingest(
            domain,
            corpus.documents,
            facts=corpus.facts[: size.facts],
            settings=size.settings,
            why=why,
            progress=progress,
        )
        face.say(
            f"{domain}: {sum(done.num_documents.values())} documents, {done.num_steps} steps, "
            f"{done.size_bytes / 1e6:.1f} MB, {done.seconds:.0f} s"
        )
        if domain != missing[-1]:
            report = _evaluate(store, size, progress, last=False)
            face.say(_row(report))
    found = store.registry.evaluation(store.registry.live().id)
    return found if found is not None else _evaluate(store, size, progress, last=True)


def _evaluate(store: Store, size: DemoSize, progress: Progress, *, last: bool) -> dict[str, Any]:
    return store.evaluate(
        progress,
        max_documents=size.background_documents,
        max_background_tokens=size.background_tokens,
        with_recall=last,
        background=last,
    )


def _row(report: dict[str, Any]) -> str:
    losses = report["matrix"]["loss_nats"]
    parts = [
        f"{domain} {base:.3f} -> {now:.3f}"
        for domain, base, now in zip(report["domains"], losses[0], losses[-1], strict=True)
    ]
    return "loss on unseen documents, nats a token: " + ", ".join(parts)


def _complete(store: Store, size: DemoSize, face: DemoFace) -> None:
    """Show what base and mixture make of the beginnings of held-out documents."""
    model, tokenizer = store.load()
    for domain in size.tokens:
        documents = store.registry.documents(domain, split="test", kind="text")[:COMPLETIONS]
        prompts = [completion_prompt(store.registry.document_text(d))[0] for d in documents]
        face.show_writings(
            domain,
            [write(model, tokenizer, p, max_new_tokens=20, compare=True) for p in prompts],
        )
    model.detach()


def _take_back(store: Store, domains: tuple[str, ...], face: DemoFace) -> None:
    """Freeze one domain, roll the newest back, prove it exact, and restore everything."""
    registry = store.registry
    full = registry.live()
    frozen, taken = domains[0], domains[-1]
    before = _before(registry, taken)
    own = full.state(frozen)
    if own is not None and not own.is_frozen:
        store.freeze(frozen, FROZE)
    face.say(f"\nfroze {frozen}; rolling back {taken} ...")
    store.roll_back(taken, why=TOOK, out=True)
    after, expected = probe_bits(store, None), probe_bits(store, before.id)
    with_it = probe_bits(store, full.id)
    if after != expected:
        raise StateError(
            f"after rolling back {taken} the logits differ from snapshot {before.id}'s; "
            "run `peer-cl doctor` and `peer-cl verify`"
        )
    same = "still equal" if with_it == after else "differed"
    face.say(
        f"without {taken}: logits of {len(PROBES)} texts equal snapshot {before.id}'s, which never "
        f"held it, bit for bit (with it they {same})"
    )
    store.restore(full.id, BROUGHT_BACK)
    if probe_bits(store, None) != with_it:
        raise StateError(f"restoring snapshot {full.id} gave other logits than it had")
    face.say(
        f"restored snapshot {full.id}: all {len(domains)} domains are back, bit for bit; {frozen} "
        f"is as it was there, {'frozen' if own is not None and own.is_frozen else 'not frozen'}"
    )
    _keep_evaluation(registry, full.id)


def _before(registry: Registry, domain: str) -> Snapshot:
    """Return the snapshot before a domain came."""
    past = registry.ancestry(registry.live().id)
    came = next(n for n, snapshot in enumerate(past) if snapshot.state(domain) is not None)
    return past[came - 1]


@torch.no_grad()
def probe_bits(store: Store, snapshot_id: int | None) -> str:
    """Return a hash over the probe texts' logits, every live pool asked and by signature."""
    model, tokenizer = store.load(snapshot_id)
    digest = hashlib.sha256()
    for text in PROBES:
        ids = torch.tensor(tokenise(tokenizer, [text]))
        for ask in ("all", "context"):
            digest.update(_logits(model, ids, ask).numpy().tobytes())
    model.detach()
    return digest.hexdigest()


def _logits(model: PeerModel, ids: torch.Tensor, ask: str) -> torch.Tensor:
    logits: torch.Tensor = model(ids, ask=ask).logits
    return logits.float().contiguous()


def _next_steps(folder: Path, domain: str) -> str:
    is_default = folder.resolve() == Path("knowledge").resolve()
    place = "" if is_default else f" --store {shlex.quote(str(folder))}"
    return "\n".join(
        [
            "what to try next:",
            f"  peer-cl{place} dashboard",
            f"  peer-cl{place} generate 'The chemical formula of corundum is' --compare",
            f"  peer-cl{place} trace 'In mineralogy, beryl is placed among the'",
            f"  peer-cl{place} history",
            f"  peer-cl{place} rollback {domain} --out --why 'to see what is left'",
            f"  peer-cl{place} ingest notes my-notes/",
            f"  peer-cl{place} verify",
        ]
    )

"""The demo: four real corpora are learned, measured, frozen, rolled back and restored.

Run again, it does only what is missing.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from peer_cl.errors import StateError
from pipelines import demo_corpora
from pipelines.batches import tokenise
from pipelines.init import init_store
from pipelines.loading import SMOLLM2
from pipelines.progress import Progress, no_progress
from pipelines.report import EvaluationReport
from pipelines.settings import TrainingSettings
from pipelines.store import Store, open_store
from pipelines.writing import Writing, write
from stores.queries import Snapshot

TOKENS = {"security": 5_000, "medicine": 5_000, "geography": 5_000, "minerals": 5_000}
CAPACITY = 8
QUESTION = "In mineralogy, beryl is placed among the"
"""Answered with the domain that is removed last, and not without it."""
LEARNED, LEARNED_QUICK = "demo", "demo --quick"
FROZE = "demo: it shall learn nothing more"
REMOVED = "demo: remove it and prove that nothing is left"
ROLLED_BACK = "demo: all domains again"
"""Messages of the demo's acts. With ROLLED_BACK in the history, the proofs were given."""
TEXTS = (
    "The capital of France is",
    QUESTION,
    "Attackers use Trusted Relationship for the tactic of",
    "Miosis: abnormal constriction of the",
)
"""Texts whose logits prove that a removal is exact."""
NEXT_STEPS = f"""
what to try next:
  {{verb}} dashboard
  {{verb}} generate 'The chemical formula of corundum is' --compare
  {{verb}} trace '{QUESTION}'
  {{verb}} log
  {{verb}} remove {{domain}} -m 'to see what is left'
  {{verb}} ingest notes my-notes/
  {{verb}} verify"""


@dataclass(frozen=True)
class DemoSize:
    """How much of everything a demo does."""

    tokens: Mapping[str, int] = field(default_factory=lambda: dict(TOKENS))
    """Of documents read a domain, held-out ones included: about 23 of 100."""
    facts: int = 100
    background_documents: int = 8
    background_tokens: int = 192
    """Of each test source so many documents, cut to so many tokens."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)


QUICK = DemoSize(
    tokens={"security": 2_500, "minerals": 2_500},
    facts=30,
    settings=TrainingSettings(text_passes=1.0),
)


@dataclass(frozen=True)
class DemoFace:
    """Where a demo shows what it finds: the command line's tables, or a test's list."""

    say: Callable[[str], None]
    show_report: Callable[[EvaluationReport], None]
    show_writings: Callable[[str, list[Writing]], None]


def run_demo(
    folder: str | Path, face: DemoFace, *, quick: bool = False, progress: Progress = no_progress
) -> EvaluationReport:
    """Run the demo in a store, which is made where it is missing, and return its evaluation.

    `quick` does less of everything, to see that it works.

    Raises:
        StateError: when a proof fails, or the store is not one that a demo made.
        CorpusError: when a package is neither in the cache nor to be downloaded.
    """
    began, folder = time.monotonic(), Path(folder)
    size, message = (QUICK, LEARNED_QUICK) if quick else (DemoSize(), LEARNED)
    if (folder / "store.toml").is_file():
        opened = open_store(folder)
    else:
        face.say(f"making the store {folder} on SmolLM2-135M-Instruct ...")
        opened = init_store(folder, capacity=CAPACITY, progress=progress)
    with opened as store:
        _check_own(store, size, message)
        report = _learn(store, size, message, face, progress)
        face.show_report(report)
        _complete(store, size, face)
        _prove(store, tuple(size.tokens), face)
    is_default = folder.resolve() == Path("knowledge").resolve()
    verb = "peer-cl" if is_default else f"peer-cl --store {shlex.quote(str(folder))}"
    face.say(NEXT_STEPS.format(verb=verb, domain=[*size.tokens][-1]))
    face.say(f"{(time.monotonic() - began) / 60:.1f} minutes in all")
    return report


def _check_own(store: Store, size: DemoSize, message: str) -> None:
    """Refuse a store whose figures would not be the demo's."""
    config, folder = store.registry.config, store.registry.folder
    found = f"base {config.base_id}, capacity {config.capacity}"
    wanted = f"base {SMOLLM2}, capacity {CAPACITY}"
    other = "name another folder with --store"
    if found != wanted:
        raise StateError(f"{folder} was made with {found}, the demo's with {wanted}; {other}")
    for act in store.registry.queries.events():
        if act.action == "ingest" and act.domain in size.tokens and act.message != message:
            what = f"{folder} holds a domain {act.domain!r} that `{message}` did not learn"
            raise StateError(f"{what}; {other}")


def _learn(
    store: Store, size: DemoSize, message: str, face: DemoFace, progress: Progress
) -> EvaluationReport:
    """Ingest and evaluate one missing domain after the other; return the last evaluation."""
    queries = store.registry.queries
    came = {act.domain for act in queries.events() if act.action == "ingest"}
    for number, domain in enumerate(size.tokens):
        if queries.live().state(domain) is not None:
            face.say(f"{domain} is there already")
            continue
        if domain in came:  # stopped in the middle of the proofs, or removed by hand
            store.restore(domain, "demo: continued")
            continue
        corpus = demo_corpora.load(domain, size.tokens[domain])
        face.say(f"\n{domain}: {corpus.notice}")
        done = store.ingest(
            domain,
            corpus.documents,
            facts=corpus.facts[: size.facts],
            settings=size.settings,
            message=message,
            progress=progress,
        )
        face.say(
            f"{domain}: {sum(done.num_documents.values())} documents, {done.num_steps} steps, "
            f"{done.size_bytes / 1e6:.1f} MB, {done.seconds:.0f} s"
        )
        if number + 1 < len(size.tokens):
            early = store.evaluate(progress, background=False, with_recall=False)
            losses = early.matrix.loss_nats
            columns = zip(early.domains, losses[0], losses[-1], strict=True)
            parts = [f"{name} {base:.3f} -> {now:.3f}" for name, base, now in columns]
            face.say(f"loss on unseen documents, nats a token: {', '.join(parts)}")
    if (stored := queries.evaluation(queries.live().id)) is not None:
        return EvaluationReport.from_json(stored.report)
    return store.evaluate(
        progress,
        max_documents=size.background_documents,
        max_background_tokens=size.background_tokens,
    )


def _complete(store: Store, size: DemoSize, face: DemoFace) -> None:
    """Show how base and pools continue the beginnings of two held-out documents a domain."""
    model, tokenizer = store.load()
    queries = store.registry.queries
    for domain in size.tokens:
        writings = []
        for document in queries.documents(domain, split="test", kind="text")[:2]:
            text = queries.document_text(document)
            words = list(re.finditer(r"\S+", text))
            num_words = max(1, min(12, int(0.4 * len(words))))
            prompt = text[: words[num_words - 1].end()]
            writings.append(write(model, tokenizer, prompt, max_new_tokens=20, compare=True))
        face.show_writings(domain, writings)


def _prove(store: Store, domains: tuple[str, ...], face: DemoFace) -> None:
    """Freeze one domain, remove the newest, prove it exact, and roll the store back to before."""
    queries = store.registry.queries
    if any(act.message == ROLLED_BACK for act in queries.events()):
        return
    full, frozen, removed = queries.live(), domains[0], domains[-1]
    before = _before(store, removed)
    with_it, answered = look(store)
    if (state := full.state(frozen)) is not None and not state.is_frozen:
        store.freeze(frozen, FROZE)
    face.say(f"\nfroze {frozen}; removing {removed} ...")
    store.remove(removed, REMOVED)
    after, forgotten = look(store)
    if after != look(store, before.id)[0]:
        what = f"without {removed} the logits differ from snapshot {before.id}'s"
        raise StateError(f"{what}; run `peer-cl doctor` and `peer-cl verify`")
    face.say(f"{QUESTION} ...\n  with {removed}: {answered}\n  without {removed}: {forgotten}")
    face.say(
        f"without {removed}: logits of {len(TEXTS)} texts equal snapshot {before.id}'s, which "
        f"never held it, bit for bit (with it they {'are equal' if with_it == after else 'differ'})"
    )
    store.roll_back_to(full.id, ROLLED_BACK)
    if look(store)[0] != with_it:
        raise StateError(f"rolling back to snapshot {full.id} gave other logits than it had")
    if stored := queries.evaluation(full.id):  # the live snapshot equals the evaluated one
        live = queries.live().id
        store.registry.put_evaluation(live, {**stored.report, "snapshot": live})
    all_there = f"all {len(domains)} domains are there again, bit for bit"
    face.say(f"rolled the store back to snapshot {full.id}: {all_there}")


def _before(store: Store, domain: str) -> Snapshot:
    """Return the snapshot before a domain came."""
    past = store.registry.queries.ancestry(store.registry.queries.live().id)
    came = next(n for n, snapshot in enumerate(past) if snapshot.state(domain) is not None)
    return past[came - 1]


@torch.no_grad()
def look(store: Store, snapshot_id: int | None = None) -> tuple[str, str]:
    """Return a hash over the texts' logits, and what is written after the question."""
    model, tokenizer = store.load(snapshot_id)
    digest = hashlib.sha256()
    for text in TEXTS:
        ids_BT = torch.tensor(tokenise(tokenizer, [text]))
        for routing in ("all", "prompt"):
            logits_BTV = model(ids_BT, routing=routing).logits
            digest.update(logits_BTV.float().contiguous().numpy().tobytes())
    answer = write(model, tokenizer, QUESTION, max_new_tokens=8).text.strip()
    return digest.hexdigest(), answer

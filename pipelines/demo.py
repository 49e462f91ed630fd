"""The demo: four real corpora are learned and asked, a document is erased, a domain taken out.

Run again, it does only what is missing.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from peer_cl.errors import StateError
from pipelines import demo_corpora
from pipelines.answer import Answer
from pipelines.batches import tokenise
from pipelines.demo_corpora.asking import DemoAnswer, demo_questions
from pipelines.init import init_store
from pipelines.loading import SMOLLM2
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store, open_store
from stores.queries import Snapshot

CAPACITY = 8
LEARNED, LEARNED_QUICK = "demo", "demo --quick"
REMOVED = "demo: remove it and prove that nothing is left"
ERASED = "demo: erase one document"
ROLLED_BACK = "demo: as it was"
DONE = "demo: as it was, with the erased document"
"""Messages of the demo's acts. With DONE in the history, the proofs were given."""
TEXT = "The capital of France is"
NEXT_STEPS = """
what to try next:
  {verb} dashboard
  {verb} ask {question} --details
  {verb} evaluate
  {verb} log
  {verb} ingest notes my-notes/"""


@dataclass(frozen=True)
class DemoSize:
    """How much a demo learns."""

    tokens: Mapping[str, int]
    """Of documents, a domain."""
    facts: int


FULL = DemoSize(dict.fromkeys(("security", "medicine", "geography", "minerals"), 1_000), facts=20)
QUICK = DemoSize(dict.fromkeys(("security", "minerals"), 1_000), facts=20)
HELD_OUT = 15.0
"""Percent of a domain's documents, to measure forgetting on."""


@dataclass(frozen=True)
class DemoFace:
    """Where a demo shows what it finds: the command line's tables, or a test's list."""

    say: Callable[[str], None]
    show_asked: Callable[[str, Sequence[DemoAnswer]], None]


def run_demo(
    folder: str | Path, face: DemoFace, *, quick: bool = False, progress: Progress = no_progress
) -> list[DemoAnswer]:
    """Run the demo in a store, which is made where it is missing, and return what was asked.

    `quick` learns less, to see that it works.

    Raises:
        StateError: when a proof fails, or the store is not one that a demo made.
        CorpusError: when a package is neither in the cache nor to be downloaded.
    """
    began, folder = time.monotonic(), Path(folder)
    size, message = (QUICK, LEARNED_QUICK) if quick else (FULL, LEARNED)
    if (folder / "store.toml").is_file():
        opened = open_store(folder)
    else:
        face.say(f"making the store {folder} on SmolLM2-135M-Instruct ...")
        opened = init_store(folder, capacity=CAPACITY, progress=progress)
    with opened as store:
        _check_own(store, size, message)
        _learn(store, size, message, face, progress)
        asked = ask_domains(store, [*size.tokens], face, progress)
        if not any(act.message == DONE for act in store.registry.queries.events()):
            _prove(store, [*size.tokens][-1], asked, face)
    is_default = folder.resolve() == Path("knowledge").resolve()
    verb = "peer-cl" if is_default else f"peer-cl --store {shlex.quote(str(folder))}"
    question = shlex.quote(asked[0].asked.question)
    face.say(NEXT_STEPS.format(verb=verb, question=question))
    face.say(f"{(time.monotonic() - began) / 60:.1f} minutes in all")
    return asked


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


def _learn(store: Store, size: DemoSize, message: str, face: DemoFace, progress: Progress) -> None:
    """Ingest one missing domain after the other."""
    queries = store.registry.queries
    came = {act.domain for act in queries.events() if act.action == "ingest"}
    for domain, num_tokens in size.tokens.items():
        if queries.live().state(domain) is not None:
            face.say(f"{domain} is there already")
            continue
        if domain in came:  # stopped in the middle of the proofs, or removed by hand
            store.restore(domain, "demo: continued")
            continue
        corpus = demo_corpora.load(domain, num_tokens)
        face.say(f"\n{domain}: {corpus.notice}")
        done = store.ingest(
            domain,
            corpus.documents,
            facts=corpus.facts[: size.facts],
            settings=TrainingSettings(hold_out_percent=HELD_OUT),
            message=message,
            progress=progress,
        )
        face.say(
            f"{domain}: {done.num_learned_texts} documents, {done.num_facts} facts, "
            f"{done.size_bytes / 1e6:.1f} MB, {done.seconds:.0f} s"
        )


def ask_domains(
    store: Store, domains: Sequence[str], face: DemoFace, progress: Progress = no_progress
) -> list[DemoAnswer]:
    """Ask each domain what people would ask, and show the answers."""
    model, tokenizer = store.load()
    asked = list[DemoAnswer]()
    for domain in domains:
        kept = demo_questions(domain)
        for number, one in enumerate(kept, start=1):
            answer = store.ask(one.question, model=model, tokenizer=tokenizer)
            asked.append(DemoAnswer(one, answer))
            progress(f"asking {domain}", number, len(kept), "")
        face.show_asked(domain, asked[len(asked) - len(kept) :])
    return asked


def _prove(store: Store, newest: str, asked: Sequence[DemoAnswer], face: DemoFace) -> None:
    """Take the newest domain out, prove that exact, and roll back; erase one document, ask its
    question again, and roll back.
    """
    queries = store.registry.queries
    texts = [TEXT, *(one.asked.question for one in asked[::5])]
    full, before = queries.live(), _before(store, newest)
    whole = look(store, texts)
    store.remove(newest, REMOVED)
    if look(store, texts) != look(store, texts, before.id):
        what = f"without {newest} the logits differ from snapshot {before.id}'s"
        raise StateError(f"{what}; run `peer-cl doctor` and `peer-cl verify`")
    face.say(
        f"\nwithout {newest}: logits of {len(texts)} texts equal snapshot {before.id}'s, which "
        "never held it, bit for bit"
    )
    _roll_back(store, full, ROLLED_BACK, texts, whole)
    face.say(f"rolled back to snapshot {full.id}: {newest} is there again, bit for bit")
    right = [one for one in asked if one.is_right and one.answer.sources[0].is_passage]
    if right:
        _erase(store, right[0], face)
    _roll_back(store, full, DONE, texts, whole)
    face.say(f"rolled back to snapshot {full.id}: all as it was, bit for bit")


def _erase(store: Store, one: DemoAnswer, face: DemoFace) -> None:
    source = one.answer.sources[0]
    face.say(f"\n{one.asked.question}\n  with {source.title!r}: {one.answer.text}")
    store.erase(source.domain, source.document_id, ERASED)
    again: Answer = store.ask(one.asked.question)
    face.say(f"  {source.title!r} erased: {again.text}")


def _roll_back(
    store: Store, full: Snapshot, message: str, texts: Sequence[str], whole: str
) -> None:
    store.roll_back_to(full.id, message, with_erased=True)
    if look(store, texts) != whole:
        raise StateError(f"rolling back to snapshot {full.id} gave other logits than it had")


def _before(store: Store, domain: str) -> Snapshot:
    """Return the snapshot before a domain came."""
    past = store.registry.queries.ancestry(store.registry.queries.live().id)
    came = next(n for n, snapshot in enumerate(past) if snapshot.state(domain) is not None)
    return past[came - 1]


@torch.no_grad()
def look(store: Store, texts: Sequence[str], snapshot_id: int | None = None) -> str:
    """Return a hash over the logits of texts, of a snapshot or the live one."""
    model, tokenizer = store.load(snapshot_id)
    digest = hashlib.sha256()
    for text in texts:
        ids_BT = torch.tensor(tokenise(tokenizer, [text]))
        for routing in ("all", "prompt"):
            logits_BTV = model(ids_BT, routing=routing).logits
            digest.update(logits_BTV.float().contiguous().numpy().tobytes())
    return digest.hexdigest()

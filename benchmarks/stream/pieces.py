"""The pieces that learn: one domain by one method each, scored at once.

A piece's name says what it is: METHOD/sSEED/NUMBER-DOMAIN. Methods that change one model need the
piece before; pools and adapters of a domain need nothing, since domains never depend on each other.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stream import pools
from benchmarks.stream.data import Prepared, joined
from benchmarks.stream.keeping import put_adapter
from benchmarks.stream.methods.dense import (
    LORA_RANK,
    REPLAY_SHARE,
    WEIGHTS,
    AdapterBranches,
    FullFinetuning,
    Lora,
    Osf,
)
from benchmarks.stream.methods.embeddings import MiniLm
from benchmarks.stream.methods.method import Method
from benchmarks.stream.methods.rag import Rag
from benchmarks.stream.methods.sparse_memory import SHAPE as MEMORY_SHAPE
from benchmarks.stream.methods.sparse_memory import SparseMemory
from benchmarks.stream.raw import Raw, rare_sums, sums
from benchmarks.stream.texts import Texts
from benchmarks.stream.workshop import Workshop, recalled, score
from peer_cl.bases import Base
from peer_cl.errors import InputError, StateError
from pipelines.background import load_background
from pipelines.batches import tokenise
from pipelines.branches import PoolBranches
from pipelines.general import ReaderScorer, Scorer
from pipelines.init import MAX_BACKGROUND_TOKENS
from pipelines.precision import resolve_precision
from pipelines.reading import Reader, reader_of
from pipelines.settings import TrainingSettings

EQUAL_RANK = 27
"""The rank at which LoRA on every linear layer trains as many parameters as a pool has: 8.1M."""
Make = Callable[[Base, int, int], Method]
"""Of the base, the number of domains and the seed."""

CHAINS: dict[str, Make] = {
    "lora": lambda base, _, seed: Lora(base, seed=seed),
    "lora-replay": lambda base, _, seed: Lora(
        base, replay=REPLAY_SHARE, name="lora-replay", seed=seed
    ),
    "osf": lambda base, num_domains, _: Osf(base, num_domains),
    "full": lambda base, _, __: FullFinetuning(base),
    "sparse": lambda base, num_domains, seed: SparseMemory(
        base,
        _background(base),
        num_rows=MEMORY_SHAPE.num_experts // num_domains,  # nothing keeps them apart
        seed=seed,
    ),
    "rag": lambda base, _, __: Rag(base, MiniLm()),
}
"""Methods that hold one state, which goes from one domain to the next; RAG's is an index."""
SPARSE_TEXTS = 100
"""Ordinary texts against which sparse memory ranks rows."""
SPARING = "lora-mixture-sparing"
APART: dict[str, int] = {
    "lora-mixture": 16,
    "lora-mixture-equal": EQUAL_RANK,
    SPARING: EQUAL_RANK,
}
"""One LoRA a domain behind our mixture, by its rank; the last also reads ordinary text, as our
pools do."""
BASE, POOLS, JOINT = "base", "peer", "joint"


@dataclass(frozen=True)
class Place:
    """Where in a stream a piece stands."""

    method: str
    seed: int
    number: int
    domain: str

    @property
    def piece(self) -> str:
        """The piece's name."""
        return f"{self.method}/s{self.seed}/{self.number}-{self.domain}"


def places(method: str, seed: int, names: tuple[str, ...]) -> list[Place]:
    """Return a method's pieces, one a domain, in order."""
    return [Place(method, seed, number, name) for number, name in enumerate(names)]


def read_base(shop: Workshop) -> Raw:
    """Score every text and ask every question of the bare model."""
    base = shop.base()
    reader, began = ReaderScorer(reader_of(base.model)), time.monotonic()
    scores = score(reader, shop.texts, shop.progress)
    shop.tokens.write("base", shop.texts, scores)
    lengths = {group: [len(ids) - 1 for ids in rows] for group, rows in shop.texts.items()}
    return _summed(shop, scores, shop.names) | {
        "tokens": lengths,
        "rare_tokens": {
            name: [sum(t not in one.stock for t in item.ids[1:]) for item in one.test]
            for name, one in shop.prepared.items()
        },
        "recall": {name: _recall(reader, one) for name, one in shop.prepared.items()},
        "training_tokens": {name: one.num_tokens for name, one in shop.prepared.items()},
        "seconds": round(time.monotonic() - began, 1),
    }


def learn_in_chain(shop: Workshop, place: Place, learning_rate: float) -> Raw:
    """Train one model further on its next domain, keep it, and score what it makes of everything.

    Raises:
        StateError: when the model of the domain before is gone from the work folder.
    """
    settings = shop.settings
    method = CHAINS[place.method](shop.base(), len(shop.names), settings.seed)
    if place.number:
        method.load(_found(state_folder(shop, place, place.number - 1)))
    if isinstance(method, Lora):
        method.past = [shop.prepared[name] for name in shop.names[: place.number]]
    data, began = shop.prepared[place.domain], time.monotonic()
    method.learn(data, learning_rate=learning_rate, settings=settings, progress=shop.progress)
    seconds = time.monotonic() - began
    method.save(state_folder(shop, place, place.number))
    if place.number > 1:
        shutil.rmtree(state_folder(shop, place, place.number - 2), ignore_errors=True)
    is_last = place.number == len(shop.names) - 1
    texts = shop.groups("test", "prose", "look-alike") if is_last else shop.groups("test")
    asked = shop.names if is_last else (place.domain,)
    raw = _scored(shop, scorer_of(method), texts)
    raw["recall"] = {name: _recall(scorer_of(method), shop.prepared[name]) for name in asked}
    return raw | _about(shop, place, learning_rate, method.num_parameters, seconds)


def learn_jointly(shop: Workshop, seed: int, learning_rate: float) -> Raw:
    """Train one LoRA on all domains at once, as a reference for what can be learned: it has as
    many parameters as a chain's LoRA and as many again for each further domain."""
    settings, rank = shop.settings, LORA_RANK * len(shop.names)
    method = Lora(shop.base(), rank=rank, name=JOINT, seed=settings.seed)
    began = time.monotonic()
    together = joined(list(shop.prepared.values()), settings.seed)
    method.learn(together, learning_rate=learning_rate, settings=settings, progress=shop.progress)
    seconds = time.monotonic() - began
    place = Place(JOINT, seed, 0, "all")
    method.save(state_folder(shop, place, 0))
    raw = _scored(shop, scorer_of(method), shop.groups("test", "prose", "look-alike"))
    raw["recall"] = {n: _recall(scorer_of(method), one) for n, one in shop.prepared.items()}
    return raw | _about(shop, place, learning_rate, method.num_parameters, seconds)


def learn_pool(shop: Workshop, place: Place, learning_rate: float) -> Raw:
    """Ingest one domain into the stream's store, and score its pool forced on."""
    settings = replace(shop.settings, row_learning_rate=learning_rate)
    names = pool_stores(place.seed, learning_rate)
    with learned_pool(shop, names, place.domain, settings) as (branches, seconds):
        num = sum(p.numel() for s in branches.segments[place.domain] for p in s.parameters())
        return _branch(
            shop,
            place,
            functools.partial(branches.branch, place.domain),
            _about(shop, place, learning_rate, num, seconds),
        )


@contextmanager
def learned_pool(
    shop: Workshop, names: Sequence[str], domain: str, settings: TrainingSettings
) -> Iterator[tuple[PoolBranches, float]]:
    """Give a domain's pool, learned unless it was, and the seconds that its run took.

    A piece that was killed between its ingest and its raw file is done again, perhaps by another
    process, which writes to another part. So all parts are looked through first, and the pool is
    taken from where whoever mixes pools takes it: what is scored is what is mixed.

    Args:
        shop: the stream.
        names: of the stores in which it may lie; into the first it is learned.
        domain: its name.
        settings: how it is learned.

    Raises:
        StateError: when it is there and was learned with other settings.
    """
    with shop.store(names[0]) as store, shop.stores(*names) as stores:
        told = shop.domain(domain)
        seconds = pools.ingest(store, told, settings, shop.progress, others=stores)
        branches, _ = pools.load(stores, [domain])
        yield branches, seconds


def learn_adapter(shop: Workshop, place: Place, learning_rate: float) -> Raw:
    """Train a LoRA of its own on one domain, and score it forced on."""
    rank, seed = APART[place.method], shop.settings.seed
    ordinary = shop.ordinary() if place.method == SPARING else None
    method = Lora(shop.base(), rank=rank, name=place.method, seed=seed, ordinary=ordinary)
    began = time.monotonic()
    data = shop.prepared[place.domain]
    method.learn(data, learning_rate=learning_rate, settings=shop.settings, progress=shop.progress)
    seconds = time.monotonic() - began
    method.save(state_folder(shop, place, place.number))
    about = _about(shop, place, learning_rate, method.num_parameters, seconds)
    return _branch(shop, place, method.reader(), about)


def adapters(shop: Workshop, method: str, seed: int) -> AdapterBranches:
    """Return every domain's adapter, on one model.

    Raises:
        StateError: when one is gone from the work folder.
    """
    rank = APART[method]
    first = Lora(shop.base(), rank=rank)
    model: Any = first.model
    config = model.peft_config["default"]
    for place in places(method, seed, shop.names):
        model.add_adapter(place.domain, config)
        folder = _found(state_folder(shop, place, place.number))
        put_adapter(model, folder / WEIGHTS, place.domain)
    return AdapterBranches(model, shop.names)


def tune(shop: Workshop, method: str, learning_rate: float, domains: Sequence[str]) -> Raw:
    """Learn domains in a row from the base at a rate, and score their validation documents."""
    made = CHAINS[method](shop.base(), len(shop.names), shop.settings.seed)
    learned = [shop.prepared[domain] for domain in domains]
    for number, data in enumerate(learned):
        if number:
            made = _gone_on(shop, made, method)
        made.learn(
            data, learning_rate=learning_rate, settings=shop.settings, progress=shop.progress
        )
    return _validated(shop, learned, made.reader(), learning_rate)


def _gone_on(shop: Workshop, before: Method, method: str) -> Method:
    """Return a method as its next piece finds it: loaded from what the piece before kept."""
    shop.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shop.work) as folder:
        before.save(Path(folder))
        made = CHAINS[method](shop.base(), len(shop.names), shop.settings.seed)
        made.load(Path(folder))
    return made


def tune_pool(shop: Workshop, method: str, learning_rate: float, domains: Sequence[str]) -> Raw:
    """Ingest one domain at a rate of its rows, and score its validation documents."""
    settings = replace(shop.settings, row_learning_rate=learning_rate)
    (domain,) = domains
    with learned_pool(shop, (_tuned_store(learning_rate),), domain, settings) as (branches, _):
        reader = functools.partial(branches.branch, domain)
        return _validated(shop, [shop.prepared[domain]], reader, learning_rate)


def _validated(
    shop: Workshop, learned: Sequence[Prepared], reader: Reader, learning_rate: float
) -> Raw:
    """Return the loss on validation documents, each domain's counting alike."""
    losses = []
    for data in learned:
        num_tokens = sum(len(item.ids) - 1 for item in data.validation)
        if not num_tokens:
            raise InputError(
                f"{data.name} has no validation document: no rate can be chosen with it"
            )
        rows = {"validation": [item.ids for item in data.validation]}
        found = sums(score(ReaderScorer(reader), rows, shop.progress)["validation"])
        losses.append(sum(found) / num_tokens)
    return {"learning_rate": learning_rate, "loss_nats": sum(losses) / len(losses)}


def _tuned_store(learning_rate: float) -> str:
    return f"tune-{POOLS}-{learning_rate:g}"


def store_name(seed: int) -> str:
    """Return the name of a seed's store in the work folder."""
    return f"{POOLS}-s{seed}"


def pool_stores(seed: int, learning_rate: float) -> tuple[str, ...]:
    """Return the names of the stores in which a seed's pools lie, the seed's own first.

    What tuning learned at the rate is the same pool, since domains never depend on each other.
    """
    return (store_name(seed), *(() if seed else (_tuned_store(learning_rate),)))


def subject(method: str, seed: int, domain: str) -> str:
    """Return the name of a branch's per-token scores."""
    return f"{method}/s{seed}/{domain}"


def scorer_of(method: Method) -> Scorer:
    """Return a method as what is scored: RAG puts a passage before what it reads."""
    return method.scorer() if isinstance(method, Rag) else ReaderScorer(method.reader())


def _branch(shop: Workshop, place: Place, reader: Reader, about: Raw) -> Raw:
    scorer = ReaderScorer(reader)
    scores = score(scorer, shop.texts, shop.progress)
    shop.tokens.write(subject(place.method, place.seed, place.domain), shop.texts, scores)
    recall = {place.domain: _recall(scorer, shop.prepared[place.domain])}
    return _summed(shop, scores, [place.domain]) | {"recall": recall} | about


def _scored(shop: Workshop, scorer: Scorer, texts: Texts) -> Raw:
    return _summed(shop, score(scorer, texts, shop.progress), shop.names)


def _summed(shop: Workshop, scores: dict[str, list[np.ndarray]], names: Sequence[str]) -> Raw:
    """Return sums a document of every group, and without stock words of these domains' unseen."""
    rare = {
        group: rare_sums(scores[group], shop.texts[group], shop.prepared[name].stock)
        for name in names
        for group in [f"test/{name}"]
    }
    return {"nats": {group: sums(found) for group, found in scores.items()}, "rare_nats": rare}


def _recall(scorer: Scorer, data: Prepared) -> dict[str, list[int]]:
    return recalled(scorer.answers(data.questions), [one.wording for one in data.questions])


def _background(base: Base) -> list[list[int]]:
    texts = [text for source in load_background("calibration") for text in source.documents]
    every = len(texts) // SPARSE_TEXTS
    return [ids[:MAX_BACKGROUND_TOKENS] for ids in tokenise(base.tokenizer, texts[::every])]


def _about(
    shop: Workshop, place: Place, learning_rate: float, num_parameters: int, seconds: float
) -> Raw:
    return {
        "method": place.method,
        "seed": place.seed,
        "number": place.number,
        "domain": place.domain,
        "learning_rate": learning_rate,
        "num_parameters": num_parameters,
        "precision": resolve_precision(shop.settings.precision),
        "seconds": round(seconds, 1),
    }


def state_folder(shop: Workshop, place: Place, number: int) -> Path:
    """Return where a method's state after a domain is kept."""
    return shop.work / "states" / f"{place.method}-s{place.seed}" / str(number)


def _found(folder: Path) -> Path:
    if not folder.is_dir():
        raise StateError(
            f"{folder} is gone: the model that this piece goes on from; remove the raw files of "
            "its method and seed, and its pieces are done again from the first"
        )
    return folder

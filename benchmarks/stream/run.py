"""Running the stream: a method learns one domain after the other, and leaves a piece for each.

Models, adapters and our store stay in the work folder; what is deleted there is learned again.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import StreamDomain
from benchmarks.stream import data as stream_data
from benchmarks.stream import methods
from benchmarks.stream.data import Prepared, Texts, prepare_domain, replayed
from benchmarks.stream.mixing import branch_pieces
from benchmarks.stream.raw import DIGITS, MethodScores, Piece, RawFolder
from benchmarks.stream.report import BRANCHES, OURS, WORDINGS
from peer_cl.bases import Base, load_base
from peer_cl.errors import StateError
from pipelines import init_store, open_store
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store

CAPACITY, BUDGET = 16, 0.02


@dataclass
class Stream:
    """One run of the stream with one seed."""

    raw: RawFolder
    work: Path
    """Models, adapters and our store."""
    names: tuple[str, ...] = corpora.NAMES
    """The domains, in order."""
    base_id: str = SMOLLM2
    load: Callable[[str], StreamDomain] = corpora.load
    read_texts: Callable[[Sequence[Prepared], Any], Texts] = stream_data.read_texts
    background: Sequence[str] | None = None
    """Texts for our store; None: the pinned calibration sources."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    progress: Progress = no_progress

    def run(self, method: str) -> None:
        """Measure a method's missing pieces.

        Raises:
            StateError: when texts or questions are not those of the committed scores, or a model
                that a piece continues is gone from the work folder.
        """
        names = [f"{number}-{name}" for number, name in enumerate(self.names)]
        if method in BRANCHES:
            names.append("mixture")
        done = self.raw.read(method).pieces
        missing = [n for n, name in enumerate(names) if self._named(name) not in done]
        if method in BRANCHES and missing:
            pieces = self._ours() if method == OURS else self._adapters(method)
            for name, piece in pieces.items():
                self.raw.add(method, self._named(name), piece)
            return
        for number in missing:
            self.raw.add(method, self._named(names[number]), self._chain(method, number))

    def _named(self, piece: str) -> str:
        return f"s{self.settings.seed}/{piece}"

    def base(self) -> Base:
        """Return the pretrained model, loaded anew: some methods change it in place."""
        return load_base(resolve_base(self.base_id))

    @functools.cached_property
    def prepared(self) -> list[Prepared]:
        """Every domain as token ids."""
        base = self.base()
        return [prepare_domain(self.load(name), base, self.settings) for name in self.names]

    @functools.cached_property
    def texts(self) -> Texts:
        """What every method reads, checked to be what the committed scores are of."""
        base = self.base()
        found = self.read_texts(self.prepared, base.tokenizer)
        if not self.raw.read("base").others:
            scores = base_scores(base.model, self.prepared, found)
            self.raw.write(MethodScores("base", {}, scores))
        stream_data.check_as_committed(self.raw.base(), self.prepared, found)
        return found

    # Branches: ours, and one LoRA a domain

    def _ours(self) -> dict[str, Piece]:
        with self._store() as store:
            model, tokenizer = store.load()
            about = {}
            for name in self.names:
                chain = store.registry.queries.domain(name).chain
                about[name] = {
                    "num_parameters": sum(one.numel() for one in model.pool(name).parameters()),
                    "seconds": round(sum(segment.seconds for segment in chain), 1),
                }
            found = branch_pieces(model, tokenizer, self.prepared, self.texts, about, self.progress)
            found["mixture"] |= {"budget": model.budget, "capacity": model.capacity}
            model.detach()
        return found

    def _store(self) -> Store:
        """Return our store, with those domains ingested that it lacked."""
        folder = self.work / f"{OURS}-s{self.settings.seed}"
        store = (
            open_store(folder)
            if (folder / "store.toml").is_file()
            else init_store(
                folder,
                base=self.base_id,
                budget=BUDGET,
                capacity=CAPACITY,
                background=self.background,
                progress=self.progress,
            )
        )
        for one in self.prepared:
            if store.registry.queries.live().state(one.name) is None:
                store.ingest(
                    one.name,
                    one.documents,
                    facts=one.facts,
                    settings=self.settings,
                    progress=self.progress,
                )
        return store

    def _adapters(self, method: str) -> dict[str, Piece]:
        """Train one LoRA a domain and put them behind the mixture, with our router keys."""
        about = {}
        for number, one in enumerate(self.prepared):
            began = time.monotonic()
            model = methods.new_lora(self.base(), method, self.settings.seed)
            rate = methods.RATES[method]
            methods.fit(model, one, rate, self.settings, self.work / "trainer")
            model.save_pretrained(self._state(method, number))
            about[one.name] = {
                "num_parameters": methods.num_trained(model),
                "seconds": round(time.monotonic() - began, 1),
            }
        with self._store() as store:
            ours, tokenizer = store.load()
            folders = {one: self._state(method, n) for n, one in enumerate(self.names)}
            reader = methods.AdapterReader(ours, self.base(), folders)
            found = branch_pieces(
                reader, tokenizer, self.prepared, self.texts, about, self.progress
            )
            found["mixture"] |= {"budget": ours.budget, "capacity": ours.capacity}
            ours.detach()
        return found

    # One state that goes from domain to domain

    def _chain(self, method: str, number: int) -> Piece:
        before = self._state(method, number - 1) if number else None
        if before is not None and not before.is_dir():
            raise StateError(
                f"{before} is gone, which {method} continues: remove its pieces of seed "
                f"{self.settings.seed} from {self.raw.folder}/{method}.json.zst, or the file"
            )
        own, began = self.prepared[number], time.monotonic()
        if method == "lora-replay" and number:
            own = replayed(own, self.prepared[:number], methods.REPLAY_SHARE, self.settings.seed)
        model, num_parameters = methods.learn_next(
            self.base(),
            method,
            own,
            number=number,
            num_domains=len(self.names),
            before=before,
            settings=self.settings,
            work=self.work / "trainer",
        )
        seconds = time.monotonic() - began
        model.save_pretrained(self._state(method, number))
        if number > 1:
            shutil.rmtree(self._state(method, number - 2), ignore_errors=True)
        return {
            **self._scores(model, number),
            "num_parameters": num_parameters,
            "seconds": round(seconds, 1),
        }

    def _scores(self, model: Any, number: int) -> Piece:
        """Return what a state makes of all test documents; at the end also of background text."""
        is_last = number == len(self.names) - 1
        kinds = ("test/", "prose/", "near-domain/") if is_last else ("test/",)
        groups = [own for group, own in self.texts.items() if group.startswith(kinds)]
        rows = {key: ids for own in groups for key, ids in own.items()}
        learned = self.prepared if is_last else [self.prepared[number]]
        asked = {key: question for one in learned for key, question in one.questions.items()}
        nats = [round(value, DIGITS) for value in methods.losses(model, list(rows.values()))]
        right = map(int, methods.answers(model, list(asked.values())))
        return {
            "nats": dict(zip(rows, nats, strict=True)),
            "right": dict(zip(asked, right, strict=True)),
        }

    def _state(self, method: str, number: int) -> Path:
        return self.work / f"{method}-s{self.settings.seed}-{number}"


def base_scores(model: Any, domains: Sequence[Prepared], texts: Texts) -> dict[str, Any]:
    """Return what base.json.zst holds: which texts and questions there are, and the base's scores.

    It is part of the repository, and made anew for another stream or base alone.
    """
    rows = {key: ids for own in texts.values() for key, ids in own.items()}
    asked = {key: question for one in domains for key, question in one.questions.items()}
    nats = [round(value, DIGITS) for value in methods.losses(model, list(rows.values()))]
    right = map(int, methods.answers(model, list(asked.values())))
    return {
        "texts": {group: list(own) for group, own in texts.items()},
        "questions": {
            one.name: {
                wording: [key for key, q in one.questions.items() if q.wording == wording]
                for wording in WORDINGS
            }
            for one in domains
        },
        "tokens": {key: len(ids) - 1 for key, ids in rows.items()},
        "nats": dict(zip(rows, nats, strict=True)),
        "right": dict(zip(asked, right, strict=True)),
    }


def show(what: str, done: int, total: int, note: str) -> None:
    """Show on one line of stderr how far a piece is."""
    sys.stderr.write(f"\r{what} {done}/{total} {note}".ljust(78)[:78])
    if done >= total:
        sys.stderr.write("\n")
    sys.stderr.flush()

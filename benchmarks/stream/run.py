"""Running the stream: each domain gets its pool, then all are read behind the mixture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import StreamDomain
from benchmarks.stream import data as stream_data
from benchmarks.stream.data import Prepared, Texts, prepare_domain
from benchmarks.stream.mixing import asked_piece, base_scores, text_pieces, wordings_piece
from benchmarks.stream.raw import Piece, RawFolder
from benchmarks.stream.report import OURS
from peer_cl.bases import Base, load_base
from peer_cl.model import PeerModel
from pipelines import init_store, open_store
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store

PARTS = ("asked", "mixture", "wordings")
"""What is measured apart, and kept as soon as it is: each takes minutes to a quarter of an hour."""


@dataclass
class Stream:
    """One run of the stream with one seed."""

    raw: RawFolder
    work: Path
    """Our store; what is deleted there is learned again."""
    names: tuple[str, ...] = corpora.NAMES
    """The domains, in order."""
    base_id: str = SMOLLM2
    load: Callable[[str], StreamDomain] = corpora.load
    read_texts: Callable[[Sequence[Prepared], Any], Texts] = stream_data.read_texts
    background: Sequence[str] | None = None
    """Texts for our store; None: the pinned calibration sources."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    processes: int = 1
    progress: Progress = no_progress

    def run(self) -> None:
        """Measure ours, where pieces of it are missing, and the base, where there is none.

        Raises:
            StateError: when texts or questions are not those of the committed scores.
        """
        done = self.raw.read(OURS)["pieces"]
        missing = [one for one in PARTS if f"s{self.settings.seed}/{one}" not in done]
        if not missing:
            return
        with self.store() as store:
            ours, tokenizer = store.load()
            if not self.raw.has_base:
                texts = self.read_texts(self.prepared, tokenizer)
                self.raw.write(base_scores(ours, self.prepared, texts))
            for part in missing:
                found = self._measured(part, store, ours, tokenizer)
                named = {f"s{self.settings.seed}/{name}": piece for name, piece in found.items()}
                self.raw.add(OURS, named)
            ours.detach()

    def facts_alone(self) -> tuple[Piece, float]:
        """Return what is answered and found where no document is learned, and the seconds in which
        a hundred facts were.
        """
        with self.store(has_documents=False) as store:
            ours, tokenizer = store.load()
            piece = asked_piece(ours, tokenizer, self.prepared, self.progress)
            seconds = [_about_pool(store, ours, name)["seconds"] for name in self.names]
            ours.detach()
        num = sum(len(one.facts) for one in self.prepared)
        return piece, 100 * sum(seconds) / num

    def _measured(
        self, part: str, store: Store, ours: PeerModel, tokenizer: Any
    ) -> dict[str, Piece]:
        texts = self.texts  # refuses others than the committed ones
        if part == "asked":
            return {part: asked_piece(ours, tokenizer, self.prepared, self.progress)}
        if part == "wordings":
            return {part: wordings_piece(ours, tokenizer, self.prepared, self.progress)}
        about = {name: _about_pool(store, ours, name) for name in self.names}
        found = text_pieces(ours, self.prepared, texts, about, self.progress)
        found["mixture"] |= {"budget": ours.budget, "capacity": ours.capacity}
        return found

    def base(self) -> Base:
        """Return the pretrained model."""
        return load_base(resolve_base(self.base_id))

    @functools.cached_property
    def prepared(self) -> list[Prepared]:
        """Every domain as token ids."""
        base = self.base()
        return [prepare_domain(self.load(name), base) for name in self.names]

    @functools.cached_property
    def texts(self) -> Texts:
        """What every method reads, checked to be what the committed scores are of."""
        found = self.read_texts(self.prepared, self.base().tokenizer)
        stream_data.check_as_committed(self.raw.base(), self.prepared, found)
        return found

    def store(self, *, has_documents: bool = True) -> Store:
        """Return our store, with those domains ingested that it lacked."""
        about = "" if has_documents else "-facts"
        about += "" if self.base_id == SMOLLM2 else f"-{self.base_id}"
        folder = self.work / f"{OURS}{about}-s{self.settings.seed}"
        if (folder / "store.toml").is_file():
            store = open_store(folder)
        else:
            store = init_store(
                folder, base=self.base_id, background=self.background, progress=self.progress
            )
        for one in self.prepared:
            if store.registry.queries.live().state(one.name) is None:
                store.ingest(
                    one.name,
                    one.documents if has_documents else [],
                    facts=one.facts,
                    settings=self.settings,
                    processes=self.processes,
                    progress=self.progress,
                )
        return store


def _about_pool(store: Store, model: PeerModel, name: str) -> Piece:
    chain = store.registry.queries.domain(name).chain
    return {
        "num_parameters": sum(one.numel() for one in model.pool(name).parameters()),
        "seconds": round(sum(segment.seconds for segment in chain), 1),
    }

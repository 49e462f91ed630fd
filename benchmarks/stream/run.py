"""Running the stream: each domain gets its branch, then all are read behind the mixture."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import StreamDomain
from benchmarks.stream import data as stream_data
from benchmarks.stream.adapters import RANKS, AdapterReader, train_adapter
from benchmarks.stream.data import Prepared, Texts, prepare_domain
from benchmarks.stream.mixing import BranchReader, branch_pieces
from benchmarks.stream.raw import Piece, RawFolder
from benchmarks.stream.report import OURS
from peer_cl.bases import Base, load_base
from peer_cl.model import PeerModel
from pipelines import init_store, open_store
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings
from pipelines.store import Store


@dataclass
class Stream:
    """One run of the stream with one seed."""

    raw: RawFolder
    work: Path
    """Adapters and our store; what is deleted there is learned again."""
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
        """Measure ours, or one LoRA a domain, where pieces of it are missing.

        Raises:
            StateError: when texts or questions are not those of the committed scores.
        """
        pieces = [*(f"{number}-{name}" for number, name in enumerate(self.names)), "mixture"]
        done = self.raw.read(method)["pieces"]
        if all(f"s{self.settings.seed}/{piece}" in done for piece in pieces):
            return
        with self._store() as store:
            ours, tokenizer = store.load()
            model: BranchReader = ours
            if method == OURS:
                about = {name: _about_pool(store, ours, name) for name in self.names}
            else:
                folders, about = self._trained_adapters(method)
                model = AdapterReader(ours, self.base(), folders)
            found = branch_pieces(model, tokenizer, self.prepared, self.texts, about, self.progress)
            found["mixture"] |= {"budget": ours.budget, "capacity": ours.capacity}
            ours.detach()
        named = {f"s{self.settings.seed}/{name}": piece for name, piece in found.items()}
        self.raw.add(method, named)

    def base(self) -> Base:
        """Return the pretrained model, loaded anew: PEFT changes it in place."""
        return load_base(resolve_base(self.base_id))

    @functools.cached_property
    def prepared(self) -> list[Prepared]:
        """Every domain as token ids."""
        base = self.base()
        return [prepare_domain(self.load(name), base, self.settings) for name in self.names]

    @functools.cached_property
    def texts(self) -> Texts:
        """What every method reads, checked to be what the committed scores are of."""
        found = self.read_texts(self.prepared, self.base().tokenizer)
        stream_data.check_as_committed(self.raw.base(), self.prepared, found)
        return found

    def _store(self) -> Store:
        """Return our store, with those domains ingested that it lacked."""
        folder = self.work / f"{OURS}-s{self.settings.seed}"
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
                    one.documents,
                    facts=one.facts,
                    settings=self.settings,
                    progress=self.progress,
                )
        return store

    def _trained_adapters(self, method: str) -> tuple[dict[str, Path], dict[str, Piece]]:
        """Train one LoRA a domain; return their folders, and what is known of each."""
        folders, about = {}, {}
        for number, one in enumerate(self.prepared):
            began = time.monotonic()
            model = train_adapter(self.base(), RANKS[method], one, self.settings)
            folders[one.name] = self.work / f"{method}-s{self.settings.seed}-{number}"
            model.save_pretrained(folders[one.name])
            about[one.name] = {
                "num_parameters": model.get_nb_trainable_parameters()[0],
                "seconds": round(time.monotonic() - began, 1),
            }
        return folders, about


def _about_pool(store: Store, model: PeerModel, name: str) -> Piece:
    chain = store.registry.queries.domain(name).chain
    return {
        "num_parameters": sum(one.numel() for one in model.pool(name).parameters()),
        "seconds": round(sum(segment.seconds for segment in chain), 1),
    }

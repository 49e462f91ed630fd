"""What all pieces share: the domains, the texts, the base, and where things are kept."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stream import corpora
from benchmarks.stream.data import TEST_TOKENS, Prepared, prepare_domain
from benchmarks.stream.domains import StreamDomain
from benchmarks.stream.methods.dense import LORA_RANK, OSF_KEPT, REPLAY_SHARE
from benchmarks.stream.methods.sparse_memory import SHAPE as MEMORY_SHAPE
from benchmarks.stream.methods.sparse_memory import memory_layers
from benchmarks.stream.questions import general, naming
from benchmarks.stream.raw import RawFolder, TokenScores, key
from benchmarks.stream.texts import FOREIGN_DOCUMENTS, Texts, blocks, foreign, unseen
from peer_cl.bases import Base, load_base
from peer_cl.errors import StateError
from pipelines import open_store
from pipelines.base_models import SMOLLM2, resolve_base
from pipelines.batches import tokenise
from pipelines.general import Scorer
from pipelines.init import init_store, spread_layers
from pipelines.loading import kept_ordinary, load_background_statistics
from pipelines.ordinary import OrdinaryText
from pipelines.progress import Progress, no_progress
from pipelines.questions import Question
from pipelines.rewordings import REWORDED
from pipelines.settings import RECIPE, TrainingSettings
from pipelines.store import Store
from pipelines.training_rows import planned_steps

CAPACITY = 16
BUDGET = 0.02
ABILITY_ITEMS = 250
"""Of each task of general ability, for methods that are not ours."""
OF_POOLS = (
    "shape",
    "key_learning_rate",
    "quiet_weight",
    "quiet_tokens",
    "kl_weight",
    "upper_share",
)
"""Settings that nothing but a pool reads."""
PART = "-part"
"""Stands between the names of a store and of its part."""
WITH_POOLS = frozenset(["peer", "sparse"])
"""Methods in whose pieces a pool learns, as their names stand in those of the pieces."""
OWN: dict[str, dict[str, Any]] = {
    "lora-replay": {"rank": LORA_RANK, "replay": REPLAY_SHARE},
    "joint": {"rank": LORA_RANK},
    "osf": {"kept": OSF_KEPT},
    "sparse": {"shape": MEMORY_SHAPE.to_dict(), "layers": memory_layers(4)},
}
"""What else makes a method, by its name in those of the pieces. That of LoRA alone and of one
adapter a domain stands in their names: their ranks."""
READS_ORDINARY = frozenset(["lora-mixture-sparing"])
"""Rivals that weigh the divergence on ordinary text as pools do."""


@dataclass
class Workshop:
    """One stream and one folder of raw scores.

    Args:
        raw: where the scores of pieces are kept.
        work: stores, adapters and per-token scores; may be deleted, then pieces are done again.
        names: the domains, in the order of the stream.
        base_id: the pretrained model.
        load: gives a domain by its name.
        foreign: gives text of no domain: (tokenizer, names, most documents) to groups of rows.
        background: ordinary texts for a new store; None: the pinned calibration sources.
        data: folder of the public sets; None: what needs them is left out.
        settings: how every domain is learned.
        most_facts: of each domain.
        most_documents: read of each domain, unseen ones included; None: all that it has.
        most_foreign: documents of each foreign source.
        test_tokens: about how many tokens of a domain's unseen documents are read.
        capacity: of the stores, in pools.
        host_layers: of the stores; None: the default ones.
        empties: where stores without a domain are kept; None: in the work folder.
        ability_items: of each task of general ability, for methods that are not ours.
        most_items: of each public set, whoever reads it; None: all that there are.
        part: stands behind the names of the stores that this process writes to. A store has one
            writer, so processes side by side have one each.
        progress: told how far a piece is.
    """

    raw: RawFolder
    work: Path
    names: tuple[str, ...]
    base_id: str = SMOLLM2
    load: Callable[[str], StreamDomain] = corpora.load
    foreign: Callable[[Any, Sequence[str], int], Texts] = foreign
    background: Sequence[str] | None = None
    data: Path | None = None
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    most_facts: int = 100
    most_documents: int | None = None
    most_foreign: int = FOREIGN_DOCUMENTS
    test_tokens: int = TEST_TOKENS
    capacity: int = CAPACITY
    host_layers: Sequence[int] | None = None
    empties: Path | None = None
    ability_items: int = ABILITY_ITEMS
    most_items: int | None = None
    part: str = ""
    progress: Progress = no_progress
    _seeded: dict[int, Workshop] = field(default_factory=dict, init=False, repr=False)

    @property
    def tokens(self) -> TokenScores:
        """Per-token scores."""
        return TokenScores(self.work / "tokens")

    def base(self) -> Base:
        """Return the pretrained model, loaded anew: some methods change it in place."""
        return load_base(resolve_base(self.base_id))

    def store(self, name: str) -> Store:
        """Return a store in the work folder, made where it is missing.

        Background statistics take minutes: an empty store is made once and copied.

        Raises:
            StateError: when what is there has other host layers: it was made by another version.
        """
        folder = self.work / f"{name}{self.part}"
        if not (folder / "store.toml").is_file():
            # Whole or absent: processes side by side read each other's parts.
            making = self.work / f"making-{folder.name}"
            shutil.rmtree(making, ignore_errors=True)
            shutil.copytree(self.prepare_store(), making)
            making.rename(folder)
        return self._opened(folder)

    def parts(self, *names: str) -> list[Path]:
        """Return the folders of stores and of their parts, in which pools were learned."""
        found = [
            folder
            for name in names
            for folder in (self.work / name, *sorted(self.work.glob(f"{name}{PART}*")))
        ]
        return [folder for folder in found if (folder / "store.toml").is_file()]

    @contextmanager
    def stores(self, *names: str) -> Iterator[list[Store]]:
        """Open those of these stores that are there, with all their parts, to read them.

        Raises: StateError: as `store`.
        """
        with ExitStack() as opened:
            yield [opened.enter_context(self._opened(folder)) for folder in self.parts(*names)]

    def prepare_store(self) -> Path:
        """Return the folder of a store without a domain, made where it is missing."""
        empty = self._empty()
        if not (empty / "store.toml").is_file():
            init_store(
                empty,
                base=self.base_id,
                host_layers=self.host_layers,
                budget=BUDGET,
                capacity=self.capacity,
                background=self.background,
                progress=self.progress,
            ).close()
        return empty

    def ordinary(self) -> OrdinaryText:
        """Return the ordinary text that a store without a domain keeps.

        Raises: StateError: when it keeps none.
        """
        with self._opened(self.prepare_store()) as store:
            kept = kept_ordinary(store.registry)
        if kept is None:
            raise StateError(f"{self._empty()} keeps no ordinary text: remove it")
        return kept

    def _empty(self) -> Path:
        layers = "" if self.host_layers is None else "".join(f"-{n}" for n in self.host_layers)
        return (self.empties or self.work) / f"empty-{self.capacity}{layers}"

    def _opened(self, folder: Path) -> Store:
        store = open_store(folder)
        config = store.registry.config
        wanted = tuple(self.host_layers or spread_layers(config.num_layers))
        if config.host_layers != wanted:
            store.close()
            raise StateError(
                f"{folder} has host layers {list(config.host_layers)}, not {list(wanted)}: remove "
                f"it and {self._empty()}, and they are made again"
            )
        words = load_background_statistics(store.registry).words
        if words is None or not len(words.marks_M):
            store.close()
            when = "words counted" if words is None else "tokens without a letter were no words"
            raise StateError(
                f"{folder} was made before {when}: remove it and {self._empty()}, and they are "
                "made again"
            )
        return store

    def domain(self, name: str) -> StreamDomain:
        """Return a domain's documents and facts, with the questions that nobody may train on."""
        found = self.load(name)
        return replace(
            found,
            documents=found.documents[: self.most_documents],
            facts=found.facts[: self.most_facts],
        )

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer."""
        return self.base().tokenizer

    @functools.cached_property
    def prepared(self) -> dict[str, Prepared]:
        """Every domain of the stream as token ids, with the seed's order of steps."""
        base = self.base()
        return {
            name: prepare_domain(
                self.domain(name), base, self.settings, test_tokens=self.test_tokens
            )
            for name in self.names
        }

    @functools.cached_property
    def texts(self) -> Texts:
        """What is read after each domain."""
        tokenizer, domains = self.tokenizer, list(self.prepared.values())
        return {
            **unseen(domains),
            **blocks(domains, tokenizer),
            **self.foreign(tokenizer, self.names, self.most_foreign),
        }

    @functools.cached_property
    def general(self) -> list[Question]:
        """Questions about no domain; the whole of each is its prompt."""
        return self._prompts("general", [one.prompt for one in general()])

    def naming(self, name: str) -> list[Question]:
        """Return sentences that name a domain's subjects and ask nothing that it knows."""
        return self._prompts("naming", naming(self.domain(name).facts))

    def _prompts(self, wording: str, texts: Sequence[str]) -> list[Question]:
        rows = tokenise(self.tokenizer, texts)
        return [Question("", wording, tuple(ids), len(ids)) for ids in rows]

    def made_of(self, piece: str) -> str:
        """Return a hash over what a piece is made of: domains, base, settings, rows and texts, and
        where a pool learns, the recipe.

        Seed and rate of the rows are left out: a piece has its own. So is what changes nothing:
        where no pool learns, what pools alone are told; where nothing is reworded, how often that
        is read; where every run is longer, the fewest steps.
        """
        settings = self.settings.to_dict()
        parts = set(re.split(r"[./]", piece))
        has_pools = bool(WITH_POOLS & parts)
        kinds = {row.kind for one in self.prepared.values() for row in one.rows}
        unused = [] if REWORDED in kinds else ["reworded_passes"]
        unused += [] if self._has_short_runs else ["least_steps"]
        if "hold_out_percent" not in self.settings.record():  # as before there was such a setting
            unused.append("hold_out_percent")
        untold = set() if has_pools else set(OF_POOLS)
        if READS_ORDINARY & parts:
            untold.remove("kl_weight")
        for own in ("seed", "row_learning_rate", *unused, *untold):
            del settings[own]
        if has_pools:  # the same settings may have trained other weights
            settings["recipe"] = RECIPE
        for method in sorted(OWN.keys() & parts):
            settings["own"] = OWN[method]
        about = json.dumps([self._read_by_all, settings], sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    @functools.cached_property
    def _has_short_runs(self) -> bool:
        """Whether a domain is read more often for being small."""
        as_told = replace(self.settings, least_steps=1)
        return any(
            len(planned_steps(one.rows, as_told)) < self.settings.least_steps
            for one in self.prepared.values()
        )

    @functools.cached_property
    def _read_by_all(self) -> list[Any]:
        about: list[Any] = [self.names, self.base_id]
        # Changed wordings are drawn anew with each seed; those of the first stand for all.
        for name, one in self.with_seed(0).prepared.items():
            rows = [row.ids for row in one.rows]
            asked = [question.ids for question in one.questions]
            about.append([name, [key(ids) for ids in (*rows, *asked)]])
        about += [[group, [key(ids) for ids in rows]] for group, rows in self.texts.items()]
        return [*about, [key(one.ids) for one in self.general]]

    def spare(self, name: str) -> Texts:
        """Return texts that no figure reads: a domain's unseen ones, and prose: for choosing."""
        prose = self.foreign(self.tokenizer, self.names, 2 * self.most_foreign)
        return {f"spare/{name}": [item.ids for item in self.prepared[name].spare]} | {
            group: rows[self.most_foreign :]
            for group, rows in prose.items()
            if group.startswith("prose")
        }

    @property
    def general_rare(self) -> list[int]:
        """By general question, 1 where a rare word of a domain stands in it."""
        return [int(one.rare is not None) for one in general()]

    def with_seed(self, seed: int) -> Workshop:
        """Return the same stream in another random order, from another initialisation."""
        if seed == self.settings.seed:
            return self
        if seed not in self._seeded:  # dividing and tokenising eight corpora is work of its own
            settings = replace(self.settings, seed=seed)
            self._seeded[seed] = replace(self, settings=settings)
        return self._seeded[seed]

    def groups(self, *kinds: str) -> Texts:
        """Return the texts of some kinds: test, blocks128, prose, look-alike."""
        return {group: rows for group, rows in self.texts.items() if group.split("/")[0] in kinds}


def score(scorer: Scorer, texts: Texts, progress: Progress) -> dict[str, list[np.ndarray]]:
    """Return log probabilities of every text, by group."""
    scores: dict[str, list[np.ndarray]] = {}
    for number, (group, rows) in enumerate(texts.items()):
        scores[group] = scorer.log_probs(rows)
        progress("reading", number + 1, len(texts), group)
    return scores


def recalled(answered: Sequence[bool], wordings: Sequence[str]) -> dict[str, list[int]]:
    """Return answers by wording, 1 where a question was answered exactly.

    Example:
        >>> recalled([True, False, True], ["seen", "reworded", "seen"])
        {'seen': [1, 1], 'reworded': [0]}
    """
    found: dict[str, list[int]] = {}
    for answer, wording in zip(answered, wordings, strict=True):
        found.setdefault(wording, []).append(int(answer))
    return found

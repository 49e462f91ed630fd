"""A store, as Python users meet it: ingest, load, evaluate, and a domain's life.

from pipelines import open_store
store = open_store("knowledge")
store.ingest("medicine", "notes/")
model, tokenizer = store.load()
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.progress import Progress, no_progress
from stores.queries import Finding, PurgeResult, Snapshot
from stores.registry import Registry

if TYPE_CHECKING:
    from peer_cl.model import PeerModel
    from pipelines.background import BackgroundSource
    from pipelines.corpora import CorpusSource
    from pipelines.erase import Erasure
    from pipelines.experts import DomainExperts
    from pipelines.facts import Fact
    from pipelines.ingest import IngestReport
    from pipelines.report import EvaluationReport
    from pipelines.settings import TrainingSettings
    from pipelines.trace import Trace
    from pipelines.verify import VerifyReport


def open_store(folder: str | Path = "knowledge", *, author: str | None = None) -> Store:
    """Return the store in a folder.

    Args:
        folder: where `init_store` made it.
        author: recorded with every act; default: the user's name.

    Raises:
        StoreFormatError: when there is none, or it is of another format.
    """
    return Store(Registry.open(Path(folder)), author=author)


class Store:
    """An open store. Use as a context manager, or `close` it.

    Questions about what it holds go to `registry.queries` and `registry.uses`. Heavy imports
    happen in the verbs that need them.
    """

    def __init__(self, registry: Registry, *, author: str | None = None) -> None:
        self.registry = registry
        self.author = author or getpass.getuser()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.registry.close()

    # Learning and reading

    def ingest(
        self,
        domain: str,
        corpus: CorpusSource,
        *,
        facts: Iterable[Fact] = (),
        settings: TrainingSettings | None = None,
        message: str = "",
        on_bad_row: Literal["stop", "skip"] = "stop",
        progress: Progress = no_progress,
    ) -> IngestReport:
        """Learn a corpus as a new segment of a domain; see `pipelines.ingest.ingest`."""
        from pipelines.ingest import ingest

        return ingest(
            self.registry,
            domain,
            corpus,
            facts=facts,
            settings=settings,
            author=self.author,
            message=message,
            on_bad_row=on_bad_row,
            progress=progress,
        )

    def load(
        self, snapshot_id: int | None = None, *, with_disabled: bool = False
    ) -> tuple[PeerModel, Any]:
        """Return the model of a snapshot (default: the live one) and the base's tokenizer."""
        from pipelines.loading import load

        return load(self.registry, snapshot_id, with_disabled=with_disabled)

    def load_base(self) -> tuple[PeerModel, Any]:
        """Return the store's model without any pool, and the base's tokenizer."""
        from pipelines.loading import empty_model, load_store_base

        base = load_store_base(self.registry)
        return empty_model(self.registry, base), base.tokenizer

    def evaluate(
        self,
        progress: Progress = no_progress,
        *,
        background: bool | Sequence[BackgroundSource] = True,
        with_recall: bool = True,
        max_documents: int | None = None,
        max_background_tokens: int | None = None,
    ) -> EvaluationReport:
        """Score what is missing, store and return the report; see `pipelines.evaluate.evaluate`."""
        from pipelines.evaluate import evaluate

        return evaluate(
            self.registry,
            author=self.author,
            background=background,
            with_recall=with_recall,
            max_documents=max_documents,
            max_background_tokens=max_background_tokens,
            progress=progress,
        )

    def trace(
        self,
        text: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
        domains: str | Sequence[str] | None = None,
        routing: Literal["prompt", "all"] = "prompt",
        num_experts: int = 5,
        num_documents: int = 10,
        num_next: int = 5,
    ) -> Trace:
        """Return which branch predicts each token of a text; see `pipelines.trace.trace`."""
        from pipelines.trace import trace

        return trace(
            self.registry,
            text,
            model=model,
            tokenizer=tokenizer,
            snapshot=snapshot,
            domains=domains,
            routing=routing,
            num_experts=num_experts,
            num_documents=num_documents,
            num_next=num_next,
        )

    def experts(
        self,
        domain: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
    ) -> DomainExperts:
        """Return the experts of a live domain; see `pipelines.experts.DomainExperts`."""
        from pipelines.experts import DomainExperts

        return DomainExperts(
            self.registry, domain, model=model, tokenizer=tokenizer, snapshot=snapshot
        )

    def verify(self, progress: Progress = no_progress) -> VerifyReport:
        """Return whether bytes, base, pools and logits are right; see `pipelines.verify`."""
        from pipelines.verify import verify

        return verify(self.registry, progress=progress)

    def doctor(self, *, repair: bool = False) -> tuple[Finding, ...]:
        """Check everything that is stored; with `repair`, remove what a crash left behind."""
        from stores.fsck import check

        return check(self.registry, repair=repair)

    # A domain's life

    def freeze(self, domain: str, message: str = "") -> Snapshot:
        """Refuse further segments of a domain."""
        return self.registry.switch("freeze", domain, self.author, message)

    def unfreeze(self, domain: str, message: str = "") -> Snapshot:
        """Let a frozen domain learn again."""
        return self.registry.switch("unfreeze", domain, self.author, message)

    def disable(self, domain: str, message: str = "") -> Snapshot:
        """Keep a domain inactive until it is enabled again."""
        return self.registry.switch("disable", domain, self.author, message)

    def enable(self, domain: str, message: str = "") -> Snapshot:
        """Let a disabled domain be found again."""
        return self.registry.switch("enable", domain, self.author, message)

    def roll_back(
        self,
        domain: str,
        version: str | None = None,
        message: str = "",
        *,
        with_erased: bool = False,
    ) -> Snapshot:
        """Take a domain back to an earlier version.

        Args:
            domain: a live domain.
            version: its label ("v1") or its id; default: the one before the live one.
            message: recorded with the act.
            with_erased: also where that brings back documents that were erased since.

        Raises:
            UnknownError: when there never was such a domain or version.
            StateError: when the domain is not live, has no such earlier version, or the version
                holds documents that were erased since.
        """
        return self.registry.roll_back_domain(
            domain, version, self.author, message, with_erased=with_erased
        )

    def remove(self, domain: str, message: str = "") -> Snapshot:
        """Take a domain out of the store; `restore` puts it back."""
        return self.registry.remove(domain, self.author, message)

    def restore(self, domain: str, message: str = "", *, with_erased: bool = False) -> Snapshot:
        """Put a removed domain back as it was; `with_erased` as for `roll_back`."""
        return self.registry.restore(domain, self.author, message, with_erased=with_erased)

    def roll_back_to(
        self,
        snapshot_id: int,
        message: str = "",
        *,
        without_purged: bool = False,
        with_erased: bool = False,
    ) -> Snapshot:
        """Make the store as it was at a snapshot, as a new snapshot.

        Args:
            snapshot_id: the old snapshot.
            message: recorded with the act.
            without_purged: leave out domains whose bytes are gone; else such a snapshot is refused.
            with_erased: as for `roll_back`.

        Raises:
            UnknownError: when there is no such snapshot.
            StateError: when it is refused, or nothing would change.
        """
        return self.registry.roll_back(
            snapshot_id,
            self.author,
            message,
            without_purged=without_purged,
            with_erased=with_erased,
        )

    def erase(
        self,
        domain: str,
        document_ids: str | Sequence[str],
        message: str = "",
        progress: Progress = no_progress,
    ) -> Erasure:
        """Train a domain anew without some documents; see `pipelines.erase.erase`."""
        from pipelines.erase import erase

        return erase(
            self.registry,
            domain,
            document_ids,
            author=self.author,
            message=message,
            progress=progress,
        )

    def purge(self, domain: str, message: str = "", *, retired: bool = False) -> PurgeResult:
        """Delete the bytes of a domain that is not live, for ever.

        Args:
            domain: the domain's name.
            message: recorded with the act.
            retired: of a live domain, delete what no live version holds.
        """
        return self.registry.purge(domain, self.author, message, retired=retired)

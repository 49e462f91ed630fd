"""A store, as Python users meet it: ingest, load, evaluate, and a domain's life.

from pipelines import open_store
store = open_store("knowledge")
store.ingest("medicine", "notes/")
model, tokenizer = store.load()
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.progress import Progress, no_progress
from stores.queries import Finding, PurgeResult, Snapshot
from stores.registry import Registry

if TYPE_CHECKING:
    from peer_cl.model import PeerModel
    from pipelines.answer import Answer
    from pipelines.answer.calibrate import AskedQuestion, CalibrationReport
    from pipelines.corpora import CorpusSource
    from pipelines.erase import Erasure
    from pipelines.experts import DomainExperts
    from pipelines.ingest import IngestReport
    from pipelines.report import EvaluationReport
    from pipelines.trace import Trace, TracedItem
    from pipelines.verify import VerifyReport


def open_store(
    folder: str | Path = "knowledge", *, author: str | None = None, device: str = "auto"
) -> Store:
    """Return the store in a folder; acts are recorded with the author (default: the user's name).

    Models compute on `device`: "auto" (the machine's accelerator, else its processor), "cpu",
    "cuda", "cuda:1", "mps".

    Raises: StoreFormatError: when there is none, or it is of another format.
    """
    return Store(Registry.open(Path(folder)), author=author, device=device)


class Store:
    """An open store. Use as a context manager, or `close` it.

    Questions about what it holds go to `registry.queries`. Heavy imports happen in the verbs that
    need them.
    """

    def __init__(
        self, registry: Registry, *, author: str | None = None, device: str = "auto"
    ) -> None:
        self.registry = registry
        self.registry.device = device
        self.author = author or getpass.getuser()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.registry.close()

    # Learning and reading

    def ingest(self, domain: str, corpus: CorpusSource, **options: Any) -> IngestReport:
        """Learn a corpus as a new segment of a domain.

        Options: facts, questions, settings, message, on_bad_row, prune, processes, progress; see
        `pipelines.ingest.ingest`.
        """
        from pipelines.ingest import ingest

        return ingest(self.registry, domain, corpus, author=self.author, **options)

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

    def evaluate(self, progress: Progress = no_progress, **options: Any) -> EvaluationReport:
        """Score what is missing, store and return the report.

        Options: background, with_recall, questions, keep, max_documents; see
        `pipelines.evaluate.evaluate`.
        """
        from pipelines.evaluate import evaluate

        return evaluate(self.registry, author=self.author, progress=progress, **options)

    def trace(self, text: str, **options: Any) -> Trace:
        """Return which branch predicts each token of a text.

        Options: model and tokenizer, snapshot, domains, routing, num_experts, num_next; see
        `pipelines.trace.trace`.
        """
        from pipelines.trace import trace

        return trace(self.registry, text, **options)

    def search(self, prompt: str, **options: Any) -> list[TracedItem]:
        """Return the facts that a prompt names, those it asks for most first.

        Options: model and tokenizer; see `pipelines.trace.search`.
        """
        from pipelines.trace import search

        return search(self.registry, prompt, **options)

    def ask(self, question: str, **options: Any) -> Answer:
        """Return the answer to a question, how sure it is, and where it stands.

        Options: model and tokenizer, domains, details, base; see `pipelines.answer.asking.ask`.
        """
        from pipelines.answer import ask

        return ask(self.registry, question, **options)

    def calibrate(self, questions: Sequence[AskedQuestion], **options: Any) -> CalibrationReport:
        """Fit how sure answers are to questions of your own, as an act that rolls back.

        Options: message, progress; see `pipelines.answer.calibrate.calibrate`.
        """
        from pipelines.answer.calibrate import calibrate

        return calibrate(self.registry, questions, author=self.author, **options)

    def experts(self, domain: str, **options: Any) -> DomainExperts:
        """Return the own and the shared experts of a live domain.

        Options: model and tokenizer, snapshot; see `pipelines.experts.DomainExperts`.
        """
        from pipelines.experts import DomainExperts

        return DomainExperts(self.registry, domain, **options)

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
        self, domain: str, version: str | None = None, message: str = "", **options: bool
    ) -> Snapshot:
        """Take a domain back to an earlier version: its label ("v1") or id, or one version back.

        A version with documents that were erased since is refused, except `with_erased=True`.
        """
        return self.registry.roll_back_domain(domain, version, self.author, message, **options)

    def remove(self, domain: str, message: str = "") -> Snapshot:
        """Take a domain out of the store; `restore` puts it back."""
        return self.registry.remove(domain, self.author, message)

    def restore(self, domain: str, message: str = "", **options: bool) -> Snapshot:
        """Put a removed domain back as it was; `with_erased` as for `roll_back`."""
        return self.registry.restore(domain, self.author, message, **options)

    def roll_back_to(self, snapshot_id: int, message: str = "", **options: bool) -> Snapshot:
        """Make the store as it was at a snapshot, as a new snapshot.

        Domains there whose bytes are purged are refused, except `without_purged=True`, which leaves
        them out; `with_erased` as for `roll_back`.
        """
        return self.registry.roll_back(snapshot_id, self.author, message, **options)

    def erase(
        self,
        domain: str,
        document_ids: str | Sequence[str],
        message: str = "",
        *,
        wait: bool = False,
        progress: Progress = no_progress,
    ) -> Erasure:
        """Take documents out of a domain; see `pipelines.erase.erase`."""
        from pipelines.erase import erase

        return erase(
            self.registry,
            domain,
            document_ids,
            author=self.author,
            message=message,
            wait=wait,
            progress=progress,
        )

    def purge(self, domain: str, message: str = "", *, retired: bool = False) -> PurgeResult:
        """Delete the bytes of a domain that is not live, for ever.

        With `retired`, of a live domain: what no live version holds.
        """
        return self.registry.purge(domain, self.author, message, retired=retired)

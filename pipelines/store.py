"""A store, as Python users meet it: ingest, load, evaluate, and a domain's life.

from pipelines import open_store
store = open_store("knowledge")
store.ingest("medicine", "notes/")
model, tokenizer = store.load()
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer_cl.errors import InputError, StateError
from pipelines.progress import Progress, no_progress
from stores import PurgeResult, Registry, Snapshot
from stores.processes import user_name
from stores.snapshots import why_out
from stores.words import check_words

if TYPE_CHECKING:
    from peer_cl import PeerModel
    from pipelines.background import BackgroundSource
    from pipelines.bad_rows import BadRowPolicy
    from pipelines.documents import SourceDocument
    from pipelines.erasure import MaskedErasure
    from pipelines.experts import DomainExperts
    from pipelines.facts import Fact
    from pipelines.ingest import IngestReport
    from pipelines.retraining import ExactErasure
    from pipelines.rewordings import Rewordings
    from pipelines.searching import Found
    from pipelines.settings import TrainingSettings
    from pipelines.tracing import Trace


def open_store(folder: str | Path = "knowledge", *, who: str | None = None) -> Store:
    """Return the store in a folder.

    Args:
        folder: where `init_store` made it.
        who: written beside every act; default: the user's name.

    Raises:
        StoreFormatError: when there is none, or it is of a newer format.
    """
    return Store(Registry.open(Path(folder)), who=who)


class Store:
    """An open store. Use as a context manager, or `close` it.

    Reading goes through `registry`; heavy imports happen in the verbs that need them.
    """

    def __init__(self, registry: Registry, *, who: str | None = None) -> None:
        self.registry = registry
        # A user's name that cannot be kept is told where something is to be written.
        self.who = check_words("who", who) if who else user_name()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.registry.close()

    # --- learning and reading -------------------------------------------------------------------

    def ingest(
        self,
        domain: str,
        corpus: str | Path | Sequence[SourceDocument],
        *,
        facts: Iterable[Fact] = (),
        rewordings: Rewordings | None = None,
        settings: TrainingSettings | None = None,
        why: str = "",
        on_bad_row: BadRowPolicy = "stop",
        learn_erased: bool = False,
        progress: Progress = no_progress,
    ) -> IngestReport:
        """Learn a corpus as a new segment of a domain; see `pipelines.ingest.ingest`."""
        from pipelines.ingest import ingest

        return ingest(
            self,
            domain,
            corpus,
            facts=facts,
            rewordings=rewordings,
            settings=settings,
            why=why,
            on_bad_row=on_bad_row,
            learn_erased=learn_erased,
            progress=progress,
        )

    def load(
        self, snapshot_id: int | None = None, *, with_disabled: bool = False
    ) -> tuple[PeerModel, Any]:
        """Return the model of a snapshot (default: the live one) and the base's tokenizer.

        Args:
            snapshot_id: which snapshot.
            with_disabled: load disabled domains too.
        """
        from pipelines.loading import load

        return load(self.registry, snapshot_id, with_disabled=with_disabled)

    def load_base(self) -> tuple[PeerModel, Any]:
        """Return the store's model without any pool, and the base's tokenizer."""
        from pipelines.loading import empty_model, load_store_base

        base = load_store_base(self.registry)
        return empty_model(self.registry, base), base.tokenizer

    def trace(
        self,
        text: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
        domains: str | Sequence[str] | None = None,
        ask: str = "context",
        num_rows: int = 5,
        num_documents: int = 10,
        num_next: int = 5,
    ) -> Trace:
        """Return who speaks at each token of a text; see `pipelines.tracing.trace`."""
        from pipelines.tracing import trace

        return trace(
            self,
            text,
            model=model,
            tokenizer=tokenizer,
            snapshot=snapshot,
            domains=domains,
            ask=ask,
            num_rows=num_rows,
            num_documents=num_documents,
            num_next=num_next,
        )

    def search(
        self,
        text: str,
        *,
        model: PeerModel | None = None,
        tokenizer: Any = None,
        snapshot: Snapshot | None = None,
        domains: str | Sequence[str] = (),
        num_rows: int = 10,
        num_documents: int = 10,
    ) -> Found:
        """Return the rows and documents nearest to a text; see `pipelines.searching.search`."""
        from pipelines.searching import search

        return search(
            self,
            text,
            model=model,
            tokenizer=tokenizer,
            snapshot=snapshot,
            domains=domains,
            num_rows=num_rows,
            num_documents=num_documents,
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

        return DomainExperts(self, domain, model=model, tokenizer=tokenizer, snapshot=snapshot)

    def evaluate(
        self,
        progress: Progress = no_progress,
        *,
        background: bool | Sequence[BackgroundSource] = True,
        with_recall: bool = True,
        max_documents: int | None = None,
        max_background_tokens: int | None = None,
        general: str | Path | None = None,
        general_items: int = 250,
    ) -> dict[str, Any]:
        """Score what is missing and return the report; see `pipelines.evaluate.evaluate`.

        Args:
            progress: told how far it is.
            background: the pinned test sources, other ones, or none.
            with_recall: ask the facts too.
            max_documents: at most so many documents of each background source.
            max_background_tokens: each of these is cut to so many; default: as all documents.
            general: a folder (or file) of sets that measure general ability before and after.
            general_items: of each of these sets.
        """
        from pipelines.evaluate import evaluate
        from pipelines.token_scores import MAX_TOKENS

        most = MAX_TOKENS if max_background_tokens is None else max_background_tokens
        return evaluate(
            self,
            progress=progress,
            background=background,
            with_recall=with_recall,
            max_documents=max_documents,
            max_background_tokens=most,
            general=general,
            general_items=general_items,
        )

    # --- a domain's life ------------------------------------------------------------------------

    def freeze(self, domain: str, why: str = "") -> Snapshot:
        """Refuse further segments of a domain."""
        with self.registry.writing(self.who):
            return self.registry.freeze(domain, self.who, why)

    def unfreeze(self, domain: str, why: str = "") -> Snapshot:
        """Let a frozen domain learn again."""
        with self.registry.writing(self.who):
            return self.registry.unfreeze(domain, self.who, why)

    def disable(self, domain: str, why: str = "") -> Snapshot:
        """Never ask a domain's pool until it is enabled again."""
        with self.registry.writing(self.who):
            return self.registry.disable(domain, self.who, why)

    def enable(self, domain: str, why: str = "") -> Snapshot:
        """Let a disabled domain be asked again."""
        with self.registry.writing(self.who):
            return self.registry.enable(domain, self.who, why)

    def roll_back(
        self,
        domain: str,
        to_version: str | None = None,
        why: str = "",
        *,
        out: bool = False,
        with_erased: bool = False,
    ) -> Snapshot:
        """Take a domain back to an earlier version, or out of the store.

        Args:
            domain: a live domain.
            to_version: a version's label ("v1"), or its id; default: the one before the live one.
            why: written beside the act.
            out: to before it came, out of the store; then no version is named.
            with_erased: go back also where that brings back what was erased exactly.

        Raises:
            InputError: when it is to go out and to a version at once.
            UnknownError: when there never was such a domain or version.
            StateError: when it is not live, there is no such earlier version, or it holds what was
                erased exactly since.
        """
        if out and to_version is not None:
            raise InputError(
                f"{domain} cannot go out of the store and to version {to_version!r} at once"
            )
        with self.registry.writing(self.who):
            if not out and to_version is None:
                to_version = self._version_before(domain)
            return self.registry.roll_back_domain(
                domain, to_version, self.who, why, with_erased=with_erased
            )

    def _version_before(self, domain: str) -> str:
        """Return the id of the version before the live one."""
        detail = self.registry.domain(domain)
        chain = detail.chain
        if not chain:
            why = why_out(domain, is_purged=detail.summary.is_purged)
            raise StateError(f"domain {domain!r} is not live: {why}")
        kept = [version.id for version in detail.versions if not version.is_purged]
        if len(chain) == 1 and chain[0].id != kept[0]:
            raise StateError(
                f"{domain} is at {chain[0].label}, which grew on no other version; to go back to a "
                "snapshot of before it: `peer-cl rollback --to SNAPSHOT` (`peer-cl history`)"
            )
        if len(chain) == 1:
            raise StateError(
                f"{domain} is at {chain[0].label}, its first version; to take all of it out of the "
                f"store: `peer-cl rollback {domain} --out`, in Python out=True"
            )
        return chain[-2].id

    def bring_back(self, domain: str, why: str = "") -> Snapshot:
        """Put a domain that is out of the store back, as it last was in it."""
        with self.registry.writing(self.who):
            return self.registry.bring_back(domain, self.who, why)

    def restore(
        self,
        snapshot_id: int,
        why: str = "",
        *,
        without_purged: bool = False,
        with_erased: bool = False,
    ) -> Snapshot:
        """Make the store as it was at a snapshot, as a new snapshot.

        Args:
            snapshot_id: the old snapshot.
            why: written beside the act.
            without_purged: leave out domains whose bytes are gone; else such a snapshot is refused.
            with_erased: bring back what was erased exactly since; else such a snapshot is refused,
                with the documents named. An ingest then knows them, as the snapshot holds them.

        Raises:
            UnknownError: when there is no such snapshot.
            StateError: when it is refused, or nothing would change.
        """
        with self.registry.writing(self.who):
            return self.registry.roll_back(
                snapshot_id,
                self.who,
                why,
                without_purged=without_purged,
                with_erased=with_erased,
            )

    # --- erasure --------------------------------------------------------------------------------

    def erase_masked(
        self,
        domain: str,
        document_ids: str | Sequence[str],
        progress: Progress = no_progress,
        *,
        num_rows: int | None = None,
        why: str = "",
    ) -> MaskedErasure:
        """Switch off documents' own rows; see `pipelines.erasure.erase_masked`."""
        from pipelines.erasure import MASK_ROWS, erase_masked

        return erase_masked(
            self,
            domain,
            document_ids,
            num_rows=MASK_ROWS if num_rows is None else num_rows,
            why=why,
            progress=progress,
        )

    def erase_exact(
        self,
        domain: str,
        document_ids: str | Sequence[str],
        progress: Progress = no_progress,
        *,
        why: str = "",
    ) -> ExactErasure:
        """Train a domain anew without documents; see `pipelines.retraining.erase_exact`."""
        from pipelines.retraining import erase_exact

        return erase_exact(self, domain, document_ids, why=why, progress=progress)

    def purge(self, domain: str, why: str = "", *, retired: bool = False) -> PurgeResult:
        """Delete the bytes of a domain that is not live, and prove it; there is no way back.

        Args:
            domain: the domain's name.
            why: written beside the act.
            retired: of a live domain, delete what no live version holds.
        """
        with self.registry.writing(self.who):
            return self.registry.purge(domain, self.who, why, retired=retired)

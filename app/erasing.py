"""The verbs that take knowledge away for good: erase and purge."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from app.output import MOST, print_json, print_table, say, size
from app.progress import show_progress
from app.reading import DomainArgument
from app.request import Request, fail, verb
from app.unfinished import unfinished
from peer_cl.errors import InputError
from pipelines.documents import several
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from pipelines.erasure import MaskedErasure
    from pipelines.erasure_effect import Effect
    from pipelines.erasure_targets import Target
    from pipelines.retraining import ExactErasure
    from pipelines.store import Store
    from stores import PurgeResult

YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


@verb("json", "who", "why")
def erase(
    request: Request,
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOCUMENT...",
            help="Documents' ids, or their first six digits or more.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="Instead: all documents that came from there: a file, or one line of it "
            "(law.jsonl:13).",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            help="Instead: all whose title or kept text holds this, whatever the case.",
            show_default=False,
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain",
            help="Only from this domain; default: from every live one that holds them.",
            show_default=False,
        ),
    ] = None,
    masked: Annotated[
        bool,
        typer.Option(
            "--masked",
            help="Switch off the rows that are the documents' own: at once, and reversible with "
            "`rollback`; the effect is measured. It is no proof: other rows may hold some of it.",
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Train their segment and the later ones of the domain again without them: as if "
            "the domain had never seen them. `purge --retired` then deletes the old bytes.",
        ),
    ] = False,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=1,
            max=MOST,
            help="With --masked: at most so many rows of each document.",
            show_default=False,
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Erase documents from what was learned: --masked or --exact.

    The texts stay in the store until a purge; old snapshots can be restored until then, with
    `rollback --with-erased`. Ingests leave out what was erased with --exact, until all of the
    domain is purged.
    """
    if masked == exact:
        raise InputError(
            "choose one: --masked (at once, reversible, measured) or --exact (trained again)"
        )
    if exact and rows is not None:
        raise InputError("--rows is for --masked; --exact trains again and switches no row off")
    with request.store() as store:
        from pipelines.erasure_targets import check_texts, find_targets

        targets = find_targets(
            store.registry,
            document_ids=documents or (),
            source=source,
            search=search,
            domain=domain,
        )
        for target in targets if exact else ():  # before anything is promised or asked
            check_texts(target.documents)
        if not documents and not request.as_json:
            _list(targets)
        if masked and not documents:
            targets = _without_held_out(targets, as_json=request.as_json)
        for target in targets if exact and not request.as_json else ():
            _say_training(store, target)
        if exact and len({d.document_id for one in targets for d in one.documents}) > 1:
            confirm("erase", _what_goes(store, targets), yes=yes)
        get_ready()
        reports: list[MaskedErasure | ExactErasure] = []
        try:
            for target in targets:
                report = _erase_from(store, target, masked, rows, request.why)
                reports.append(report)
                if not request.as_json:  # as soon as it is done: the next domain may take long
                    _print_erasure(report)
        finally:  # where the second of two domains fails, the first is done and is told
            if request.as_json and reports:
                print_json([dataclasses.asdict(report) for report in reports])
        elsewhere = _held_elsewhere(store, targets)
    if elsewhere and not request.as_json:
        say(f"held by {', '.join(elsewhere)} too, which this did not touch")


def _without_held_out(targets: Sequence[Target], *, as_json: bool) -> tuple[Target, ...]:
    """Leave out of what a search found documents that no row holds, and say how many.

    Where none is left, all stay, and what is wrong with them is told where they are erased.
    """
    learned = [
        dataclasses.replace(
            target, documents=tuple(one for one in target.documents if one.split == "train")
        )
        for target in targets
    ]
    learned = [target for target in learned if target.documents]
    before, after = (sum(len(one.documents) for one in some) for some in (targets, learned))
    if not learned or before == after:
        return tuple(targets)
    held_out = several(before - after, "document")
    say(f"left out: {held_out} that no row holds, being held out of training", err=as_json)
    return tuple(learned)


def _say_training(store: Store, target: Target) -> None:
    """Say before an exact erasure what of a domain is trained again, and how long that took."""
    detail = store.registry.domain(target.domain)
    ids = {document.document_id for document in target.documents}
    held = [d for d in store.registry.documents(target.domain) if d.document_id in ids]
    holding = {document.segment_id for document in held}
    first = next(place for place, one in enumerate(detail.chain) if one.id in holding)
    again = detail.chain[first:]
    seconds = {run.segment_id: run.seconds for run in detail.runs}
    took = sum(seconds.get(segment.id, 0.0) for segment in again)
    if not any(document.split == "train" for document in held):
        say(f"{target.domain}: nothing was learned from what is erased, since it was held out")
    say(
        f"{target.domain} is trained again from {again[0].label} on, which took {took:.0f} s before"
    )


def _what_goes(store: Store, targets: Sequence[Target]) -> str:
    """Return how many documents an exact erasure is about, the learned ones apart."""
    ids, learned = set[str](), set[str]()
    for target in targets:
        own = {document.document_id for document in target.documents}
        # One that was held out and then learned stands in two segments.
        trained = store.registry.documents(target.domain, split="train")
        ids |= own
        learned |= own & {document.document_id for document in trained}
    held_out = len(ids - learned)
    if not learned:
        return f"{several(held_out, 'document')} that were held out will be erased"
    told = f"{several(len(learned), 'document')} will be trained away"
    return told + (f", and {held_out:,} held out will go with them" if held_out else "")


def _held_elsewhere(store: Store, targets: Sequence[Target]) -> list[str]:
    """Return the other domains, live or not, that hold what was erased."""
    ids = {d.document_id for target in targets for d in target.documents}
    return sorted(store.registry.holders(ids) - {target.domain for target in targets})


def _erase_from(
    store: Store, target: Target, masked: bool, rows: int | None, why: str
) -> MaskedErasure | ExactErasure:
    """Erase from one domain."""
    ids = [document.document_id for document in target.documents]
    with show_progress() as progress:
        if not masked:
            return store.erase_exact(target.domain, ids, progress, why=why)
        return store.erase_masked(target.domain, ids, progress, num_rows=rows, why=why)


def _print_erasure(report: MaskedErasure | ExactErasure) -> None:
    from pipelines.erasure import MaskedErasure

    say(f"{report.domain} is at {report.label} in snapshot {report.snapshot_id}")
    if isinstance(report, MaskedErasure):
        _print_masked(report)
    else:
        _print_exact(report)


def _print_masked(report: MaskedErasure) -> None:
    say(f"{report.num_rows:,} rows are off; `peer-cl rollback {report.domain}` takes it back")
    if report.effect is None:
        say("this store keeps no texts, so what it did to the document was not measured")
    else:
        _print_effect(report.effect)


def _print_effect(effect: Effect) -> None:
    print_table(
        "losses with the pool forced on, nats a token (base: what the model says without it)",
        ("document", "base", "before", "after", "share of the gain removed"),
        (
            (one.document_id[:12], one.base_nats, one.before_nats, one.after_nats, one.removed)
            for one in effect.documents
        ),
    )
    if effect.others_change_nats is not None:
        removed = effect.others_removed
        share = "" if removed is None else f", {removed:.1%} of their gain"
        say(
            f"{effect.num_others} other documents lose {effect.others_change_nats:+.4f} nats a "
            f"token on average{share}"
        )
    num_left = sum(one.removed is not None and one.removed < 0.5 for one in effect.documents)
    if num_left:
        say(
            f"most of what was gained on {num_left} of the documents is still there: --rows "
            "switches more off, --exact removes all of it"
        )


def _print_exact(report: ExactErasure) -> None:
    say(
        f"{_gone(len(report.document_ids))} from it; {several(report.num_kept, 'segment')} kept, "
        f"{report.num_retrained} trained again, {report.num_dropped} dropped, "
        f"{report.seconds:.0f} s"
    )
    for ids, what in (
        (report.near_ids, "near-duplicates or sections of the same document stay"),
        (report.unmasked_ids, "masked documents are known again; erase them anew"),
    ):
        if ids:
            say(f"{len(ids)} {what}: {', '.join(found[:12] for found in ids)}")
    say(
        f"old snapshots still hold them; `peer-cl purge {report.domain} --retired` deletes what "
        "no live version holds; ingests leave them out until all of the domain is purged"
    )


def _gone(num: int) -> str:
    return f"{several(num, 'document')} {'is' if num == 1 else 'are'} gone"


def confirm(word: str, what: str, *, yes: bool) -> None:
    """Let a person type a word before what cannot be taken back.

    Args:
        word: to be typed.
        what: will happen.
        yes: it was said on the command line already.

    Raises:
        InputError: when something else is typed, or there is nobody to ask.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():  # none: it was closed
        raise InputError(f"{what}: nobody can be asked here; say so with --yes")
    asked = f"{what}. Type {word!r} to go on"
    try:
        typed = typer.prompt(asked, default="", show_default=False, err=True)  # stdout may be JSON
    except typer.Abort:  # Ctrl-C, or the end of what is typed
        fail("interrupted; nothing was changed", 130)
    if typed.strip() != word:
        raise InputError(f"{word!r} was not typed; nothing was changed")


def _list(targets: Sequence[Target]) -> None:
    print_table(
        "to be erased",
        ("domain", "document", "split", "kind", "title", "source"),
        (
            (d.domain, d.document_id[:12], d.split, d.kind, d.title, d.source)
            for target in targets
            for d in target.documents
        ),
    )


@verb("json", "who", "why")
def purge(
    request: Request,
    domain: DomainArgument,
    retired: Annotated[
        bool,
        typer.Option(
            "--retired",
            help="Of a live domain: only what no live version holds, such as what was erased.",
        ),
    ] = False,
    yes: YesOption = False,
) -> None:
    """Delete a domain's bytes for good, and look for them afterwards.

    A domain that is live is rolled back first (`rollback DOMAIN --out`), or purged of what is
    --retired. Texts, scores, caches, reports and records of training go too; snapshots that held
    it can no longer be restored with it. All of a domain goes with its list of what was erased with
    --exact: a later ingest learns that again. Killed, the same command finishes it.
    """
    with request.store() as store:
        # What is wrong is told before anybody is asked; what changes while they think is not taken.
        live = store.registry.live()
        labels = store.registry.check_purgeable(domain, retired=retired, again=True)
        what = f"what no live version of {domain} holds" if retired else f"all of {domain}"
        told = f" ({', '.join(labels)})" if labels else ""
        num_erased = 0 if retired else store.registry.erased.count(domain)
        also = f", and {_forgets(num_erased)}" if num_erased else ""
        ended = unfinished(store.registry, domain)
        also += f", with {ended}" if ended else ""
        confirm(domain, f"{what}{told} will be deleted for good{also}", yes=yes)
        with store.registry.writing(store.who, expect=live.id):
            result = store.purge(domain, request.why, retired=retired)
    if request.as_json:
        print_json({**dataclasses.asdict(result), "num_erased_forgotten": num_erased})
        return
    _print_purge(result, is_live=retired)
    if num_erased:
        say(_forgets(num_erased))


def _forgets(num_erased: int) -> str:
    """Say what a purge of a whole domain forgets."""
    which = "it" if num_erased == 1 else "them"
    return (
        f"its list of {several(num_erased, 'erased document')} goes too: a later ingest learns "
        f"{which} again"
    )


def _print_purge(result: PurgeResult, *, is_live: bool) -> None:
    if not result.num_segments:
        left = (
            f"all that {result.domain} has learned is live"
            if is_live
            else f"{result.domain} holds nothing that was learned"
        )
        say(
            f"{left}; {result.num_objects:,} objects of {size(result.size_bytes)} that were left, "
            "caches, jobs' files and old copies are gone"
        )
        return
    say(
        f"{result.domain}: {several(result.num_segments, 'segment')} and "
        f"{several(result.num_documents, 'document')} are gone, "
        f"{several(result.num_objects, 'object')} of {size(result.size_bytes)}"
    )
    went = several(result.num_scores, "score"), several(result.num_evaluations, "report")
    say(f"{went[0]} and {went[1]} went with them")
    if result.num_shared_objects:
        say(f"{several(result.num_shared_objects, 'object')} kept: others need such too")
    shown = ", ".join(map(str, result.snapshots)) or "none"
    say(f"looked for afterwards and not found; snapshots that can no longer be restored: {shown}")

"""The verbs that read: domains, show, documents, document, history, doctor."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.dashboard.frames.acts import act_in_words, read_masks
from app.dashboard.frames.counts import kind_in_words
from app.output import MOST, moment, print_json, print_table, say, size
from app.request import Request, verb
from pipelines.documents import counted, mean_losses
from pipelines.left_out import KEY as LEFT_OUT
from pipelines.probes import holds_fact

if TYPE_CHECKING:
    from pipelines.holders import DocumentRow
    from stores import DomainDetail, DomainSummary, Event, Registry, Segment
    from stores.queries import Document, DocumentPlace

_PROBES = ("question", "rewordings")
"""What people call documents of kind "probe"."""
_WITHOUT_ROWS = {
    "question": "none: a question tests what was learned, and is never learned itself",
    "rewordings": "none of its own: the rows are those of the document that it says otherwise",
}
"""Why a document of some kinds is held by no row."""
OUT = "out"
"""The state of a domain that is not in the store, and of its versions."""
DomainArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain's name.")]


@verb("json")
def domains(request: Request) -> None:
    """List the domains, live or not."""
    with request.store() as store:
        live, config = store.registry.live(), store.registry.config
        found = store.registry.domains()
    if request.as_json:
        print_json(
            {
                "snapshot": live.id,
                "base": config.base_id,
                "budget": config.budget,
                "capacity": config.capacity,
                "domains": [dataclasses.asdict(item) for item in found],
            }
        )
        return
    print_table(
        f"{len(live.domains)} of {config.capacity} domains live in snapshot {live.id}",
        ("domain", "version", "state", "segments", "documents", "tokens", "size", "changed"),
        (
            (
                item.domain,
                item.label,
                state_in_words(item),
                item.num_segments,
                item.num_texts + item.num_held_out + item.num_facts,
                item.num_tokens,
                size(item.size_bytes),
                moment(item.changed_at),
            )
            for item in found
        ),
        empty="no domain yet; add one with `peer-cl ingest DOMAIN PATH`",
    )


def state_in_words(item: DomainSummary) -> str:
    """Return what a domain's state is, in a word or two."""
    if item.is_purged:
        return "purged"
    if not item.is_live:
        return OUT
    words = ["frozen"] * item.is_frozen + ["disabled"] * (not item.is_enabled)
    return ", ".join(words) or "live"


def version_in_words(segment: Segment, live: Collection[str]) -> str:
    """Return whether a version is live, rolled back, out with its domain, or purged.

    Args:
        segment: the version.
        live: ids of the domain's live versions; none where the domain is out.
    """
    if segment.is_purged:
        return "purged"
    if segment.id in live:
        return "live"
    return "rolled back" if live else OUT


@verb("json")
def show(
    request: Request,
    domain: DomainArgument,
    documents: Annotated[
        bool, typer.Option("--documents", help="List the documents of the live version too.")
    ] = False,
) -> None:
    """Show a domain: its versions, runs, documents and history."""
    with request.store() as store:
        detail = store.registry.domain(domain)
        is_live = detail.summary.is_live
        is_read = is_live and (documents or not request.as_json)
        listed = store.registry.documents(domain) if is_read else ()
        acts = _acts(store.registry, detail.events)
    if request.as_json:
        told = dataclasses.asdict(detail)
        for run in told["runs"]:
            run["config"].pop(LEFT_OUT, None)  # of documents, and as long as a corpus
        told["events"] = _told_events(acts)
        if documents:
            told["documents"] = [dataclasses.asdict(item) for item in listed]
        print_json(told)
        return
    _show_summary(detail, len({one.document_id for one in listed if holds_fact(one)}))
    _show_versions(detail, listed)
    _show_events(acts)
    if documents and is_live:
        _show_documents(listed)
    elif documents:
        say("documents: it has no live version")


def _show_summary(detail: DomainDetail, questions: int) -> None:
    item = detail.summary
    version = f", version {item.label} ({item.version})" if item.version else ""
    say(f"{item.domain}: {state_in_words(item)}{version}")
    say(counted(item.num_texts, item.num_held_out, item.num_facts, questions))
    say(f"{item.num_tokens:,} tokens, {item.num_experts:,} experts, {size(item.size_bytes)}")


def _show_versions(detail: DomainDetail, listed: Sequence[Document]) -> None:
    """Show a domain's versions; of the live ones what the documents that they learned cost."""
    runs = {run.segment_id: run for run in detail.runs}
    live = {segment.id for segment in detail.chain}
    rows = []
    for segment in detail.versions:
        run = runs.get(segment.id)
        before, after = mean_losses(one for one in listed if one.segment_id == segment.id)
        rows.append(
            (
                segment.label,
                segment.id[:12],
                version_in_words(segment, live),
                segment.num_tokens,
                size(segment.size_bytes),
                before,
                after,
                round(run.seconds) if run else None,
                moment(segment.created_at)[:10],
            )
        )
    columns = (
        *("version", "id", "state", "tokens", "size"),
        *("loss before", "after", "seconds", "made"),
    )
    print_table("versions (mean losses of what they learned, nats a token)", columns, rows)


def _acts(registry: Registry, events: Sequence[Event]) -> tuple[tuple[Event, str, str], ...]:
    """Return events with what was done in words, and at which version."""
    by_id = {snapshot.id: snapshot for snapshot in registry.snapshots()}
    masks = read_masks(registry, events)
    return tuple((event, *act_in_words(event, by_id, masks)) for event in events)


def _told_events(acts: Sequence[tuple[Event, str, str]]) -> list[dict[str, Any]]:
    """Return events as JSON tells them: `act` and `label` are what the tables say."""
    return [
        {**dataclasses.asdict(event), "act": words, "label": label or None}
        for event, words, label in acts
    ]


def _show_events(acts: Sequence[tuple[Event, str, str]]) -> None:
    print_table(
        "history",
        ("at", "who", "action", "version", "snapshot", "why"),
        (
            (moment(item.at), item.who, words, label or None, item.snapshot_id, item.why)
            for item, words, label in acts
        ),
    )


def _show_documents(listed: Sequence[Document]) -> None:
    print_table(
        "documents",
        (
            "document",
            "split",
            "kind",
            "tokens",
            "loss before",
            "after",
            "title",
            "source",
        ),
        (
            (
                item.document_id[:12],
                item.split,
                kind_in_words(item),
                item.num_tokens,
                item.base_nats,
                item.nats,
                item.title,
                item.source,
            )
            for item in listed
        ),
    )


@verb("json")
def documents(
    request: Request,
    domain: DomainArgument,
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option("--split", help="Only these: train, validation or test.", show_default=False),
    ] = None,
    kind: Annotated[
        Literal["text", "fact", "question", "rewordings", "probe"] | None,
        typer.Option(
            "--kind",
            help="Only these: text, fact, question or rewordings; in JSON the last two are of kind "
            "probe, which lists both.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=MOST, help="At most so many.", show_default=False),
    ] = None,
) -> None:
    """List the documents that a domain's live version learned or is measured on."""
    with request.store() as store:
        stored = "probe" if kind in _PROBES else kind
        found = store.registry.documents(domain, split=split, kind=stored)
    if kind in _PROBES:
        found = tuple(item for item in found if kind_in_words(item) == kind)
    listed = found[:limit]
    if request.as_json:
        print_json([dataclasses.asdict(item) for item in listed])
        return
    _show_documents(listed)
    tell_more(len(found) - len(listed))


def tell_more(num: int) -> None:
    """Say how many lines a --limit left out; nothing where it left out none."""
    if num:
        say(f"{num:,} more; --limit shows more of them")


@verb("json")
def document(
    request: Request,
    wanted: Annotated[
        str,
        typer.Argument(metavar="ID", help="The document's id, or its first six digits or more."),
    ],
    limit: Annotated[
        int, typer.Option("--rows", min=1, max=MOST, help="At most so many rows.")
    ] = 10,
) -> None:
    """Show a document: its text, where it is held, what it gained, and the rows that hold it."""
    from pipelines.holders import document_rows

    with request.store() as store:
        places = store.registry.document_places(wanted)
        segment_ids = [item.document.segment_id for item in places]
        rows = document_rows(store.registry, places[0].document.document_id, segment_ids)
        newest = places[-1].document
        is_kept = newest.text_object is not None
        text = store.registry.document_text(newest) if is_kept else None
    if request.as_json:
        print_json(
            {
                "text": text,
                "places": [dataclasses.asdict(item) for item in places],
                "num_rows": len(rows),
                "rows": [dataclasses.asdict(item) for item in rows[:limit]],
            }
        )
        return
    say(f"document {newest.document_id} ({kind_in_words(newest)}, {newest.num_tokens:,} tokens)")
    print_table(
        "held by",
        (
            "domain",
            "version",
            "state",
            "split",
            "loss before",
            "after",
            "run",
            "snapshot",
            "came",
            "title",
            "source",
        ),
        (
            (
                item.document.domain,
                item.label,
                "masked" if item.is_masked else "live" if item.is_live else "not live",
                item.document.split,
                item.document.base_nats,
                item.document.nats,
                item.run_id[:12],
                item.snapshot_id,
                moment(item.created_at),
                item.document.title,
                item.document.source,
            )
            for item in places
        ),
    )
    _show_rows(places, rows, limit)
    say(f"\n{text}" if text is not None else "this store keeps no texts")


def _show_rows(places: Sequence[DocumentPlace], rows: Sequence[DocumentRow], limit: int) -> None:
    """Show the rows that hold a document, the most specific first."""
    names = {item.document.segment_id: item for item in places}
    kind = kind_in_words(places[-1].document)
    print_table(
        f"rows that hold it, the most specific of {len(rows):,} first",
        ("domain", "version", "layer:row", "router weight", "share of the row", "documents"),
        (
            (
                names[item.segment_id].document.domain,
                names[item.segment_id].label,
                f"{item.host_layer}:{item.row}",
                item.weight,
                item.share,
                item.num_documents,
            )
            for item in rows[:limit]
        ),
        empty=_WITHOUT_ROWS.get(
            kind, "none is recorded: it was held out, or learned by an older version"
        ),
    )


@verb("json")
def history(
    request: Request,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="How many events.")] = 30,
    domain: Annotated[
        str | None, typer.Option("--domain", help="Only this domain's.", show_default=False)
    ] = None,
) -> None:
    """List what was done to the store, the newest first."""
    with request.store() as store:
        every = store.registry.history(domain=domain)
        events = every[:limit]
        acts = _acts(store.registry, events)
    if request.as_json:
        print_json(_told_events(acts))
        return
    print_table(
        "history",
        ("snapshot", "at", "who", "action", "domain", "version", "why"),
        (
            (
                item.snapshot_id,
                moment(item.at),
                item.who,
                words,
                item.domain,
                label or None,
                item.why,
            )
            for item, words, label in acts
        ),
    )
    tell_more(len(every) - len(events))


@verb("json")
def doctor(
    request: Request,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what a crash left behind.")
    ] = False,
    drop_unfinished: Annotated[
        bool,
        typer.Option(
            "--drop-unfinished",
            help="With --repair: remove also the checkpoints of ingests that did not finish, and "
            "uploads and logs of failed jobs. They begin anew then.",
        ),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Make the place of the objects this store's, where a copy of it wrote last; "
            "the copy can write no more.",
        ),
    ] = False,
) -> None:
    """Check the store: registry, objects' hashes, index and leftovers.

    Exits with 1 when data of the live or an older snapshot is missing or damaged.
    """
    with request.store() as store:
        findings = store.registry.doctor(
            repair=repair, take_over=take_over, drop_unfinished=drop_unfinished
        )
    is_hurt = any(item.severity == "error" for item in findings)
    if request.as_json:
        print_json([dataclasses.asdict(item) for item in findings])
    elif not findings:
        say("all is well")
    for item in () if request.as_json else findings:
        say(f"{item.severity}: {item.what}; {item.action}")
    if is_hurt:
        raise typer.Exit(1)

"""The verbs that ask which experts hold what: trace, search, experts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.output import MOST, print_json, print_table, say
from app.reading import DomainArgument
from app.report import NONE_ENABLED
from app.request import Request, verb
from peer_cl.errors import InputError
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from pipelines.experts import Expert, ExpertDetail, ExpertsReport
    from pipelines.holders import RankedDocument
    from pipelines.searching import Found, FoundRow
    from pipelines.store import Store
    from pipelines.tracing import NextToken, Trace, TracedRow
    from stores import DomainState

DomainsOption = Annotated[
    list[str] | None,
    typer.Option("--domain", help="Only this domain; may be repeated.", show_default=False),
]
_SHOWN_ROWS = 3


@verb("json")
def trace(
    request: Request,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to trace.", show_default=False)
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(
            "--document",
            metavar="ID",
            help="Trace a stored document; its own domains are asked, without --domain or --all.",
            show_default=False,
        ),
    ] = None,
    domain: DomainsOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Ask every enabled domain, whatever the text is like.")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, max=MOST, help="Strongest rows shown.")] = 5,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST, help="Documents shown, a domain.")
    ] = 5,
) -> None:
    """Show who speaks at each token of a text, by which rows, and which documents those hold."""
    with request.store() as store:
        wanted, domains = _text_to_trace(store, text, document, domain, every=every)
        get_ready()
        found = store.trace(
            wanted,
            domains=domains,
            ask="all" if every else "context",
            num_rows=rows,
            num_documents=limit,
        )
        states = store.registry.snapshot(found.snapshot).domains
        labels = _labels(store, states)
    if request.as_json:
        print_json(dataclasses.asdict(found))
    else:
        _print_trace(found, labels, can_ask=any(state.is_enabled for state in states))


def _text_to_trace(
    store: Store,
    text: str | None,
    document: str | None,
    domains: Sequence[str] | None,
    *,
    every: bool,
) -> tuple[str, Sequence[str] | None]:
    """Return the text, and the domains that are named; None: the shortlist decides, or all are.

    Raises: InputError: when neither or both of a text and a document are given, or both of some
        domains and all, or the document is in no live and enabled domain.
    """
    if (text is None) == (document is None):
        raise InputError('give either a text or --document ID, as in: peer-cl trace "some words"')
    if every and domains:
        raise InputError("--all asks every enabled domain, --domain only some: give one of the two")
    if document is None:
        return str(text), domains or None
    places = store.registry.document_places(document)
    if every:
        return store.registry.document_text(places[-1].document), None
    live = store.registry.live()
    holding = [
        place.document.domain
        for place in places
        if place.is_live and (state := live.state(place.document.domain)) and state.is_enabled
    ]
    if not holding and not domains:
        names = ", ".join(sorted({place.document.domain for place in places}))
        raise InputError(
            f"document {places[0].document.document_id[:12]} is in no live and enabled domain "
            f"(it came with {names}); name a domain with --domain, or bring that one back"
        )
    return store.registry.document_text(places[-1].document), domains or sorted(set(holding))


def _labels(store: Store, states: Sequence[DomainState]) -> dict[str, str]:
    """Return the labels of segments, by id, where a domain has several, and so several rows 1:16.

    Args:
        store: an open store.
        states: of the snapshot that is asked.
    """
    labels: dict[str, str] = {}
    for state in states:
        chain = [one for one in store.registry.chain(state.version) if one.kind == "rows"]
        if len(chain) > 1:
            labels |= {segment.id: segment.label for segment in chain}
    return labels


def _print_trace(found: Trace, labels: Mapping[str, str], *, can_ask: bool) -> None:
    asked = ", ".join(f"{name} {found.weights[name]:.4f}" for name in found.asked)
    say(f"asked: {asked or 'no domain'}; base {found.base_weight:.4f} (weights after the text)")
    if not found.asked:
        told = "the text asks no domain: the bare model answers; --domain or --all asks anyway"
        say(told if can_ask else NONE_ENABLED)
    tables: list[tuple[str, Sequence[str], list[Sequence[object]]]] = [
        (
            "tokens (nats; evidence above 0 speaks for the domain)",
            (
                "token",
                "base",
                "mixture",
                *(f"{what} {name}" for name in found.asked for what in ("weight", "evidence")),
                "strongest rows",
            ),
            [
                (
                    repr(token.text),
                    token.base_log_prob,
                    token.log_prob,
                    *(
                        value
                        for name in found.asked
                        for value in (token.weights[name], token.evidence[name])
                    ),
                    "  ".join(
                        _row_name(row, labels)
                        for name in found.asked
                        for row in token.rows[name][:_SHOWN_ROWS]
                    ),
                )
                for token in found.tokens
            ],
        ),
        (
            "strongest rows over the text",
            ("domain", _row_column(labels), "strength", "router weight"),
            [
                (row.domain, _row_name(row, labels), row.strength, row.weight)
                for name in found.asked
                for row in found.rows[name]
            ],
        ),
    ]
    for title, columns, listed in tables:
        if found.asked or title.startswith("tokens"):
            print_table(title, columns, listed)
    if found.asked:
        _print_documents("documents that the asked rows hold", found.documents)
    _print_next(found.next_base, found.next_injected)


def _row_column(labels: Mapping[str, str]) -> str:
    return "version:layer:row" if labels else "layer:row"


def _row_name(row: TracedRow | FoundRow, labels: Mapping[str, str]) -> str:
    """Return what `experts --row` takes; with the version where the domain has several."""
    label = labels.get(row.segment_id)
    return f"{row.host_layer}:{row.row}" if label is None else f"{label}:{row.host_layer}:{row.row}"


def _print_documents(title: str, documents: Sequence[RankedDocument]) -> None:
    print_table(
        title,
        ("domain", "document", "score", "kind", "title", "source"),
        [
            (item.domain, item.document_id[:12], item.score, item.kind, item.title, item.source)
            for item in documents
        ],
        empty="none is recorded",
    )


def _print_next(base: Sequence[NextToken], injected: Sequence[NextToken]) -> None:
    print_table(
        "the next token",
        ("base", "probability", "injected", "probability "),
        [
            (repr(one.text), one.probability, repr(other.text), other.probability)
            for one, other in zip(base, injected, strict=True)
        ],
    )


@verb("json")
def search(
    request: Request,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Some words, or a whole text.")],
    domain: DomainsOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST, help="Rows shown, and documents a domain.")
    ] = 10,
) -> None:
    """Find the rows that a text would ask, and the documents that they hold, in every domain."""
    with request.store() as store:
        for name in domain or ():
            store.registry.check_askable(name)
        get_ready()
        found = store.search(text, domains=domain or (), num_rows=limit, num_documents=limit)
        labels = _labels(store, store.registry.snapshot(found.snapshot).domains)
    if request.as_json:
        print_json(dataclasses.asdict(found))
    else:
        _print_found(found, labels)


def _print_found(found: Found, labels: Mapping[str, str]) -> None:
    print_table(
        "domains by what their signatures make of the text",
        ("domain", "log odds a token", "asked from", "asked"),
        [
            (name, odds, found.needed[name], _how_asked(found, name))
            for name, odds in found.log_odds.items()
        ],
        empty="none is live and enabled",
    )
    print_table(
        "rows that the text would ask",
        ("domain", _row_column(labels), "router weight"),
        [(row.domain, _row_name(row, labels), row.weight) for row in found.rows],
    )
    _print_documents("documents that they hold", found.documents)


def _how_asked(found: Found, domain: str) -> str:
    if domain in found.asked:
        return "yes"
    return "if it has a say: it is named" if domain in found.named else "no"


@verb("json")
def experts(
    request: Request,
    domain: DomainArgument,
    layer: Annotated[
        int | None, typer.Option("--layer", help="Only this host layer.", show_default=False)
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(
            "--row",
            metavar="LAYER:ROW",
            help="Show this row alone, and the documents that it holds; also VERSION:LAYER:ROW.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            help="With --row: the version that it came with; default: the newest.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST, help="Rows shown, or documents of one row.")
    ] = 10,
) -> None:
    """Show how a domain's experts are used, what they promote, and what they are like."""
    if version is not None and row is None:
        raise InputError(f"--version {version} is of one row: add --row LAYER:ROW")
    if layer is not None and row is not None:
        raise InputError(f"--row {row} names its layer: leave out --layer {layer}")
    if row is not None and row.count(":") == 2:
        named, _, row = row.partition(":")
        if version not in (None, named):
            raise InputError(f"--row names version {named}, --version {version}: give one of them")
        version = named
    with request.store() as store:
        store.registry.check_askable(domain)
        get_ready()
        from pipelines.experts import parse_row

        place = parse_row(row) if row is not None else None
        found = store.experts(domain)
        answer: Any = (
            _with_first(found.row(*place, version), limit)
            if place is not None
            else found.report(limit, layer)
        )
    if request.as_json:
        print_json(dataclasses.asdict(answer))
    elif place is not None:
        _print_expert(answer)
    else:
        _print_experts(answer)


def _with_first(detail: ExpertDetail, limit: int) -> ExpertDetail:
    """Return a row with the documents alone that it holds most of."""
    held = detail.held
    if held is None:
        return detail
    some = dataclasses.replace(held, documents=held.documents[:limit], shares=held.shares[:limit])
    return dataclasses.replace(detail, held=some)


def _print_experts(report: ExpertsReport) -> None:
    print_table(
        f"{report.domain}: use by host layer, over the documents that it learned",
        (
            "version",
            "layer",
            "rows",
            "used",
            "unevenness",
            "dead",
            "documents",
            "effective documents a row",
        ),
        [
            (
                item.label,
                item.host_layer,
                item.num_rows,
                item.usage,
                item.unevenness,
                item.num_dead,
                item.num_documents,
                item.effective_documents,
            )
            for item in report.layers
        ],
    )
    _print_rows("busiest rows", report.busiest)
    _print_rows("most specific rows", report.most_specific)


def _print_rows(title: str, rows: Sequence[Expert]) -> None:
    print_table(
        title,
        (
            "version",
            "layer:row",
            "share of use",
            "documents",
            "effective",
            "promotes",
            "nearest in other pools",
        ),
        [
            (
                item.label,
                f"{item.host_layer}:{item.row}",
                item.weight_share,
                item.num_documents,
                item.effective_documents,
                "(says nothing)" if item.is_silent else " ".join(map(repr, item.promotes)),
                "  ".join(f"{n.domain} {n.row} ({n.similarity:.2f})" for n in item.near) or "-",
            )
            for item in rows
        ],
    )


def _print_expert(detail: ExpertDetail) -> None:
    _print_rows("row", [detail.expert])
    if detail.held is None:
        say("no learned document uses it, in its own words or in others: it holds none")
        return
    print_table(
        "documents that it holds",
        ("document", "share of its use", "kind", "title", "source"),
        [
            (item.document_id[:12], share, item.kind, item.title, item.source)
            for item, share in zip(detail.held.documents, detail.held.shares, strict=True)
        ],
    )

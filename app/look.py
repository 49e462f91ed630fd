"""The verbs that read the store without a model, and the dashboard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from app.dashboard import server_command
from app.options import DEFAULT_STORE, Domain, Folder, Json, flag, open_store, opt
from app.output import moment, print_json, print_objects, say, size
from app.verbs import Answer, reads

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores.queries import DomainSummary, Run, Snapshot

Limit = Annotated[int, opt("N", "The most lines shown.", min=1)]

EVENTS = "snapshot=snapshot_id at author action domain version=label message"


@reads
def list_(opened: Store) -> Answer:
    """List the domains, live or not."""
    live, config = opened.registry.queries.live(), opened.registry.config
    yield (found := opened.registry.queries.domains())
    print_objects(
        f"{len(live.domains)} of {config.capacity} domains live in snapshot {live.id}",
        found,
        "domain version=label state segments=num_segments documents=num_documents "
        "tokens=num_tokens size=size_bytes changed=changed_at",
        empty="no domain yet; add one with `peer-cl ingest DOMAIN PATH`",
        state=describe_state,
    )
    if waiting := opened.registry.queries.pending(state.domain for state in live.domains):
        say(f"shared experts pending: {', '.join(waiting)}; `peer-cl erase --wait` trains them")


def describe_state(item: DomainSummary) -> str:
    """Return a domain's state in a word or two."""
    if item.is_purged:
        return "purged"
    if not item.is_live:
        return "removed"
    words = ["frozen"] * item.is_frozen + ["disabled"] * (not item.is_enabled)
    return ", ".join(words) or "live"


@reads
def show(opened: Store, domain: Domain) -> Answer:
    """Show a domain: its state, versions and log."""
    yield (detail := opened.registry.queries.domain(domain))
    item = detail.summary
    say(f"{item.domain}: {describe_state(item)}" + (f", {item.label}" if item.label else ""))
    learned = f"{item.num_texts:,} texts and {item.num_facts:,} facts learned"
    say(f"{learned}, {item.num_held_out:,} texts held out")
    say(f"{item.num_tokens:,} tokens, {item.num_experts:,} experts, {size(item.size_bytes)}")
    live = {segment.id for segment in detail.chain}
    print_objects(
        "\nversions",
        detail.versions,
        "version=label id state tokens=num_tokens size=size_bytes seconds made=created_at",
        state=lambda one: "purged" if one.is_purged else "live" if one.id in live else "not live",
    )
    print_objects("\nlog", detail.events, EVENTS)


@reads
def documents(
    opened: Store,
    domain: Domain,
    split: Annotated[
        Literal["train", "validation", "test"] | None, Option(help="Only this split; default: all.")
    ] = None,
    kind: Annotated[
        Literal["text", "fact", "question"] | None, Option(help="Only this kind; default: all.")
    ] = None,
    questions: Annotated[
        bool, flag("--questions", "The questions that were made of them, in their place.")
    ] = False,
    limit: Limit = 50,
) -> Answer:
    """List the documents of a domain's live version, or what they were taught to answer."""
    if questions:
        from pipelines.experts import study_questions

        made = study_questions(opened.registry, domain)
        yield made[:limit]
        columns = "question answer made_by=source is_kept document=document_id"
        print_objects("questions (kept: to be asked, never learned)", made[:limit], columns)
        if len(made) > limit:
            say(f"{len(made) - limit:,} more; --limit shows more of them")
        return
    found = opened.registry.queries.documents(domain, split=split, kind=kind)
    yield found[:limit]
    columns = "document=document_id split kind tokens=num_tokens base=base_nats with_pool=nats"
    title = "documents (losses right after the ingest, nats a token)"
    print_objects(title, found[:limit], f"{columns} title source")
    if len(found) > limit:
        say(f"{len(found) - limit:,} more; --limit shows more of them")


@reads
def document(
    opened: Store,
    wanted: Annotated[str, Argument(metavar="ID", help="Its id, or the first six digits.")],
) -> Answer:
    """Show a document: its text, the domains that hold it, and the experts that it owns."""
    from pipelines.experts import owned_experts

    queries = opened.registry.queries
    places = queries.places(wanted)
    newest = places[-1].document
    owned = owned_experts(opened.registry, places)
    text = queries.document_text(newest) if newest.text_object is not None else None
    yield {"text": text, "places": places, "owned": owned}
    say(f"document {newest.document_id} ({newest.kind}, {newest.num_tokens:,} tokens)")
    print_objects(
        "\nheld by (losses right after the ingest, nats a token)",
        places,
        "domain=document.domain version=label state split=document.split "
        "base=document.base_nats with_pool=document.nats snapshot=snapshot_id came=created_at "
        "title=document.title source=document.source",
        state=lambda one: "live" if one.is_live else "not live",
    )
    for one in owned:
        held = f"{one.num_experts} experts in {one.num_host_layers} host layers"
        say(f"\nin {one.domain} {one.label} it owns {held} ({size(one.size_bytes)})")
    if not owned:
        say("\nit owns no experts")
    say(f"\n{text}" if text is not None else "this store keeps no texts")


@reads
def log(
    opened: Store,
    limit: Limit = 30,
    domain: Annotated[str | None, opt("DOMAIN", "Only this domain's; default: all.")] = None,
) -> Answer:
    """List what was done to the store, the newest first."""
    yield (found := opened.registry.queries.events(limit=limit, domain=domain))
    print_objects("log", found, EVENTS)


@reads
def runs(opened: Store, limit: Limit = 20) -> Answer:
    """List ingests, evaluations and erasures, running or ended, the newest first."""
    yield (found := opened.registry.queries.runs(limit))
    print_objects(
        "runs",
        found,
        "run=id kind domain state progress snapshot=snapshot_id author started=started_at error",
        state=lambda one: "lost" if one.is_lost else one.state,
        progress=describe_progress,
    )


def describe_progress(run: Run) -> str:
    """Return what a run is doing, and how much of it is done."""
    if run.state != "running":
        return ""
    return f"{run.what} {run.done:,} of {run.total:,}" if run.total else run.what


@reads
def status(opened: Store) -> Answer:
    """Show what is live and what is wrong, in ten lines; `doctor` checks every stored byte."""
    queries, config = opened.registry.queries, opened.registry.config
    live, domains = queries.live(), queries.domains()
    going = [run for run in queries.runs(20) if run.state == "running"]
    states = {f"{one.domain} {one.label}": describe_state(one) for one in domains if one.is_live}
    names = [name + f" ({state})" * (state != "live") for name, state in states.items()]
    removed = [one.domain for one in domains if not (one.is_live or one.is_purged)]
    last = next(iter(queries.events(limit=1)))
    evaluations = {one.snapshot.index_tag: one.snapshot.id for one in queries.evaluations(live.id)}
    is_evaluated = live.index_tag in evaluations  # freezing makes a snapshot, and changes no figure
    running = [run for run in going if not run.is_lost]
    problems = [*_missing(opened, live)]
    for run in (run for run in going if run.is_lost):
        what = f"{run.kind} {run.domain or ''}".strip()
        again = "`peer-cl erase --wait`" if run.kind == "erase" else "the same command again"
        problems.append(f"the {what} was killed: run {again}")
    yield {
        **{"snapshot": live.id, "base": config.base_id, "capacity": config.capacity},
        **{"live": names, "removed": removed, "last_event": last, "is_evaluated": is_evaluated},
        **{"running": running, "problems": problems},
    }
    say(f"snapshot {live.id} on base {config.base_id}")
    say(f"live: {len(names)} of {config.capacity} domains: {', '.join(names) or 'none'}")
    if removed:
        say(f"removed: {', '.join(removed)}")
    say(f"last act: {last.action} {last.domain or ''} by {last.author}, {moment(last.at)}")
    last_one = max(evaluations.values(), default=None)
    older = f" (last at snapshot {last_one}, in other versions)" if last_one else ""
    say(f"evaluated: {'yes' if is_evaluated else f'no{older}; `peer-cl evaluate` does'}")
    for run in running:
        say(f"running: {run.kind} {run.domain or ''} {describe_progress(run)}")
    say("\n".join(f"problem: {one}" for one in problems) or "no problem found")


def _missing(opened: Store, live: Snapshot) -> Iterator[str]:
    """Yield which live domains lack a stored object."""
    registry = opened.registry
    for state in live.domains:
        chain = registry.queries.chain(state.version)
        named = {key for segment in chain for key in segment.objects.values()}
        if registry.objects.missing(key for key in named if key is not None):
            yield f"{state.domain} lacks stored objects: `peer-cl doctor` names them"


def doctor(
    repair: Annotated[bool, flag("--repair", "Remove what a crash left behind.")] = False,
    store: Folder = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Check the whole store: registry, objects' hashes and leftovers.

    Exits with 1 when data of the live or an older snapshot is missing or damaged.
    """
    with open_store(store) as opened:
        findings = opened.doctor(repair=repair)
    lines = [f"{one.severity}: {one.what}; {one.action}" for one in findings]
    print_json(findings) if as_json else say("\n".join(lines) or "all is well")
    if any(item.severity == "error" for item in findings):
        raise typer.Exit(1)


def dashboard(
    port: Annotated[int, Option(metavar="N", min=1, max=65535, help="Port to listen at.")] = 8501,
    no_browser: Annotated[bool, flag("--no-browser", "Open no browser window.")] = False,
    store: Folder = DEFAULT_STORE,
) -> None:
    """Open the dashboard, which only this machine can reach."""
    with open_store(store):
        pass  # what is wrong with the store is said here, not in the browser
    words = server_command(store, port=port, opens_browser=not no_browser)
    os.execv(words[0], words)  # Ctrl-C and signals are the server's from now on

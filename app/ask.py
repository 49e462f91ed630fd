"""The verbs that run the model: ask, serve, generate, trace, search, experts, verify, demo."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from app.options import DEFAULT_STORE, Domain, Domains, Folder, Json, flag, open_store, opt
from app.output import cell, print_json, print_objects, print_table, say, show_progress
from app.report import answer_lines, describe_weights, print_writings
from app.verbs import Answer, reads
from peer_cl.errors import InputError, StateError

if TYPE_CHECKING:
    from pipelines.answer import Answer as Answered
    from pipelines.demo_corpora.asking import DemoAnswer
    from pipelines.experts import Expert, ItemExperts
    from pipelines.store import Store
    from pipelines.trace import Trace, TracedExpert

KEY_VARIABLE = "PEER_CL_KEY"
SHOWN_EXPERTS = 3
"""Experts shown beside a token."""


@reads
def ask(
    opened: Store,
    questions: Annotated[
        list[str] | None, Argument(metavar="QUESTION...", help="What to ask.")
    ] = None,
    file: Annotated[
        Path | None, opt("FILE", "Ask each line of a file, too; - reads standard input.")
    ] = None,
    domain: Domains = None,
    details: Annotated[
        bool, flag("--details", "Show what was found, and what experts remember, too.")
    ] = False,
    base: Annotated[
        bool, flag("--base", "Where nothing is known, let the base answer in its own words.")
    ] = False,
) -> Answer:
    """Answer questions from what was learned, by quoting it."""
    asked = [*(questions or ()), *(_lines(file) if file is not None else ())]
    if not asked:
        raise InputError('ask something: peer-cl ask "Who founded Kiel?", or --file FILE')
    model, tokenizer = opened.load()
    answered = functools.partial(
        opened.ask,
        model=model,
        tokenizer=tokenizer,
        domains=domain,
        details=details,
        base=base,
    )
    yield lambda: [answered(one) for one in asked]
    for number, question in enumerate(asked):
        if len(asked) > 1:
            say(("\n" if number else "") + question)
        answer = answered(question)
        for line in answer_lines(answer):
            say(line)
        if details:
            _print_details(answer)


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read questions from {file}: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _print_details(one: Answered) -> None:
    say(f"\nread from the sentence: {one.short or '(nothing)'}")
    say(f"from memory: {one.memory or '(nothing)'}")
    print_objects(
        "\nfound",
        one.sources,
        "domain source title probability sentence",
        sentence=lambda source: shorten(source.sentence, 160),
    )


def serve(
    port: Annotated[int, Option(metavar="N", min=1, max=65535, help="Port to listen at.")] = 8000,
    store: Folder = DEFAULT_STORE,
) -> None:
    """Answer other programs as an OpenAI-compatible endpoint that only this machine reaches.

    The model is "peer-cl", or "peer-cl/DOMAIN" for one domain alone; replies carry their sources.
    The key is $PEER_CL_KEY, or else a new one, which is printed.
    """
    import uvicorn

    from app.server import make_app

    with open_store(store) as opened:
        try:
            listening = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"cannot listen at port {port}: {error.strerror}; --port N") from None
        key = os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(24)
        say(f"serving {store} at http://127.0.0.1:{port}/v1, key {key}")
        config = uvicorn.Config(make_app(opened, key), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


@reads
def generate(
    opened: Store,
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The beginning of a text.")],
    domain: Domains = None,
    oracle: Annotated[
        bool, flag("--oracle", "Let the pool of the one --domain write, whatever its weight.")
    ] = False,
    max_new_tokens: Annotated[int, opt("N", "The most tokens to write.", min=1)] = 60,
    sample: Annotated[bool, flag("--sample", "Draw tokens by their probability.")] = False,
    seed: Annotated[int | None, opt("N", "Seed of --sample; default: random.")] = None,
    compare: Annotated[bool, flag("--compare", "Show what the base alone writes, too.")] = False,
) -> Answer:
    """Continue a prompt, and show which branch wrote."""
    if oracle and len(domain or ()) != 1:
        raise InputError("--oracle lets one pool write: name one domain with --domain")
    queries = opened.registry.queries
    for name in domain or ():
        queries.check_active(name)
    from pipelines.writing import write

    model, tokenizer = opened.load()
    writing = write(
        model,
        tokenizer,
        prompt,
        domains=domain,
        oracle=oracle,
        max_new_tokens=max_new_tokens,
        sample=sample,
        seed=seed,
        compare=compare,
    )
    yield writing
    if compare:
        print_writings("continuations", [writing])
    else:
        say(writing.prompt + writing.text)
        say(f"\nwritten by {writing.writer} ({describe_weights(writing)})")


@reads
def trace(
    opened: Store,
    text: Annotated[str | None, Argument(metavar="TEXT", help="What to trace.")] = None,
    document: Annotated[str | None, opt("ID", "Trace this stored document.")] = None,
    domain: Domains = None,
    every: Annotated[bool, flag("--all", "Activate every enabled domain.")] = False,
    experts: Annotated[int, opt("N", "Experts shown, a domain.", min=1)] = 5,
) -> Answer:
    """Show which branch predicts each token, by which experts, and for which facts."""
    if (text is None) == (document is None):
        raise InputError('give either a text or --document ID: peer-cl trace "some words"')
    if every and domain:
        raise InputError("--all activates every domain, --domain only some: give one of the two")
    if document is not None:
        text, own_domains = _stored_document(opened, document)
        domain = domain or (None if every else own_domains)
    found = opened.trace(
        str(text),
        domains=domain,
        routing="all" if every else "prompt",
        num_experts=experts,
    )
    states = opened.registry.queries.snapshot(found.snapshot).domains
    chains = opened.registry.queries.chains([state.version for state in states]).values()
    yield found
    _print_trace(found, {one.id: one.label for c in chains if len(c) > 1 for one in c})


def _stored_document(opened: Store, wanted: str) -> tuple[str, list[str]]:
    """Return a document's text, and the live and enabled domains that hold it."""
    queries = opened.registry.queries
    places = queries.places(wanted)
    enabled = {state.domain for state in queries.live().domains if state.is_enabled}
    holding = {place.document.domain for place in places if place.is_live} & enabled
    if not holding:
        raise StateError(f"no live and enabled domain holds it: `peer-cl document {wanted}`")
    return queries.document_text(places[-1].document), sorted(holding)


def _print_trace(found: Trace, labels: Mapping[str, str]) -> None:
    def name(expert: TracedExpert) -> str:
        """Return what `experts --expert` takes; with the version where there are several."""
        label = labels.get(expert.segment_id)
        return f"{label + ':' if label else ''}{expert.host_layer}:{expert.expert}"

    weights = {"base": found.base_weight, **found.weights}
    shown = ", ".join(f"{name} {cell(weight)}" for name, weight in weights.items())
    say(f"active: {', '.join(found.active) or 'no domain'}; weights of the next token: {shown}")
    if not found.active:
        say("the router finds no domain that is live and enabled: the base answers")
    if found.items:
        print_objects(
            "\nfacts that the text asks for, and passages that it repeats",
            found.items,
            "domain document=document_id score statement",
            statement=lambda one: shorten(one.statement, 100),
        )
    for domain in {one.domain: None for one in found.items}:
        if not any(token.weights[domain] for token in found.tokens):
            say(f"{domain} enters behind the text, with its item: until then its weight is 0")
    weighed = [f"{what} {name}" for name in found.active for what in ("weight", "evidence")]
    print_table(
        "\ntokens (nats; weights that predict the token; evidence above 0 speaks for the domain)",
        ["token", "base", "mixture", *weighed, "strongest experts"],
        [
            *(
                (
                    *(repr(token.text), token.base_log_prob, token.log_prob),
                    *(x for d in found.active for x in (token.weights[d], token.evidence[d])),
                    "  ".join(
                        name(x) for d in found.active for x in token.experts[d][:SHOWN_EXPERTS]
                    ),
                )
                for token in found.tokens
            ),
            ("(next)", None, None, *(x for d in found.active for x in (weights[d], None)), ""),
        ],
    )
    if found.active:
        print_objects(
            "\nstrongest shared experts over the text",
            [expert for domain in found.active for expert in found.experts[domain]],
            "domain expert strength router_weight=weight",
            expert=name,
        )
    columns = {"base": found.next_base, "mixture": found.next_mixture}
    if found.next_without_items:
        columns["without these items"] = found.next_without_items
    print_table(
        "\nnext token",
        [heading for name in columns for heading in (name, "probability")],
        [
            [shown for one in row for shown in (repr(one.text), one.probability)]
            for row in zip(*columns.values(), strict=True)
        ],
    )


@reads
def search(
    opened: Store,
    prompt: Annotated[str, Argument(metavar="PROMPT", help="A question, or an answer's begin.")],
    limit: Annotated[int, opt("N", "Facts shown.", min=1)] = 10,
) -> Answer:
    """Show the facts that a prompt names, and how near each is to what it asks."""
    yield (found := opened.search(prompt)[:limit])
    print_objects(
        "facts that the prompt names",
        found,
        "domain fact=document_id score found=is_found statement",
    )
    if not found:
        say("it names the subject of no fact")


@reads
def experts(
    opened: Store,
    domain: Domain,
    layer: Annotated[
        int | None, opt("N", "Only the shared experts of this host layer; default: all.")
    ] = None,
    expert: Annotated[
        str | None, opt("LAYER:EXPERT", "Only this shared expert; also VERSION:LAYER:EXPERT.")
    ] = None,
    limit: Annotated[int, opt("N", "Items and shared experts shown.", min=1)] = 10,
) -> Answer:
    """Show the experts of a domain's items, and how its texts use the shared ones."""
    if layer is not None and expert is not None:
        raise InputError(f"--expert {expert} names its layer: leave out --layer")
    opened.registry.queries.check_active(domain)
    from pipelines.experts import parse_expert

    found = opened.experts(domain)
    if expert is not None:
        words = expert.split(":")
        place = parse_expert(":".join(words[-2:]))
        yield (one := found.expert(*place, words[0] if len(words) == 3 else None))
        _print_shared("shared expert", [one])
        return
    yield (report := found.report(limit, layer))
    if report.items:
        print_objects(
            f"{domain}: items and the experts that they own",
            report.items,
            "item=document_id version=owned.label experts=owned.num_experts "
            "host_layers=owned.num_host_layers size=owned.size_bytes about promotes "
            "most_similar_item cosine",
            about=lambda one: one.statement or one.title,
            promotes=_promoted,
            most_similar_item=lambda one: one.nearest and one.nearest.title,
            cosine=lambda one: one.nearest and one.nearest.similarity,
        )
    if report.num_items > len(report.items):
        say(f"{report.num_items - len(report.items):,} more; --limit shows more of them")
    if report.layers:
        print_objects(
            "\n" * bool(report.items) + f"{domain}: use of shared experts by the learned texts",
            report.layers,
            "version=label layer=host_layer experts=num_experts used=usage unevenness "
            "dead=num_dead",
        )
        _print_shared("\nbusiest shared experts", report.busiest)


def _print_shared(title: str, experts: Sequence[Expert]) -> None:
    print_objects(
        title,
        experts,
        "version=label expert share_of_use=weight_share promotes",
        expert=lambda one: f"{one.host_layer}:{one.expert}",
        promotes=_promoted,
    )


def _promoted(one: Expert | ItemExperts) -> str:
    return " ".join(map(repr, one.promotes)) or "(adds nothing)"


def verify(store: Folder = DEFAULT_STORE, as_json: Json = False) -> None:
    """Prove that stored bytes are whole, and that an inactive store answers as the bare base.

    The bare base runs in a fresh process without this project's code; bits are compared. Exits
    with 1 when a check fails.
    """
    with open_store(store) as opened, show_progress() as progress:
        found = opened.verify(progress)
    if as_json:
        print_json(found)
    else:
        for check in found.checks:
            say(f"{check.verdict}: {check.what}" + (f" ({check.note})" if check.note else ""))
    if not found.is_good:
        raise typer.Exit(1)


def demo(
    quick: Annotated[bool, flag("--quick", "Two small domains instead of four.")] = False,
    store: Folder = DEFAULT_STORE,
) -> None:
    """Learn four real corpora and ask them; erase a document, take a domain out and restore it."""
    from pipelines.demo import DemoFace, run_demo

    with show_progress() as progress:
        run_demo(store, DemoFace(say, _print_asked), quick=quick, progress=progress)


def _print_asked(domain: str, asked: Sequence[DemoAnswer]) -> None:
    answerable = [one for one in asked if one.asked.answers]
    right = sum(one.is_right for one in answerable)
    declined = sum(not one.answer.is_known for one in asked if not one.asked.answers)
    print_objects(
        f"\n{domain}: {right} of {len(answerable)} questions answered rightly, {declined} of "
        f"{len(asked) - len(answerable)} that nothing answers not known",
        asked,
        "question=asked.question answer probability=answer.probability verdict wanted source",
        answer=lambda one: shorten(one.answer.text, 60) if one.answer.is_known else None,
        wanted=lambda one: next(iter(one.asked.answers), "nothing"),
        source=lambda one: one.answer.sources[0].title if one.answer.is_known else None,
    )

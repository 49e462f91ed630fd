"""The verbs that run what was learned: generate, verify, demo."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from app.output import MOST, print_json, say
from app.progress import show_progress
from app.report import NONE_ENABLED, print_report, print_writings, weights_in_words
from app.request import Request, verb
from peer_cl.errors import InputError
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from pipelines.writing import Writing


PromptArgument = Annotated[str, typer.Argument(metavar="PROMPT", help="The beginning of a text.")]
DomainsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--domain",
        help="Ask this domain only; may be repeated. Default: those whose signature matches, and, "
        "where names count, those that the prompt names.",
        show_default=False,
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="With one --domain: let its pool speak alone.")
]
GuidanceOption = Annotated[
    float,
    typer.Option(
        "--guidance-scale",
        help="How often what pools say beyond the base counts; a little more than 1 recalls facts "
        "in other words more often, and takes longer where the base was no longer needed.",
    ),
]
MaxNewTokensOption = Annotated[
    int, typer.Option("--max-new-tokens", min=1, max=MOST, help="At most so many tokens.")
]
SampleOption = Annotated[
    bool, typer.Option("--sample", help="Draw tokens instead of taking the likeliest.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of the draw.", show_default=False)]
CompareOption = Annotated[
    bool, typer.Option("--compare", help="Show what the base alone writes, too.")
]


@verb("json")
def generate(
    request: Request,
    prompt: PromptArgument,
    domain: DomainsOption = None,
    force: ForceOption = False,
    guidance_scale: GuidanceOption = 1.0,
    max_new_tokens: MaxNewTokensOption = 60,
    sample: SampleOption = False,
    seed: SeedOption = None,
    compare: CompareOption = False,
) -> None:
    """Write on from a prompt, and tell which domains spoke."""
    if force and len(domain or ()) != 1:
        raise InputError("--force lets one pool speak alone: name one domain with --domain")
    if seed is not None and not sample:
        raise InputError(f"--seed {seed} is of a draw, and nothing is drawn: add --sample too")
    with request.store() as store:
        for name in domain or ():
            store.registry.check_askable(name)
        get_ready()
        from pipelines.writing import write

        can_ask = any(state.is_enabled for state in store.registry.live().domains)
        model, tokenizer = store.load()
        writing = write(
            model,
            tokenizer,
            prompt,
            domains=domain or None,
            force=force,
            guidance_scale=guidance_scale,
            max_new_tokens=max_new_tokens,
            sample=sample,
            seed=seed,
            compare=compare,
        )
    if request.as_json:
        print_json(dataclasses.asdict(writing))
        return
    _print_writing(writing)
    if not can_ask:
        say(NONE_ENABLED)


def _print_writing(writing: Writing) -> None:
    if writing.base_text is not None:
        print_writings("continuations", [writing])
        return
    say(writing.prompt + writing.text)
    say(f"\nasked: {weights_in_words(writing)} (held weights)")


@verb("json")
def verify(request: Request) -> None:
    """Prove that the store is whole and that the model is the bare one where no pool is asked.

    Runs the bare model in a fresh process, without this project's code, and compares bits. Exits
    with 1 when a check fails.
    """
    with request.store() as store:
        get_ready()
        from pipelines.verify import verify as verify_store

        with show_progress() as progress:
            report = verify_store(store, progress=progress)
    if request.as_json:
        print_json({**dataclasses.asdict(report), "is_good": report.is_good})
    else:
        for check in report.checks:
            say(f"{check.verdict}: {check.what}" + (f" ({check.note})" if check.note else ""))
    if not report.is_good:
        raise typer.Exit(1)


@verb()
def demo(
    request: Request,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: to see that it works.")
    ] = False,
) -> None:
    """Show everything on four real corpora: ingest, evaluate, freeze, roll back, restore."""
    get_ready()
    from pipelines.demo import DemoFace, run_demo

    face = DemoFace(say, print_report, print_writings)
    with show_progress() as progress:
        run_demo(request.folder, face, quick=quick, progress=progress)

"""The verbs that make a store, feed it and measure it: init, ingest, evaluate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.output import MOST, moment, print_json, say, size
from app.progress import show_progress
from app.reading import DomainArgument
from app.report import print_report
from app.request import Request, read_path, verb
from app.settings_options import takes_settings, typed_settings
from peer_cl.errors import InputError, UnknownError
from pipelines.documents import counted, several
from pipelines.quiet import get_ready

if TYPE_CHECKING:
    from pipelines.corpora import Skipped
    from pipelines.ingest import IngestReport
    from stores import StoreConfig


class BadRow(StrEnum):
    """What a malformed line of a jsonl file does."""

    stop = "stop"
    skip = "skip"


BadRowOption = Annotated[
    BadRow,
    typer.Option(
        "--on-bad-row",
        help="At a malformed jsonl line, or a file that is no text: stop, or skip it.",
    ),
]
BaseOption = Annotated[
    str,
    typer.Option(
        "--base",
        help="smollm2 (embedded: SmolLM2-135M-Instruct, of four bits), a folder, or a Hugging Face "
        "id.",
    ),
]
HostLayersOption = Annotated[
    str | None,
    typer.Option(
        "--host-layers",
        metavar="N,N,...",
        help="Decoder layers that pools use, ascending; default: all but the lowest tenth.",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--budget", help="b: no scored document loses more than -log(1 - b) nats over the base."
    ),
]
CapacityOption = Annotated[
    int,
    typer.Option(
        "--capacity",
        help="Among how many domains the budget is divided, once and for all: no more than these "
        "are live at a time.",
    ),
]
KeepTextOption = Annotated[
    bool,
    typer.Option(
        "--keep-text/--no-keep-text",
        help="Keep the documents' texts; without them nothing is evaluated or erased exactly. How "
        "often each token stands in them is always kept.",
    ),
]
BackgroundOption = Annotated[
    Path | None,
    typer.Option(
        "--background",
        parser=read_path,
        metavar="PATH",
        help="Ordinary text (a txt, md or jsonl file, or a folder) that signatures are held "
        "against; default: pinned public sources.",
        show_default=False,
    ),
]
ObjectsUrlOption = Annotated[
    str | None,
    typer.Option(
        "--objects-url",
        metavar="URL",
        help="An empty place for the objects: a bucket of S3, Google Cloud or Azure "
        "(s3://bucket/name), or file:///absolute/folder; default: the store's folder.",
        show_default=False,
    ),
]
DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="An empty PostgreSQL database for the registry (postgresql://user@host/name); its "
        "password is left to PGPASSFILE or PGPASSWORD. Default: a SQLite file.",
        show_default=False,
    ),
]
NameOddsOption = Annotated[
    float,
    typer.Option(
        "--name-odds",
        help="How much a pool weighs beside its share, as odds against the base, where a prompt "
        "of up to 48 tokens names a document or a fact of its domain and the pool has something "
        "to say; such a prompt and what follows it, scored together, may lose about "
        "log(1 + odds) nats more. 0: names count for nothing.",
    ),
]


@verb("json", "who")
def init(
    request: Request,
    base: BaseOption = "smollm2",
    host_layers: HostLayersOption = None,
    budget: BudgetOption = 0.02,
    capacity: CapacityOption = 16,
    name_odds: NameOddsOption = 0.0,
    keep_text: KeepTextOption = True,
    background: BackgroundOption = None,
    on_bad_row: BadRowOption = BadRow.stop,
    objects_url: ObjectsUrlOption = None,
    database_url: DatabaseUrlOption = None,
) -> None:
    """Make a store."""
    layers = None if host_layers is None else parse_layers(host_layers)
    if on_bad_row is not BadRow.stop and background is None:
        raise InputError(f"--on-bad-row {on_bad_row.value} is of a corpus: add --background PATH")
    get_ready()
    from pipelines.corpora import read_corpus
    from pipelines.init import init_store

    read = None if background is None else read_corpus(background, on_bad_row.value)
    with (
        show_progress() as progress,
        init_store(
            request.folder,
            base=base,
            host_layers=layers,
            budget=budget,
            capacity=capacity,
            name_odds=name_odds,
            keep_text=keep_text,
            background=None if read is None else [document.text for document in read.documents],
            objects_url=objects_url,
            database_url=database_url,
            who=request.who,
            progress=progress,
        ) as store,
    ):
        config = store.registry.config
    if request.as_json:
        also = {} if read is None else left_out_told(read.skipped, read.left_out)
        print_json({**dataclasses.asdict(config), **also})
        return
    _print_init(request.folder, config)
    if read is not None:
        print_left_out(read.skipped, read.left_out)


def _print_init(folder: Path, config: StoreConfig) -> None:
    say(f"made a store in {folder}")
    say(f"base {config.base_id} ({config.architecture}, {config.num_layers} layers)")
    say(f"host layers {', '.join(map(str, config.host_layers))}; capacity {config.capacity}")
    say(f"budget {config.budget}: at most {-math.log1p(-config.budget):.4f} nats a document")
    if config.name_odds:
        from peer_cl.mixture import named_bound_nats

        bound = named_bound_nats(config.budget, config.name_odds)
        say(f"a prompt that names one domain, and what follows it: at most {bound:.4f} nats")
    say("next: `peer-cl ingest DOMAIN PATH`")


def parse_layers(text: str) -> tuple[int, ...]:
    """Return layer numbers separated by commas.

    Example:
        >>> parse_layers("3,9, 15")
        (3, 9, 15)
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise InputError(
            f"host layers are numbers with commas, e.g. 3,9,15, not {text!r}"
        ) from None


PathArgument = Annotated[
    Path,
    typer.Argument(
        parser=read_path, metavar="PATH", help="A txt, md or jsonl file, or a folder of them."
    ),
]
FactsOption = Annotated[
    Path | None,
    typer.Option(
        "--facts",
        parser=read_path,
        metavar="FILE",
        help="Facts to learn besides: jsonl lines with subject, relation, answer, statement, "
        "and maybe seen_prompt and reworded_prompts.",
        show_default=False,
    ),
]
RewordingsOption = Annotated[
    Path | None,
    typer.Option(
        "--rewordings",
        parser=read_path,
        metavar="FILE",
        help="The corpus's documents in other words, learned with them: jsonl lines with text (or "
        "document, its full id) and rewordings, a list; `peer-cl reword` writes one.",
        show_default=False,
    ),
]
LearnErasedOption = Annotated[
    bool,
    typer.Option(
        "--learn-erased",
        help="Learn also what was erased with --exact from the domain; else it is left out.",
    ),
]


@verb("json", "who", "why")
@takes_settings
def ingest(
    request: Request,
    domain: DomainArgument,
    path: PathArgument,
    facts: FactsOption = None,
    rewordings: RewordingsOption = None,
    on_bad_row: BadRowOption = BadRow.stop,
    learn_erased: LearnErasedOption = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Learn a corpus as a new part of a domain.

    A domain that is there already grows; documents that it knows or holds out are left out, and
    those that were erased from it with --exact. Stopped, the same command goes on from the last
    checkpoint (every 50 steps), else from the start.
    """
    from stores.domain_names import check_domain_name

    check_domain_name(domain)
    with request.store() as store:
        get_ready()
        from pipelines.corpora import Skipped, read_corpus
        from pipelines.fact_files import read_facts
        from pipelines.rewordings import read_rewordings

        how = on_bad_row.value
        chosen = typed_settings(settings)
        known, bad = read_facts(facts, how) if facts is not None else ((), Skipped())
        said, bad_said = read_rewordings(rewordings, how) if rewordings else (None, Skipped())
        with store.registry.writing(store.who):  # who may not write need not wait for the reading
            read = read_corpus(path, on_bad_row.value)
            skipped = read.skipped + bad + bad_said
            if not request.as_json:  # before the training: what is missing may be mended first
                print_left_out(skipped, read.left_out)
            with show_progress() as progress:
                report = store.ingest(
                    domain,
                    list(read.documents),
                    facts=known,
                    rewordings=said,
                    settings=chosen,
                    why=request.why,
                    learn_erased=learn_erased,
                    progress=progress,
                )
    if request.as_json:
        also = {
            **left_out_told(read.skipped, read.left_out),
            "problems": skipped.problems,
            "num_bad_facts": bad.num,
            "num_bad_rewordings": bad_said.num,
        }
        print_json({**dataclasses.asdict(report), **also})
    else:
        _print_ingest(report, advises=chosen.hold_out_percent > 0)


def _print_ingest(report: IngestReport, *, advises: bool) -> None:
    say(f"{report.domain} is at {report.label} in snapshot {report.snapshot_id}")
    sides = (report.num_learned_texts, report.num_held_out_texts)
    told = counted(*sides, report.num_facts, report.num_questions)
    say(f"{told}; {report.num_tokens:,} tokens read; {size(report.size_bytes)}")
    _print_gains(report)
    _print_held_out(report, advises=advises)
    for number, what in (
        (
            report.num_duplicates - report.num_twice - report.num_held_out,
            "left out: known to the domain",
        ),
        (report.num_held_out, "left out: held out by the domain (--hold-out 0 learns such)"),
        (report.num_erased, "left out: erased (--learn-erased learns such again)"),
        (report.num_twice, "left out: twice in the corpus"),
        (report.num_elsewhere, "taken though another domain has such, or it was rolled back"),
        (report.num_reworded, "read in other words too"),
    ):
        if number:
            say(f"{several(number, 'document')} {what}")
    if report.num_other_questions:
        told = several(report.num_other_questions, "known fact")
        say(
            f"{told} given with other questions: those that the domain keeps stay (none of what "
            "it learned as a plain text; erased exactly, it may be learned as a fact)"
        )


def _print_gains(report: IngestReport) -> None:
    """Say what documents cost before and after: the loss of a step hangs on what it read."""
    nums = {"text": (report.num_learned_texts, "learned text"), "fact": (report.num_facts, "fact")}
    told = [
        f"of {several(*nums[kind])}: {before:.3f} -> {after:.3f}"
        for kind, (before, after) in report.mean_losses_nats.items()
    ]
    took = f"({several(report.num_steps, 'step')}, {report.seconds:.0f} s)"
    say(f"mean loss, nats a token, {'; '.join(told)} {took}")


_SHOWN_FILES = 5
"""That are held out as a whole; of more only the number is told."""


def _print_held_out(report: IngestReport, *, advises: bool) -> None:
    """Say what was never learned, and which files are among it as a whole.

    Args:
        report: of an ingest.
        advises: whether to say how it is learned; not where it was told to hold out nothing, and
            near copies of what an earlier one held out stay so.
    """
    held, files = report.num_held_out_texts, report.held_out_files
    if held:
        wholes = [f"{name} as a whole ({num:,} sections)" for name, num in files[:_SHOWN_FILES]]
        wholes += [f"{len(files) - _SHOWN_FILES:,} more files"] * (len(files) > _SHOWN_FILES)
        which = f"; {', '.join(wholes)}" if wholes else ""
        every = several(report.num_learned_texts + held, "text")
        how = ". --hold-out 0 learns them too" if advises else ""
        say(f"held out: {held:,} of {every}, never learned{which}{how}")
    if not report.is_measurable:
        say("no text of the domain is held out to test with: `evaluate` cannot measure it")


def left_out_told(skipped: Skipped, left_out: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return which rows and files of a corpus were not read, as JSON tells it."""
    return {
        "num_skipped": skipped.num,
        "num_skipped_files": skipped.num_files,
        "problems": skipped.problems,
        "left_out": left_out,
    }


def print_left_out(skipped: Skipped, left_out: Sequence[tuple[str, int]]) -> None:
    """Print which rows and files of a corpus were not read; nothing where all were."""
    from pipelines.corpora import files_left_out

    if skipped.num:
        say(f"{skipped.counted} skipped")
    for problem in skipped.problems:
        say(f"skipped {problem}")
    if skipped.num > len(skipped.problems):
        say(f"and {skipped.num - len(skipped.problems):,} more")
    if left_out:
        say(files_left_out(left_out))


@verb("json")
def evaluate(
    request: Request,
    background: Annotated[
        bool,
        typer.Option(
            "--background/--no-background", help="Score the background sources for tests too."
        ),
    ] = True,
    recall: Annotated[
        bool, typer.Option("--recall/--no-recall", help="Ask the trained facts too.")
    ] = True,
    max_documents: Annotated[
        int | None,
        typer.Option(
            "--max-documents",
            min=1,
            max=MOST,
            help="At most so many documents of each background source; default: all.",
            show_default=False,
        ),
    ] = None,
    general: Annotated[
        Path | None,
        typer.Option(
            "--general",
            parser=read_path,
            metavar="PATH",
            help="Measure general ability too, before and after, on your own sets: a jsonl file "
            "with query, choices and gold, or context and continuation, a txt file, or a folder "
            "of them.",
            show_default=False,
        ),
    ] = None,
    general_items: Annotated[
        int | None,
        typer.Option(
            "--general-items",
            min=1,
            max=MOST,
            help="With --general: items of each set; default: 250.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Score held-out documents, and tell and keep what was learned, kept and lost."""
    if general_items is not None and general is None:
        raise InputError(f"--general-items {general_items} is of sets: add --general PATH")
    if max_documents is not None and not background:
        raise InputError(
            f"--max-documents {max_documents} is of background sources: leave out --no-background"
        )
    with request.store() as store:
        get_ready()
        with show_progress() as progress:
            found = store.evaluate(
                progress,
                background=background,
                with_recall=recall,
                max_documents=max_documents,
                general=general,
                **({} if general_items is None else {"general_items": general_items}),
            )
    if request.as_json:
        print_json(found)
    else:
        print_report(found)


@verb("json")
def report(
    request: Request,
    snapshot: Annotated[
        int | None,
        typer.Option(
            "--snapshot",
            min=1,
            max=MOST,
            help="Of this snapshot, or of the last before it that was evaluated; default: the live "
            "one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show again what an evaluation found."""
    with request.store() as store:
        registry = store.registry
        wanted = registry.live() if snapshot is None else registry.snapshot(snapshot)
        found = registry.evaluations(wanted.id)
    if not found:
        raise UnknownError(
            f"snapshot {wanted.id} was not evaluated, nor was one before it: `peer-cl evaluate` "
            "evaluates the live one"
        )
    last = found[-1]
    if request.as_json:
        print_json({"created_at": last.created_at, **last.report})
        return
    about = "" if last.snapshot.id == wanted.id else f", the last before snapshot {wanted.id}"
    say(f"evaluated {moment(last.created_at)}{about}")
    print_report(last.report)

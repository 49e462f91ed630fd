"""The verbs that make a store, teach it and measure it: init, study, ingest, evaluate, report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from app.options import DEFAULT_STORE, Author, Domain, Folder, Json, Message, flag, opt
from app.output import moment, print_json, say, say_some, show_progress, size
from app.report import describe_asked, print_report
from app.verbs import Answer, acts, reads
from peer_cl.errors import InputError, UnknownError
from pipelines.words import several

if TYPE_CHECKING:
    from pipelines.corpora import Corpus
    from pipelines.ingest import IngestReport
    from pipelines.preview import Preview
    from pipelines.settings import TrainingSettings
    from pipelines.store import Store

GONE = "gone, but still learned (--prune leaves it out): "
SHOWN_CHARACTERS = 160
"""Of a sample in a dry run."""


def init(
    base: Annotated[str, opt("BASE", "Model: smollm2, a folder or a Hugging Face id.")] = "smollm2",
    encoder: Annotated[
        str, opt("NAME", "What finds sentences: all-mpnet-base-v2, all-MiniLM-L6-v2, or others'.")
    ] = "all-mpnet-base-v2",
    dtype: Annotated[str, opt("DTYPE", "The base's: fp32, bf16, fp16 or int8.")] = "fp32",
    host_layers: Annotated[str | None, opt("N,N", "Host layers; default: the upper 90 %.")] = None,
    budget: Annotated[float, opt("B", "No document loses more than -log(1 - B) nats.")] = 0.02,
    capacity: Annotated[int, opt("N", "The most live domains; they share the budget.")] = 16,
    keep_text: Annotated[bool, Option(help="Keep texts: `evaluate` and `erase` need them.")] = True,
    background: Annotated[str | None, opt("PATH", "Background; default: public texts.")] = None,
    objects_url: Annotated[str | None, opt("URL", "fsspec URL of objects; default: local.")] = None,
    database_url: Annotated[str | None, opt("URL", "Empty PostgreSQL; default: SQLite.")] = None,
    store: Folder = DEFAULT_STORE,
    author: Author = None,
    as_json: Json = False,
) -> None:
    """Make a store."""
    try:
        layers = None if host_layers is None else [int(word) for word in host_layers.split(",")]
    except ValueError:
        raise InputError(f"--host-layers takes numbers, as 3,9,15, not {host_layers!r}") from None
    from pipelines.corpora import read_corpus
    from pipelines.init import init_store
    from pipelines.loading import load_background_statistics

    texts = None if background is None else [d.text for d in read_corpus(background).documents]
    with show_progress() as progress:
        made = init_store(
            store,
            base=base,
            encoder=encoder,
            dtype=dtype,
            host_layers=layers,
            budget=budget,
            capacity=capacity,
            keep_text=keep_text,
            background=texts,
            objects_url=objects_url,
            database_url=database_url,
            author=author,
            progress=progress,
        )
    starts = load_background_statistics(made.registry).starts
    made.close()
    config = made.registry.config
    if as_json:
        print_json(config)
        return
    say(f"made a store in {store}")
    say(
        f"base {config.base_id} ({config.architecture}, {config.num_layers} layers, {config.dtype})"
    )
    say(f"host layers {', '.join(map(str, config.host_layers))}; capacity {config.capacity}")
    say(f"budget {config.budget:g}: at most {-math.log1p(-config.budget):.4f} nats a document")
    say(f"own experts begin to learn {'at the start of this base' if starts else 'at random'}")
    say("next: `peer-cl ingest DOMAIN PATH`")


def study(
    paths: Annotated[
        list[str], Argument(metavar="PATH...", help="Files, folders or globs, as `ingest` reads.")
    ],
    out: Annotated[Path, opt("FILE", "Questions, as jsonl; what it holds stays.")],
    endpoint: Annotated[
        str | None, opt("URL", "Of a chat model; default: rules, no model.")
    ] = None,
    model: Annotated[str | None, opt("NAME", "The model at --endpoint.")] = None,
    as_json: Json = False,
) -> None:
    """Make questions of documents.

    A passage with questions in FILE by the same maker is not asked about again, so a stopped run
    goes on. An endpoint's key is read from $PEER_CL_ENDPOINT_KEY.
    """
    if (endpoint is None) != (model is None):
        raise InputError("--endpoint URL and --model NAME go together")
    from pipelines.corpora import read_corpus
    from pipelines.study import making
    from pipelines.study.endpoint import EndpointMaker

    corpus = read_corpus(paths)
    passages = list(making.passages_of(corpus.documents))
    maker: making.QuestionMaker = making.BuiltinMaker()
    if endpoint is not None and model is not None:
        maker = EndpointMaker(endpoint, model)
        unknown = making.unknown_passages(passages, maker, out)
        calls, asked, answered = maker.cost(passage.text for passage in unknown)
        tokens = f"about {asked:,} tokens to read and at most {answered:,} to write"
        say(f"{several(calls, 'call')} of {model} at {endpoint}: {tokens}", err=True)
    with show_progress() as progress:
        report = making.study(passages, maker, out, progress)
    if as_json:
        print_json(report)
        return
    known = f"; {several(report.num_known, 'passage')} known" if report.num_known else ""
    num_new = report.num_passages - report.num_known
    say(f"{several(report.num_questions, 'question')} on {several(num_new, 'passage')}{known}")
    if isinstance(maker, EndpointMaker):
        say(f"{maker.num_prompt_tokens:,} tokens read, {maker.num_answer_tokens:,} written")
    say(f"questions in {out}")
    _print_reading(corpus)


@acts
def ingest(
    opened: Store,
    domain: Domain,
    paths: Annotated[
        list[str] | None,
        Argument(
            metavar="PATH",
            help="Files, folders, globs, or hf:NAME for a dataset; none: facts alone.",
        ),
    ] = None,
    facts: Annotated[str | None, opt("FILE", "Facts to learn too, as jsonl.")] = None,
    questions: Annotated[
        str | None, opt("FILE", "Questions on the documents to learn too, as `study` writes them.")
    ] = None,
    settings: Annotated[str | None, opt("FILE.toml", "Training settings: docs/cli.md.")] = None,
    hold_out: Annotated[
        float | None, opt("PERCENT", "Documents held out to measure on; default: 0.")
    ] = None,
    passes: Annotated[float | None, opt("N", "Readings of each document; default: 1.5.")] = None,
    seed: Annotated[int | None, opt("N", "Seed of the training; default: 0.")] = None,
    on_bad_row: Annotated[
        Literal["stop", "skip"], Option(help="What to do at a malformed row.")
    ] = "stop",
    text_column: Annotated[str | None, opt("NAME", "Column of texts; default: guessed.")] = None,
    title_column: Annotated[str | None, opt("NAME", "Column of titles; default: guessed.")] = None,
    id_column: Annotated[str | None, opt("NAME", "Column of ids; default: guessed.")] = None,
    split: Annotated[
        str | None, opt("NAME", "Split of a dataset, as train or train[:100]; default: train.")
    ] = None,
    prune: Annotated[
        bool, flag("--prune", "Leave out the documents of files that are gone from a folder.")
    ] = False,
    processes: Annotated[
        int, opt("N", "Learn in N processes, each with the base: the same bits.", min=1)
    ] = 1,
    dry_run: Annotated[bool, flag("--dry-run", "Only say what would be learned.")] = False,
    message: Message = "",
) -> Answer:
    """Learn a corpus, facts, or both as a new version of a domain.

    Read are txt, md, html, pdf, docx, pptx, epub, csv, tsv, xlsx, parquet and jsonl files, also as
    .gz, .zst or in a .zip. A file that cannot be read is named, and the rest is learned. Documents
    that the domain knows, and those erased from it, are left out; of a file that changed, the new
    version leaves out what is no longer in it. A stopped ingest goes on from its
    last checkpoint when the same command is run again.
    """
    if not paths and facts is None:
        raise InputError("there is nothing to learn: name a corpus, --facts FILE, or both")
    from stores.records import check_domain_name

    check_domain_name(domain)  # before much is read
    with show_progress() as progress:
        from pipelines.corpora import read_corpus
        from pipelines.facts import read_facts
        from pipelines.files.tables import Columns
        from pipelines.study.questions import read_questions

        corpus = read_corpus(
            paths or [],
            on_bad_row,
            columns=Columns(text_column, title_column, id_column),
            split=split,
            progress=progress,
        )
        known, skipped = read_facts(facts, on_bad_row) if facts is not None else ((), ())
        asked, unread = read_questions(questions, on_bad_row) if questions else ((), ())
        corpus = replace(corpus, skipped=(*corpus.skipped, *skipped, *unread))
    wanted = _training_settings(settings, hold_out, passes, seed)
    if dry_run:
        from pipelines.preview import preview

        yield (found := preview(opened.registry, domain, corpus, known, wanted))
        _print_preview(domain, found)
    else:
        with show_progress() as progress:
            report = opened.ingest(
                domain,
                corpus,
                facts=known,
                questions=asked,
                settings=wanted,
                message=message,
                prune=prune,
                processes=processes,
                progress=progress,
            )
        yield report
        _print_ingest(report)
    _print_reading(corpus)


def _training_settings(
    path: str | None, hold_out: float | None, passes: float | None, seed: int | None
) -> TrainingSettings:
    """Return the settings in a file, with what the options say in their place."""
    from pipelines.settings import TrainingSettings

    settings = TrainingSettings() if path is None else TrainingSettings.from_toml(path)
    given: dict[str, Any] = {"hold_out_percent": hold_out, "text_passes": passes, "seed": seed}
    return replace(settings, **{name: one for name, one in given.items() if one is not None})


def _print_preview(domain: str, found: Preview) -> None:
    documents = several(found.num_documents, "document")
    say(f"{domain} would learn {several(found.num_new, 'document')} of {documents}")
    say(f"{several(found.num_passages, 'passage')}, {several(found.num_tokens, 'token')}")
    say(f"{several(found.num_facts, 'new fact')}")
    say(f"left out: {several(found.num_copies, 'document')} known to the domain, or twice")
    say(f"left out: {several(found.num_erased, 'document')} erased from the domain")
    say(f"replaces {several(found.num_replaced, 'document')} of changed files")
    say_some(found.missing_files, GONE)
    say(f"takes about {several(max(1, round(found.seconds / 60)), 'minute')}")
    for source, text in found.samples:
        say(f"{source}: {' '.join(text.split())[:SHOWN_CHARACTERS]}")


def _print_reading(corpus: Corpus) -> None:
    """Print what was guessed, and what could not be read."""
    say_some(corpus.notes)
    say_some(corpus.skipped, "skipped: ")
    say_some(corpus.other_files, "not read: ")


def _print_ingest(report: IngestReport) -> None:
    say(f"{report.domain} is at {report.label} in snapshot {report.snapshot_id}")
    learned = f"{several(report.num_learned_texts, 'text')}, {several(report.num_facts, 'fact')}"
    for row in report.answers:
        say(describe_asked(row))
    say(f"learned {learned}; held out {several(report.num_held_out_texts, 'text')}")
    for name, num_sections in report.held_out_files:
        say(f"held out whole: {name} ({several(num_sections, 'section')})")
    for kind, (before, after) in report.mean_losses_nats.items():
        say(f"mean loss of each {kind}: {before:.3f} -> {after:.3f} nats a token")
    left_out = {
        "known to the domain, or twice": report.num_duplicates - report.num_held_out_already,
        "held out by the domain (--hold-out 0 learns them)": report.num_held_out_already,
        "erased from the domain": len(report.erased_ids),
        "that changed files hold no longer (`rollback` brings them back)": report.num_replaced,
        "of files that are gone (`rollback` brings them back)": report.num_pruned,
    }
    for why, num in left_out.items():
        if num:
            say(f"left out: {several(num, 'document')} {why}")
    say_some(report.missing_files, GONE)
    say(
        f"{several(report.num_steps, 'step')}, {report.num_tokens:,} tokens read, "
        f"{size(report.size_bytes)}, {report.seconds:.0f} s"
    )


@acts
def evaluate(
    opened: Store,
    background: Annotated[
        bool, flag("--background", "Score background text too, which takes minutes.")
    ] = False,
    recall: Annotated[bool, Option(help="Ask facts, and the questions kept for it.")] = True,
    questions: Annotated[
        str | None, opt("FILE", "Ask these about their documents too: jsonl, as `study` writes.")
    ] = None,
    keep: Annotated[
        bool, flag("--keep", "Keep these questions, and ask them again after each ingest.")
    ] = False,
    max_documents: Annotated[
        int | None, opt("N", "The most documents of each background source; default: all.", min=1)
    ] = None,
) -> Answer:
    """Measure what was learned, kept and lost: by questions, facts and held-out documents."""
    if max_documents is not None and not background:
        raise InputError("--max-documents is of background text: give --background, too")
    if keep and questions is None:
        raise InputError("--keep keeps the questions of a file: give --questions FILE, too")
    with show_progress() as progress:
        from pipelines.study.questions import read_questions

        asked = read_questions(questions)[0] if questions else ()
        report = opened.evaluate(
            progress,
            background=background,
            with_recall=recall,
            questions=asked,
            keep=keep,
            max_documents=max_documents,
        )
    yield report.to_json()
    print_report(report)


@acts
def calibrate(
    opened: Store,
    questions: Annotated[
        Path, Argument(metavar="FILE", help="Questions, as jsonl: question, answer, document.")
    ],
    message: Message = "",
) -> Answer:
    """Fit how sure `ask` is, and when it knows nothing, to questions of your own.

    Each line of FILE is an object with "question", and "answer" and "document" where something that
    was learned answers it: at least ten such, and ten that nothing answers. An act like others:
    `rollback` undoes it. Scored text does not change.
    """
    from pipelines.answer.calibrate import read_asked

    asked = read_asked(questions)
    with show_progress() as progress:
        found = opened.calibrate(asked, message=message, progress=progress)
    yield found
    undo = f"undo: `peer-cl rollback --to {found.parent_id}`"
    say(f"requests are calibrated; snapshot {found.snapshot_id} ({undo})")
    for when, one in (("before", found.before), ("now, each by the others", found.after)):
        say(f"{when}: {one.right} right, {one.wrong} wrong, {one.declined} not known")


@reads
def report(
    opened: Store,
    snapshot: Annotated[int | None, opt("N", "Of this snapshot; default: the live one.")] = None,
) -> Answer:
    """Show the last evaluation of a snapshot, or of the last one before it that has one."""
    from pipelines.report import EvaluationReport

    queries = opened.registry.queries
    wanted = (queries.live() if snapshot is None else queries.snapshot(snapshot)).id
    past = queries.evaluations(wanted)
    if not past:
        raise UnknownError(f"neither snapshot {wanted} nor one before it was evaluated")
    found = past[-1]
    yield {"created_at": found.created_at, **found.report}
    before = "" if found.snapshot.id == wanted else f", the last one before snapshot {wanted}"
    say(f"evaluated {moment(found.created_at)}{before}")
    print_report(EvaluationReport.from_json(found.report))

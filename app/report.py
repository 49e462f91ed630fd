"""An evaluation's report and continuations as tables; nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.output import print_objects, print_table, say
from pipelines.words import several

if TYPE_CHECKING:
    from pipelines.answer import Answer, Source
    from pipelines.report import AskedRow, EvaluationReport
    from pipelines.writing import Writing

ROUTING = (
    "domain documents base=base_loss_nats oracle=oracle_loss_nats mixture=loss_nats reduction "
    "efficiency after_context=efficiency_continuation found worst_added=max_added_nats"
)
BACKGROUND = (
    "source kind documents identical base=base_loss_nats mixture=loss_nats "
    "worst_added=max_added_nats"
)
RECALL = "domain wording questions=num base oracle routed"
METRICS = {
    "acc": ("nats a token", "higher is better"),
    "learning_accuracy": ("nats a token", "higher is better"),
    "bwt": ("nats a token", "higher is better"),
    "fwt": ("nats a token", "higher is better"),
    "forgetting": ("nats a token", "lower is better"),
    "retention": ("share", "higher is better"),
}
"""Unit and sense of each metric."""
BASE_SPOKE = "the base model's own words: nothing that was learned answers this question"


def print_report(report: EvaluationReport) -> None:
    """Print what an evaluation found."""
    for one in report.asked:
        say(describe_asked(one))
    say(f"snapshot {report.snapshot}, budget {report.budget:g}")
    say(
        "an answer whose prompt asks for an item of one domain loses at most "
        f"{report.answer_bound_nats:.4f} nats"
    )
    if report.metrics is not None:
        names = ["base", *(f"after {domain}" for domain in report.domains)]
        print_table(
            "\nloss on unseen documents (nats a token)",
            ["", *report.domains],
            [(name, *losses) for name, losses in zip(names, report.matrix.loss_nats, strict=True)],
        )
        print_table(
            "\nmetrics (a score is a loss with its sign flipped)",
            ["metric", "value", "unit", "sense"],
            [(name, getattr(report.metrics, name), *sense) for name, sense in METRICS.items()],
        )
    if report.unmeasured:
        say(f"no document is held out of: {', '.join(report.unmeasured)} (--hold-out 20 would)")
    for domain, near in report.near_learned.items():
        say(f"{domain}: {len(near)} held out, not measured: a live domain learned a near copy")
    if report.routing:
        print_objects("\ndomains (losses in nats a token)", report.routing, ROUTING)
    if num := sum(row.cut_documents for row in report.routing):
        say(f"{several(num, 'document')} scored up to {report.scored_tokens:,} tokens only")
    if report.background:
        print_objects("\nbackground text, every domain active", report.background, BACKGROUND)
    _print_bound(report)
    if report.recall:
        print_objects("\nexact recall of facts (shares)", report.recall, RECALL)
    for domain, num in report.too_long_questions.items():
        say(f"{domain}: {several(num, 'question')} not asked: longer than the base's context")


def _print_bound(report: EvaluationReport) -> None:
    worst, bound = report.max_added_nats, report.bound_nats
    if worst is None:
        say("\nno document was scored, so the bound is not checked")
    elif report.is_within_bound:
        say(f"\nno document lost more than {max(0.0, worst):.4f} nats in all (bound: {bound:.4f})")
    else:
        say(
            f"\na document lost {worst:.4f} nats, more than the bound of {bound:.4f}: this is a "
            "fault of peer-cl; please report it with the base's name"
        )
    if not report.background:
        say("background text is not scored, and the bound not checked on it: --background does")


def print_writings(title: str, writings: Sequence[Writing]) -> None:
    """Print continuations beside what the base alone writes."""
    print_objects(
        f"\n{title}",
        writings,
        "prompt base_alone with_pools written_by=writer weights_after_the_prompt",
        base_alone=lambda one: (one.base_text or "").strip(),
        with_pools=lambda one: one.text.strip(),
        weights_after_the_prompt=describe_weights,
    )


def describe_asked(row: AskedRow) -> str:
    """Return in a line how many of a domain's kept questions are answered."""
    return (
        f"{row.domain}, {several(row.num, 'question')} "
        f"({'made of its documents' if row.source == 'made' else 'of people'}, never learned): "
        f"{row.right} right, {row.wrong} wrong, {row.declined} not known; {row.found} find their "
        "document first"
    )


def describe_weights(writing: Writing) -> str:
    """Return the posterior weight of the base and of each active domain after the prompt."""
    weights = {"base": writing.base_weight, **writing.weights}
    return ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())


def answer_lines(answer: Answer) -> list[str]:
    """Return an answer as people read it: the answer and how sure it is, then what is quoted.

    Where nothing is known the nearest units follow; the base's own words are marked.
    """
    if answer.kind == "base":
        return [answer.text, "", BASE_SPOKE]
    if not answer.is_known:
        nearest = [quotation(one) for one in answer.sources]
        return ["not known; nearest:", *nearest] if nearest else ["not known: nothing is learned"]
    best = answer.sources[0]
    sure = answer.word if answer.probability is None else f"{answer.word}, {answer.probability:.2f}"
    if answer.text == best.sentence:
        return [f"{in_marks(best)}  ({sure})", f"[{place_of(best)}]"]
    return [f"{answer.text}  ({sure})", quotation(best)]


def quotation(one: Source) -> str:
    """Return a unit in quotation marks, and where it stands."""
    return f"{in_marks(one)}  [{place_of(one)}]"


def in_marks(one: Source) -> str:
    """Return a unit in quotation marks."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{one.sentence}\N{RIGHT DOUBLE QUOTATION MARK}"


def place_of(one: Source) -> str:
    """Return where a unit stands."""
    return one.source if one.title in {"", one.source} else f"{one.title}, {one.source}"

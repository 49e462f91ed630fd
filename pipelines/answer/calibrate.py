"""Calibrating a store to a user's own questions: an act that changes requests alone.

Units and what is measured of them stay; how much each feature counts, and below which probability
nothing is known, is fitted to the questions, near to what holds already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError, StateError
from pipelines.answer.asking import Asker
from pipelines.answer.calibration import Calibration
from pipelines.answer.find import Reads, Unit, UnitIndex, find
from pipelines.answer.fit import KnownQuestion, fit_calibration
from pipelines.corpora import checked_text, composed_text, read_json_lines
from pipelines.loading import load
from pipelines.progress import Progress, no_progress
from pipelines.study.questions import stands
from stores.registry import Registry

LEAST = 10
"""Questions that something answers, and that nothing does, without which nothing can be fitted."""
FOLDS = 5


@dataclass(frozen=True)
class AskedQuestion:
    """A question of a user, and what answers it."""

    question: str
    answer: str = ""
    """Empty: nothing that was learned answers."""
    document: str = ""
    """The id, title or source of the document that holds the answer; empty: any that does."""


@dataclass(frozen=True)
class Outcomes:
    """How questions are answered."""

    right: int
    wrong: int
    """An answer that is none, whether or not there is one."""
    declined: int


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration changed."""

    snapshot_id: int
    parent_id: int
    num_answerable: int
    num_unanswerable: int
    before: Outcomes
    after: Outcomes
    """Of each question by a calibration that was fitted to four fifths of the others."""


class _Remembering:
    """A reader that reads no unit twice."""

    def __init__(self, reader: Reads) -> None:
        self._reader, self._known = reader, dict[tuple[str, str, str], float]()

    def relevance(self, question: str, units: Sequence[tuple[str, str]]) -> list[float]:
        """Return as the reader does."""
        new = [one for one in units if (question, *one) not in self._known]
        told = zip(new, self._reader.relevance(question, new), strict=True)
        self._known |= {(question, *unit): odds for unit, odds in told}
        return [self._known[question, *one] for one in units]


def read_asked(path: str | Path) -> list[AskedQuestion]:
    """Return the questions of a jsonl file.

    A line is an object with "question", and where something answers it "answer" and, better,
    "document". Raises: CorpusError: with the number of a malformed line.
    """
    return read_json_lines(Path(path), _asked, "stop")[0]


def _asked(row: Mapping[str, Any]) -> AskedQuestion:
    found = {}
    for key in ("question", "answer", "document"):
        value = row.get(key) or ""
        if not isinstance(value, str) or (key == "question" and not value.strip()):
            raise CorpusError(f'has no text as "{key}"')
        found[key] = checked_text(key, composed_text(value).strip()) if value.strip() else ""
    return AskedQuestion(**found)


def calibrate(
    registry: Registry,
    questions: Sequence[AskedQuestion],
    *,
    author: str,
    message: str = "",
    progress: Progress = no_progress,
) -> CalibrationReport:
    """Fit the calibration of requests to questions, as an act.

    Args:
        registry: the store's.
        questions: at least `LEAST` that something learned answers, and `LEAST` that nothing does.
        author, message: recorded with the act.
        progress: called after each question.

    Raises:
        CorpusError: for too few questions, or one whose answer stands in no unit of its document.
        StateError: when no domain is live.
    """
    num = sum(bool(one.answer) for one in questions)
    if num < LEAST or len(questions) - num < LEAST:
        raise CorpusError(
            f"{num} questions have an answer and {len(questions) - num} have none: give at least "
            f"{LEAST} of each"
        )
    model, tokenizer = load(registry)
    asker = Asker(registry, model, tokenizer)
    indexes = asker.indexes(model.active_pools)
    if not indexes:
        raise StateError("no domain is live and enabled: ingest one first")
    names = _names(registry, model.active_pools)
    known = list[KnownQuestion]()
    for number, one in enumerate(questions, start=1):
        known.append(_known(asker, one, indexes, names))
        progress("finding units", number, len(questions), "")
    reader = _Remembering(asker.reader) if asker.reader is not None else None
    start = asker.calibration or asker.usual
    before = [_outcome(one, start, reader) for one in known]
    after = list[str]()
    for fold in range(FOLDS):
        others = [one for place, one in enumerate(known) if place % FOLDS != fold]
        fitted = fit_calibration(others, reader, start)
        after += [_outcome(one, fitted, reader) for one in known[fold::FOLDS]]
        progress("checking the fit", fold + 1, FOLDS, "")
    stored = {"name": asker.name, **asdict(fit_calibration(known, reader, start))}
    made = registry.calibrate(stored, author, message)
    return CalibrationReport(
        snapshot_id=made.id,
        parent_id=made.parent_id or 0,
        num_answerable=num,
        num_unanswerable=len(questions) - num,
        before=_counted(before),
        after=_counted(after),
    )


def _names(registry: Registry, domains: Sequence[str]) -> dict[str, set[str]]:
    """Return the ids of documents by each of their names."""
    names = defaultdict[str, set[str]](set)
    for domain in domains:
        for one in registry.queries.documents(domain):
            for name in (one.document_id, one.title, one.source):
                names[name].add(one.document_id)
    return names


def _known(
    asker: Asker, one: AskedQuestion, indexes: Sequence[UnitIndex], names: Mapping[str, set[str]]
) -> KnownQuestion:
    if one.document and one.document not in names:
        raise CorpusError(
            f"question {one.question!r} is about {one.document!r}, which is no id, title or "
            "source of a live document"
        )

    def is_right(unit: Unit) -> bool:
        is_there = not one.document or unit.document_id in names[one.document]
        return is_there and stands(one.answer, unit.text)

    if one.answer and not any(is_right(unit) for index in indexes for unit in index.units):
        where = repr(one.document) if one.document else "what was learned"
        raise CorpusError(
            f"the answer {one.answer!r} to {one.question!r} stands in no sentence of {where}"
        )
    question = asker.question(" ".join(one.question.split()))
    measured = [pair for index in indexes for pair in index.measured(question)]
    return KnownQuestion(one.question, bool(one.answer), measured, is_right)


def _outcome(one: KnownQuestion, calibration: Calibration, reader: Reads | None) -> str:
    """Return right, wrong or declined."""
    best = find(one.text, one.measured, calibration, reader)[0]
    if best.probability < calibration.threshold:
        return "declined"
    return "right" if one.is_answerable and one.is_right(best.unit) else "wrong"


def _counted(found: Sequence[str]) -> Outcomes:
    return Outcomes(*(found.count(what) for what in ("right", "wrong", "declined")))

"""Questions in people's own words: two made-up organisations, whose words they hardly share.

Each world (`--data FOLDER` with worlds/NAME: docs, facts.jsonl, questions.jsonl) is learned by its
files. Units are found and read as `ask` does, with a calibration that was fitted on the other world
and on SQuAD's articles 8 to 23 by the sha256 of their names; the reader learned from articles 24 to
39 and from worlds of our own writing. SQuAD's figures are of the other sixteen articles, among all.
`--fit` fits the calibrations on everything that they may, with the reader and without, and ships
them. A question is answered rightly where an accepted answer stands in the short line, or in the
quoted sentence of the unit that holds the evidence.

What experts learn changes neither what is found nor what is read, so they take few steps here;
`--memory WORLD` learns that world by default settings instead, and asks the experts alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from app.output import show_progress
from benchmarks.answers import read_articles, sample, write_line
from benchmarks.results import Figure
from peer_cl.model import PeerModel
from pipelines import init_store, open_store
from pipelines.answer.asking import LEAST_SHORT, Asker, quoted, reader_of
from pipelines.answer.calibration import (
    CALIBRATIONS,
    Calibration,
    Features,
    calibration_name,
)
from pipelines.answer.find import Found, Question, Unit, UnitIndex, find, unit_index
from pipelines.answer.fit import KnownQuestion, fit_calibration
from pipelines.answer.reader import READERS, Reading, UnitReader, reader_name
from pipelines.batches import tokenise
from pipelines.chat import chat_ids
from pipelines.corpora import SourceDocument
from pipelines.encoder import MPNET
from pipelines.facts import read_facts
from pipelines.loading import SMOLLM2
from pipelines.packages import cache_folder
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings, reading, resolve_precision
from pipelines.store import Store
from pipelines.study.questions import plain_words, stands
from stores.objects import replace_file

WORLDS = ("harbour", "software")
FITTED, TAUGHT = slice(8, 24), slice(24, 40)
"""Of SQuAD's articles: those of the calibration, and those of the reader."""
NUM_FITTED, NUM_REPORTED, SHORT_ASKED = 225, 500, 24
MOST_SHOWN = 4
"""Of a world's unanswerable questions."""
QUICK = TrainingSettings(
    passage_readings=0, study_questions=0, own_steps=2, min_steps=1, text_passes=0.01
)
RAG_PROMPTS = (
    "{title}\n\n{text}\n\nQuestion: {question}\nAnswer:",
    "{text}\n\nAnswer the question in a few words, from the text.\n{question}",
    "Context: {text}\n\nQuestion: {question}\nShort answer:",
)


@dataclass
class Asked:
    """A question to a store, with what is measured of its units."""

    kind: str
    text: str
    answers: tuple[str, ...]
    question: Question
    measured: list[tuple[Unit, Features]]
    is_right: Callable[[Unit], bool]
    """Whether a unit holds the evidence."""

    @property
    def is_answerable(self) -> bool:
        """Whether anything answers it."""
        return self.kind in {"passage", "fact"}


@dataclass
class Place:
    """A store and what is asked of it."""

    name: str
    store: Store
    model: PeerModel
    tokenizer: Any
    reader: KeptReader | None
    index: UnitIndex
    asked: list[Asked] = field(default_factory=list)

    def found(self, one: Asked, calibration: Calibration) -> list[Found]:
        """Return what is found, the best first."""
        return find(one.question.text, one.measured, calibration, self.reader)


class KeptReader:
    """A reader whose words are kept in a file: every calibration asks for the same, and a stopped
    run goes on.
    """

    def __init__(self, reader: UnitReader, path: Path) -> None:
        self._reader, self._path = reader, path
        self._odds: dict[tuple[str, str, str], float] = {}
        self._said: dict[tuple[str, str, str], Reading] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            *key, told = json.loads(line)
            if isinstance(told, float):
                self._odds[tuple(key)] = told
            else:
                self._said[tuple(key)] = Reading(**told)

    def _keep(self, *row: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def relevance(self, question: str, units: Sequence[tuple[str, str]]) -> list[float]:
        """Return as `UnitReader.relevance` does."""
        new = [one for one in units if (question, *one) not in self._odds]
        for unit, odds in zip(new, self._reader.relevance(question, new), strict=True):
            self._odds[question, *unit] = odds
            self._keep(question, *unit, odds)
        return [self._odds[question, *one] for one in units]

    def short(self, question: str, unit: Unit) -> str:
        """Return the short answer that is shown beside a unit; empty: the unit is the answer."""
        key = (question, unit.title, unit.text)
        if key not in self._said:
            self._said[key] = self._reader.answer(*key)
            self._keep(*key, asdict(self._said[key]))
        read = self._said[key]
        return read.text if math.exp(read.log_prob) >= LEAST_SHORT else ""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return how questions are answered (`--data`, `--base`, `--encoder`, `--fit`, `--memory`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks asking")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=cache_folder() / "asking")
    parser.add_argument("--base", default=SMOLLM2)
    parser.add_argument("--encoder", default=MPNET)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--memory", choices=WORLDS)
    options = parser.parse_args(list(arguments))
    with show_progress() as progress:
        if options.memory:
            return [*_memory(_world(options, options.memory, progress))]
        worlds = [_world(options, name, progress) for name in WORLDS]
        if options.base != SMOLLM2:
            return [*_worlds(worlds, [])]
        squad = _squad(options, progress)
        fitted = [one for one in squad.asked if one.kind == "passage"]
        everything = [*fitted, *(one for world in worlds for one in world.asked)]
        if options.fit:
            for reader in (squad.reader, None):
                name = calibration_name(options.encoder, has_reader=reader is not None)
                _ship(name, fitted_on(everything, reader))
        figures = [*_worlds(worlds, fitted), *_of_squad(squad, fitted_on(everything, squad.reader))]
        return [*figures, *_seconds([worlds[0], squad])]


# Stores


def _open(options: argparse.Namespace, name: str, progress: Progress) -> tuple[Store, bool]:
    how = "learned" if options.memory else "quick"
    place = options.work / f"{name}-{options.base}-{options.encoder}-{how}"
    if (place / "store.toml").is_file():
        return open_store(place), False
    store = init_store(place, base=options.base, encoder=options.encoder, progress=progress)
    return store, True


def _place(name: str, store: Store) -> Place:
    model, tokenizer = store.load()
    reader, items = reader_of(model, tokenizer), model.items(name)
    terms = None if model.background is None else model.background.terms
    if items is None or terms is None:
        raise SystemExit(f"{name}: nothing was learned")
    index = unit_index(name, items, terms)
    kept = None
    if reader is not None:
        file = READERS / reader_name(model.identity.weights_sha256)
        of = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        kept = KeptReader(reader, store.registry.folder.parent / f"{name}-{file.stem}-{of}.jsonl")
    return Place(name, store, model, tokenizer, kept, index)


def _world(options: argparse.Namespace, name: str, progress: Progress) -> Place:
    folder = options.data / "worlds" / name
    store, is_new = _open(options, name, progress)
    if is_new:
        store.ingest(
            name,
            folder / "docs",
            facts=read_facts(folder / "facts.jsonl")[0],
            settings=TrainingSettings() if options.memory else QUICK,
            progress=progress,
        )
    world = _place(name, store)
    sources = {
        one.document_id: one.source if one.kind == "text" else "facts.jsonl"
        for one in store.registry.queries.documents(name)
    }
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(map(json.loads, lines), start=1):
        world.asked.append(_asked(world, row, sources))
        progress(f"asking {name}", number, len(lines), "")
    missed = [
        one.text
        for one in world.asked
        if one.is_answerable and not any(map(one.is_right, world.index.units))
    ]
    if missed:
        print(f"{name}: no unit holds the evidence of {len(missed)}: {missed}")
    return world


def _asked(world: Place, row: Mapping[str, Any], sources: Mapping[str, str]) -> Asked:
    answers = tuple(row["answers"])
    evidence = plain_words(re.sub(r"[|*_`]", " ", row.get("evidence") or "")).split()

    def is_right(unit: Unit) -> bool:
        """Whether a unit holds the evidence, or is a part of it, and an accepted answer."""
        if not answers or row["source"] not in sources[unit.document_id]:
            return False
        own = plain_words(re.sub(r"[*_`]", " ", unit.text)).split()
        whole = {*own, *plain_words(unit.title).split()}
        holds = sum(word in whole for word in evidence) >= 0.9 * len(evidence)
        is_part = sum(word in evidence for word in own) >= 0.95 * len(own)
        return (holds or is_part) and any(stands(one, unit.text) for one in answers)

    question = _question(world, row["question"])
    return Asked(
        row["kind"], row["question"], answers, question, world.index.measured(question), is_right
    )


def _question(place: Place, text: str) -> Question:
    config, background = place.store.registry.config, place.model.background
    terms = None if background is None else background.terms
    if terms is None:
        raise SystemExit("the store has no terms")
    return Question(" ".join(text.split()), config.encoder, terms, place.tokenizer)


def _squad(options: argparse.Namespace, progress: Progress) -> Place:
    articles = read_articles(options.data / "squad_stream.jsonl")
    store, is_new = _open(options, "squad", progress)
    if is_new:
        documents = [
            SourceDocument(text, article.name.replace("_", " "), key)
            for article in articles
            for key, text in article.passages.items()
        ]
        store.ingest("squad", documents, settings=QUICK, progress=progress)
    place = _place("squad", store)
    sources = {one.document_id: one.source for one in store.registry.queries.documents("squad")}
    fitted = [one for article in articles[FITTED] for one in article.questions]
    apart = [*articles[: FITTED.start], *articles[TAUGHT.stop :]]
    reported = [one for article in apart for one in article.questions]
    short = [one for a in articles[: FITTED.start] for one in sample(a.questions, SHORT_ASKED)]
    chosen = {
        "passage": sample(fitted, NUM_FITTED),
        "reported": sample(reported, NUM_REPORTED),
        "short": short,
    }
    for kind, questions in chosen.items():
        for number, one in enumerate(questions, start=1):
            place.asked.append(_of_article(place, kind, one, sources))
            progress(f"asking squad, {kind}", number, len(questions), "")
    return place


def _of_article(place: Place, kind: str, one: Any, sources: Mapping[str, str]) -> Asked:
    def is_right(unit: Unit) -> bool:
        """Whether a unit holds the answer in the question's own passage."""
        return sources[unit.document_id] == one.passage and (
            kind != "passage" or stands(one.answer, unit.text)
        )

    question = _question(place, one.question)
    measured = place.index.measured(question)
    return Asked(kind, one.question, (one.answer,), question, measured, is_right)


# Fitting


def fitted_on(asked: Sequence[Asked], reader: Any) -> Calibration:
    """Return the calibration that some questions teach."""
    known = [
        KnownQuestion(one.question.text, one.is_answerable, one.measured, one.is_right)
        for one in asked
    ]
    return fit_calibration(known, reader)


def _ship(name: str, calibration: Calibration) -> None:
    stored = json.loads(CALIBRATIONS.read_text(encoding="utf-8"))
    stored[name] = asdict(calibration)
    text = json.dumps(stored, indent=1, sort_keys=True) + "\n"
    replace_file(CALIBRATIONS, text.encode())


# Figures


@dataclass(frozen=True)
class Outcome:
    """How a question was answered, whatever the threshold."""

    asked: Asked
    place: int | None
    """Of the right unit among those found; None: it is not among them."""
    probability: float
    says: bool
    """An accepted answer stands in the short line,"""
    quotes: bool
    """and in the quoted sentence of the right unit."""
    is_empty: bool

    @property
    def is_right(self) -> bool:
        """Whether it is answered rightly, if it is shown."""
        return self.says or self.quotes


def _outcome(world: Place, one: Asked, calibration: Calibration) -> Outcome:
    found = world.found(one, calibration)
    places = [n for n, own in enumerate(found) if one.is_answerable and one.is_right(own.unit)]
    best = found[0]
    short = world.reader.short(one.question.text, best.unit) if world.reader else ""
    quotation = quoted(best.unit.text)
    says, stands_there = (
        any(stands(answer, text) for answer in one.answers) for text in (short, quotation)
    )
    place = min(places, default=None)
    is_empty = not (short or quotation).strip()
    return Outcome(one, place, best.probability, says, place == 0 and stands_there, is_empty)


def _worlds(worlds: Sequence[Place], squad: Sequence[Asked]) -> Iterator[Figure]:
    """Yield the figures of both worlds, each with the calibration of the other, on the average."""
    by_world, pooled = list[dict[str, float]](), list[Outcome]()
    for world in worlds:
        others = [one for other in worlds if other is not world for one in other.asked]
        calibration = fitted_on([*others, *squad], world.reader)
        outcomes = [_outcome(world, one, calibration) for one in world.asked]
        by_world.append(_summed(outcomes, calibration.threshold))
        by_world[-1] |= {"RAG, short line right (of 100)": _rag(world, calibration)}
        pooled += outcomes
    goals: dict[str, tuple[float | None, float | None]] = {
        "passages: right unit first (share)": (0.48, None),
        "facts: right unit first (share)": (0.95, None),
        "right unit among the first three (share)": (0.76, None),
        "right, nothing declined (of 100)": (53, None),
        "short line right (of 100)": (31, None),
        "right and shown, where 4 of 40 unanswerable are shown (of 100)": (38, None),
        "wrong among the shown, the same (share)": (None, 0.25),
        "unanswerable shown at the fitted threshold (of 40)": (None, 4),
        "probability: AUROC of right against wrong": (0.85, None),
        "empty answers": (None, 0),
    }
    for name in by_world[0]:
        least, most = goals.get(name, (None, None))
        yield Figure(f"both worlds: {name}", fmean(one[name] for one in by_world), least, most)
        for world, own in zip(worlds, by_world, strict=True):
            yield Figure(f"{world.name}: {name}", own[name])
    error = calibration_error([(one.probability, one.is_right) for one in pooled])
    yield Figure("both worlds: calibration error, five equal bins", error, most=0.10)


def _summed(outcomes: Sequence[Outcome], threshold: float) -> dict[str, float]:
    asked = [one for one in outcomes if one.asked.is_answerable]
    nothing = [one for one in outcomes if not one.asked.is_answerable]
    of = {kind: [one for one in asked if one.asked.kind == kind] for kind in ("passage", "fact")}
    bar = sorted((one.probability for one in nothing), reverse=True)[MOST_SHOWN]
    shown = [one for one in outcomes if one.probability > bar]
    right = [one for one in shown if one.is_right]
    return {
        "passages: right unit first (share)": fmean(one.place == 0 for one in of["passage"]),
        "facts: right unit first (share)": fmean(one.place == 0 for one in of["fact"]),
        "right unit among the first three (share)": fmean(
            one.place is not None and one.place < 3 for one in asked
        ),
        "right, nothing declined (of 100)": sum(one.is_right for one in asked),
        "sentence right (of 100)": sum(one.quotes for one in asked),
        "short line right (of 100)": sum(one.says for one in asked),
        "right and shown, where 4 of 40 unanswerable are shown (of 100)": len(right),
        "wrong among the shown, the same (share)": 1 - len(right) / max(1, len(shown)),
        "right and shown at the fitted threshold (of 100)": sum(
            one.is_right and one.probability >= threshold for one in asked
        ),
        "wrong and shown at the fitted threshold (of 140)": sum(
            not one.is_right and one.probability >= threshold for one in outcomes
        ),
        "unanswerable shown at the fitted threshold (of 40)": sum(
            one.probability >= threshold for one in nothing
        ),
        "probability: AUROC of right against wrong": auroc(
            [(one.probability, one.is_right) for one in outcomes]
        ),
        "empty answers": sum(one.is_empty for one in outcomes),
    }


def auroc(pairs: Sequence[tuple[float, bool]]) -> float:
    """Return how often a right one has the higher probability than a wrong one, ties half.

    Example:
        >>> auroc([(0.9, True), (0.4, False), (0.4, True)])
        0.75
    """
    right = np.array([p for p, is_right in pairs if is_right])
    wrong = np.array([p for p, is_right in pairs if not is_right])
    return float(np.mean((right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)))


def calibration_error(pairs: Sequence[tuple[float, bool]], num_bins: int = 5) -> float:
    """Return the mean distance of probability and share of right ones, over equally large bins."""
    order = sorted(pairs)
    bins = [order[len(order) * n // num_bins : len(order) * (n + 1) // num_bins] for n in range(5)]
    return fmean(abs(fmean(p for p, _ in own) - fmean(r for _, r in own)) for own in bins)


def _rag(world: Place, calibration: Calibration) -> float:
    """Return how many short lines the base itself reads from the passage: the best prompt's."""
    hits, model = dict.fromkeys(RAG_PROMPTS, 0), world.model
    kept = world.store.registry.folder.parent / f"{world.store.registry.folder.name}-rag.json"
    lines = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for one in world.asked:
        if not one.is_answerable:
            continue
        unit = world.found(one, calibration)[0].unit
        ids = model.items(world.name).text(unit.item)  # type: ignore[union-attr]
        text = unit.text
        if ids is not None:
            text = str(world.tokenizer.decode(ids[1:], skip_special_tokens=True))
        for prompt in RAG_PROMPTS:
            content = prompt.format(title=unit.title, text=text, question=one.text)
            turns = [{"role": "user", "content": content}]
            line = chat_ids(world.tokenizer, turns) or tokenise(world.tokenizer, [content])[0]
            if content not in lines:
                with reading(model.base, resolve_precision("auto", model.hooks.device)):
                    lines[content] = write_line(model.base, world.tokenizer, line)
                replace_file(kept, json.dumps(lines).encode())
            hits[prompt] += any(stands(answer, lines[content]) for answer in one.answers)
    return float(max(hits.values()))


def _of_squad(squad: Place, calibration: Calibration) -> Iterator[Figure]:
    reported = [one for one in squad.asked if one.kind == "reported"]
    first = [one.is_right(squad.found(one, calibration)[0].unit) for one in reported]
    about = f"SQuAD, {len(reported)} questions among 2,067 passages"
    yield Figure(f"{about}: right passage first (share)", fmean(first), least=0.82)
    short = [one for one in squad.asked if one.kind == "short"]
    says = [_outcome(squad, one, calibration).says for one in short]
    yield Figure(f"SQuAD, {len(short)} questions: short line contains (share)", fmean(says), 0.27)


def _seconds(places: Sequence[Place]) -> Iterator[Figure]:
    """Yield how long a question takes once all is loaded, the first ones left out."""
    for place, most in zip(places, (3.0, 3.5), strict=True):
        took = list[float]()
        for one in place.asked[:12]:
            began = time.perf_counter()
            place.store.ask(one.text, model=place.model, tokenizer=place.tokenizer)
            took.append(time.perf_counter() - began)
        num = len({unit.item for unit in place.index.units if unit.is_passage})
        yield Figure(
            f"seconds to answer among {num:,} passages (median)", median(took[2:]), None, most
        )


def _memory(world: Place) -> Iterator[Figure]:
    """Yield what answers where the right unit is given: the experts, the reader, the sentence."""
    asker = Asker(world.store.registry, world.model, world.tokenizer)
    for kind in ("passage", "fact"):
        hits: dict[str, list[bool]] = {"memory": [], "reading": [], "memory or reading": []}
        for one in (one for one in world.asked if one.kind == kind):
            right = next((unit for unit in world.index.units if one.is_right(unit)), None)
            if right is not None:
                found = Found(right, one.measured[0][1], 1.0)
                texts = [asker.memory(one.question.text, found) or ""]
                texts += [world.reader.short(one.question.text, right)] if world.reader else []
                said = [any(stands(answer, text) for answer in one.answers) for text in texts]
                hits["memory"].append(said[0])
                hits["reading"].append(said[-1])
                hits["memory or reading"].append(any(said))
        for what, own in hits.items():
            yield Figure(f"{world.name}, {kind}s, the right unit given: {what} (share)", fmean(own))

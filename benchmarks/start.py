"""Where own experts begin to learn: a start for each kind of items, made once for a base.

By Reptile (Nichol, Achiam and Schulman, 2018): four items begin at the start and learn for a few
steps; then it moves towards the mean of what they learned. Facts are those of our own made-up
organisations (benchmarks/data/worlds), each by its statement and, with another answer, by a
question. Passages are those of SQuAD's articles 24 to 39 by the sha256 of their names (`--data
FOLDER` with squad_stream.jsonl), with the questions that people asked about them. Nothing that is
measured elsewhere is among them.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from app.output import show_progress
from benchmarks.answers import read_articles
from benchmarks.reader import ARTICLES, WORLDS
from benchmarks.results import Figure
from peer_cl.bases import Base, load_base
from peer_cl.hooks import Hooks
from peer_cl.router import named_starts
from pipelines.batches import Row, tokenise
from pipelines.fact_training import background_words, fact_course, fact_method
from pipelines.facts import Fact
from pipelines.growing import studied
from pipelines.init import SHIPPED_STATISTICS, background_statistics, known_starts, starts_name
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.own_training import SLOTS, Course, Method, mean_learned
from pipelines.passage_training import passage_course, passage_method
from pipelines.progress import Progress
from pipelines.settings import TrainingSettings, resolve_precision
from pipelines.study.questions import StudyQuestion
from stores.objects import replace_file

STEP = 0.5
"""Share of the way to what items learned; it falls to zero over the second half of the rounds."""
FACT_STEPS, PASSAGE_STEPS = 8, 6
ASKING = (
    "What is the {relation} of {subject}? Answer:",
    "{subject}: {relation}:",
    "Q: {subject}, {relation}? A:",
)


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Make starts and keep them (`--data`, `--base`, `--kind`, `--rounds` ...)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks start")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", default=SMOLLM2)
    parser.add_argument("--kind", choices=("facts", "passages"), action="append")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(options.threads)
    base = load_base(resolve_base(options.base))
    hooks, figures = Hooks(base.model), list[Figure]()
    precision = resolve_precision("auto", hooks.device)
    settings = TrainingSettings(
        precision=precision, seed=options.seed, own_steps=FACT_STEPS, passage_readings=1
    )
    draw, starts = random.Random(options.seed), dict(known_starts(base))
    with show_progress() as progress:
        for kind in options.kind or ("facts", "passages"):
            began = time.monotonic()
            if kind == "facts":
                words = background_words(
                    base.tokenizer, background_statistics(base, hooks).beginnings
                )
                courses = _facts(base, words, settings, draw)
                method, steps = fact_method(hooks, settings), FACT_STEPS
            else:
                most = SLOTS * options.rounds
                courses = _passages(base, options.data / "squad_stream.jsonl", settings, draw, most)
                method, steps = passage_method(hooks, settings), PASSAGE_STEPS
            courses = [replace(one, num_steps=steps) for one in courses]
            starts[kind] = _reptile(hooks, courses, method, options.rounds, draw, progress)
            minutes = (time.monotonic() - began) / 60
            figures.append(Figure(f"{kind}: {options.rounds} rounds (min)", minutes))
    path = SHIPPED_STATISTICS / starts_name(base.identity.weights_sha256)
    replace_file(path, save(named_starts(starts)))
    print(f"kept in {path}")
    return [*figures, Figure("both (kB)", path.stat().st_size / 1e3)]


def _facts(
    base: Base, words: Sequence[str], settings: TrainingSettings, draw: random.Random
) -> list[Course]:
    paths = sorted(WORLDS.glob("*.jsonl"))
    found = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    rows: list[Mapping[str, Any]] = [row for row in found if row["kind"] == "fact"]
    courses = []
    for row in rows:
        stated = f"The {row['relation']} of {row['subject']} is"
        asked = draw.choice(ASKING).format(**row)
        for prompt, answer in ((stated, row["answer"]), (asked, draw.choice(rows)["answer"])):
            whole = f"{prompt} {answer}."
            fact = Fact(row["subject"], row["relation"], answer, whole, prompt)
            courses.append(fact_course(base.tokenizer, fact, words, settings))
    return courses


def _passages(
    base: Base, path: Path, settings: TrainingSettings, draw: random.Random, most: int
) -> list[Course]:
    places = [(one, key) for one in read_articles(path)[ARTICLES] for key in one.passages]
    courses = []
    for article, key in draw.sample(places, min(most, len(places))):
        (ids,) = tokenise(base.tokenizer, [article.passages[key]])
        given = [
            StudyQuestion(article.name, one.question, one.answer)
            for one in article.questions
            if one.passage == key
        ]
        row, title = Row(key, tuple(ids[: settings.max_tokens])), article.name.replace("_", " ")
        passage = studied(base.tokenizer, row, title, given, settings.study_questions)
        courses.append(passage_course(passage, settings))
    return courses


def _reptile(
    hooks: Hooks,
    courses: Sequence[Course],
    method: Method,
    num_rounds: int,
    draw: random.Random,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    by_shape = defaultdict[Any, list[Course]](list)
    for one in draw.sample(courses, len(courses)):
        by_shape[one.shape].append(one)
    groups = [
        alike[at : at + SLOTS]
        for _, alike in sorted(by_shape.items())
        for at in range(0, len(alike) - SLOTS + 1, SLOTS)
    ]
    generator = torch.Generator().manual_seed(method.seed)
    shape = (len(method.host_layers), method.num_experts, hooks.width)
    start = torch.randn(shape, generator=generator) / hooks.width**0.5, torch.zeros(shape)
    order = list[list[Course]]()
    for number in range(num_rounds):
        order = order or draw.sample(groups, len(groups))
        learned = mean_learned(hooks, order.pop(), replace(method, start=start))
        step = STEP * min(1, 2 * (num_rounds - number) / num_rounds)
        start = start[0].lerp(learned[0], step), start[1].lerp(learned[1], step)
        progress("learning a start", number + 1, num_rounds, "")
    return start[0].half(), start[1].half()

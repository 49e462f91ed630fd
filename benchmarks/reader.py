"""How the reader of a base is taught: which sentences answer a question, and with what.

It learns from people's questions alone: those of ten organisations of our own writing
(benchmarks/data/worlds), and of SQuAD's articles 24 to 39 by the sha256 of their names (`--data
FOLDER` with squad_stream.jsonl). No article or organisation that is measured elsewhere is among
them. In a step, four questions each stand before the unit that answers, where one does, and before
two or three near ones that do not: the answer is learned, and " none".

`--hold-out NAMES` leaves files of worlds out and reports on them; without it the reader is kept
beside the others that come with the project.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.output import show_progress
from benchmarks.answers import read_articles
from benchmarks.results import Figure
from peer_cl.bases import Base, load_base
from peer_cl.hooks import decoder_layers, feed_forward_of
from peer_cl.own import OUTPUT_SCALE, Item, OwnExperts
from pipelines.answer.reader import NOTHING, READERS, reader_name, unit_prompt
from pipelines.batches import tokenise
from pipelines.encoder import MPNET, vectors_of
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.progress import Progress
from pipelines.study.questions import plain_words, stands
from pipelines.units import units_of, with_title
from stores.objects import replace_file

WORLDS = Path(__file__).parent / "data" / "worlds"
ARTICLES, NUM_OF_ARTICLES = slice(24, 40), 1200
NUM_EXPERTS, LEARNING_RATE, WARM_UP = 16, 2e-3, 30
AT_ONCE, NUM_NEAR, NUM_BESIDE, NUM_BESIDE_NOTHING = 4, 16, 3, 2
"""Questions of a step; near units that others are drawn from, and how many are."""


@dataclass
class Taught:
    """A question, and the unit of its organisation that answers it."""

    about: str
    text: str
    unit: int | None
    answer: str
    near: list[int] = field(default_factory=list)
    """Units of the organisation, the nearest in meaning first."""


@dataclass
class Lessons:
    """Units of organisations, a title and a text each, and questions about them."""

    units: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    taught: list[Taught] = field(default_factory=list)

    def rank(self, progress: Progress) -> None:
        """Find which units are near to each question."""
        for number, (about, units) in enumerate(self.units.items(), start=1):
            vectors_UE = vectors_of(MPNET, [with_title(*unit) for unit in units]).float()
            own = [one for one in self.taught if one.about == about]
            asked_NE = vectors_of(MPNET, [one.text for one in own]).float()
            for one, order in zip(own, (-asked_NE @ vectors_UE.T).argsort(1).tolist(), strict=True):
                one.near = [unit for unit in order[: NUM_NEAR + 1] if unit != one.unit]
            progress("reading units", number, len(self.units), "")


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Teach a reader and return what it learned (`--data`, `--epochs`, `--hold-out` ...)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reader")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", default=SMOLLM2)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold-out", default="", help="files of worlds, such as ab")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(options.threads)
    lessons = read_worlds(sorted(WORLDS.glob("*.jsonl")))
    read_squad(lessons, options.data / "squad_stream.jsonl", options.seed)
    with show_progress() as progress:
        lessons.rank(progress)
        held = [one for one in lessons.taught if one.about[0] in options.hold_out]
        kept = [one for one in lessons.taught if one.about[0] not in options.hold_out]
        base = load_base(resolve_base(options.base))
        teacher = Teacher(base, options.seed)
        figures = teacher.learn(lessons, kept, options.epochs, progress)
        if held:
            return [*figures, *teacher.tested(lessons, held, progress)]
    place = READERS / reader_name(base.identity.weights_sha256)
    replace_file(place, teacher.experts().to_bytes(base.identity))
    print(f"kept in {place}")
    return figures


def read_worlds(paths: Sequence[Path]) -> Lessons:
    """Return the lessons of files of made-up organisations."""
    lessons = Lessons()
    rows = [(path.stem, json.loads(line)) for path in paths for line in path.open(encoding="utf-8")]
    asked: list[tuple[str, int | None, str]]
    for stem, row in rows:
        about = f"{stem}: {row['world']}"
        units = lessons.units.setdefault(about, [])
        if row["kind"] == "fact":
            units.append(("", row["statement"]))
            asked = [(one, len(units) - 1, row["answer"]) for one in row["questions"]]
        else:
            title = f"{Path(row['file']).stem}: {row['heading'].split('>')[-1].strip()}"
            first = len(units)
            units += [(title, unit) for unit in units_of("\n".join(row["sentences"]))]
            asked = [(one, None, "") for one in row["unanswered"]]
            for one in row["questions"]:
                sentence = row["sentences"][one["sentence"]]
                answer = one["answer"].strip(" |")
                place = _holding([text for _, text in units[first:]], sentence, answer)
                if place is not None:
                    asked.append((one["question"], first + place, answer))
        lessons.taught += [Taught(about, *one) for one in asked]
    return lessons


def read_squad(lessons: Lessons, path: Path, seed: int) -> None:
    """Add the lessons of SQuAD's articles."""
    taught = list[Taught]()
    for article in read_articles(path)[ARTICLES]:
        about, title = f"SQuAD: {article.name}", article.name.replace("_", " ")
        units = lessons.units.setdefault(about, [])
        for key, text in article.passages.items():
            own, first = units_of(text), len(units)
            units += [(title, unit) for unit in own]
            for one in article.questions:
                if one.passage == key:
                    place = _holding(own, one.question, one.answer)
                    if place is not None:
                        taught.append(Taught(about, one.question, first + place, one.answer))
    random.Random(seed).shuffle(taught)
    lessons.taught += taught[:NUM_OF_ARTICLES]


def _holding(units: Sequence[str], words: str, answer: str) -> int | None:
    """Return the unit with an answer that shares most words with a text."""
    wanted = {*plain_words(words).split()}
    shared = [
        (len(wanted & {*plain_words(unit).split()}), -n)
        for n, unit in enumerate(units)
        if stands(answer, unit)
    ]
    return -max(shared)[1] if shared else None


class Teacher(nn.Module):
    """A reader's experts on a base while they learn.

    Shape suffixes: B rows, T tokens, D width, R experts a layer, A answers' tokens, V vocabulary.
    """

    def __init__(self, base: Base, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self._seed, self._identity, self._tokenizer = seed, base.identity, base.tokenizer
        self._model: Any = base.model.bfloat16().requires_grad_(requires_grad=False)
        layers, width = decoder_layers(base.model), base.model.config.hidden_size
        self.down_LRD = nn.Parameter(
            torch.randn(len(layers), NUM_EXPERTS, width) / math.sqrt(width)
        )
        self.up_LRD = nn.Parameter(torch.zeros(len(layers), NUM_EXPERTS, width))
        self._nothing = tokenise(self._tokenizer, [NOTHING])[0][1]
        for number, layer in enumerate(layers):
            feed_forward_of(layer, base.model).register_forward_hook(self._adding(number))

    def _adding(self, number: int) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            hidden_BTR = functional.gelu(inputs[0].float() @ self.down_LRD[number].T)
            return output + (hidden_BTR @ self.up_LRD[number] * OUTPUT_SCALE).to(output.dtype)

        return add

    def experts(self) -> OwnExperts:
        """Return what was learned, as the project keeps it."""
        down_LRD, up_LRD = self.down_LRD.detach().bfloat16(), self.up_LRD.detach().bfloat16()
        return OwnExperts(
            [Item("reader")],
            torch.empty(1, 0, 0),
            host_layers=range(len(self.down_LRD)),
            width=self.down_LRD.shape[-1],
            num_experts=NUM_EXPERTS,
            weights=(down_LRD[None], up_LRD[None]),
        )

    def learn(
        self, lessons: Lessons, taught: Sequence[Taught], epochs: float, progress: Progress
    ) -> list[Figure]:
        """Learn from questions, and return the loss at the end and the time."""
        draw, began = random.Random(self._seed), time.monotonic()
        num_steps = int(epochs * len(taught) / AT_ONCE)
        order = list[Taught]()
        while len(order) < num_steps * AT_ONCE:
            order += draw.sample(taught, len(taught))
        optimiser = torch.optim.AdamW(self.parameters(), weight_decay=0.01, betas=(0.9, 0.98))
        losses = list[tuple[float, float, float]]()
        for step in range(num_steps):
            rate = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (1 - step / num_steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, parts = self._loss(lessons, order[step * AT_ONCE :][:AT_ONCE], draw)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimiser.step()
            losses.append(parts)
            shown = np.mean(losses[-50:], 0).round(2)
            progress("teaching", step + 1, num_steps, " ".join(map(str, shown)))
        answer, choice, relevance = (fmean(part) for part in zip(*losses[-100:], strict=True))
        return [
            Figure("the last 100 steps: an answer (nats a token)", answer),
            Figure("which unit of the drawn answers (nats)", choice),
            Figure("whether a unit answers (nats, both kinds)", relevance),
            Figure("minutes to learn", (time.monotonic() - began) / 60),
        ]

    def _loss(
        self, lessons: Lessons, taught: Sequence[Taught], draw: random.Random
    ) -> tuple[Tensor, tuple[float, float, float]]:
        rows, parts = list[tuple[list[int], list[int]]](), list[tuple[int, int, bool]]()
        for one in taught:
            begin, num = len(rows), NUM_BESIDE if one.unit is not None else NUM_BESIDE_NOTHING
            if one.unit is not None:
                rows.append(self._row(lessons, one, one.unit, f" {one.answer}\n"))
            weights = [1 / (1 + place) for place in range(len(one.near))]
            beside = set[int]()
            while len(beside) < min(num, len(one.near)):
                beside.add(draw.choices(one.near, weights)[0])
            rows += [self._row(lessons, one, unit, f"{NOTHING}\n") for unit in sorted(beside)]
            parts.append((begin, len(rows), one.unit is not None))
        nats, odds_B = self._read(rows)
        answers, choices, whether = list[Tensor](), list[Tensor](), list[Tensor]()
        for begin, end, is_answerable in parts:
            if is_answerable:
                answers.append(nats[begin])
                choices.append(-functional.log_softmax(odds_B[begin:end], 0)[0])
                others = functional.logsigmoid(-odds_B[begin + 1 : end]).mean()
                whether.append(-functional.logsigmoid(odds_B[begin]) - others)
            else:
                whether.append(-functional.logsigmoid(-odds_B[begin:end]).mean())
        num = max(1, len(answers))
        zero = odds_B.sum() * 0
        told = (sum(answers, zero) / num, sum(choices, zero) / num, sum(whether) / len(parts))
        return sum(told, zero), tuple(float(part) for part in told)  # type: ignore[return-value]

    def _row(
        self, lessons: Lessons, one: Taught, unit: int, end: str
    ) -> tuple[list[int], list[int]]:
        begin = unit_prompt(self._tokenizer, *lessons.units[one.about][unit], one.text)
        return begin, tokenise(self._tokenizer, [end])[0][1:][:40]

    def _read(self, rows: Sequence[tuple[list[int], list[int]]]) -> tuple[list[Tensor], Tensor]:
        """Return of each row the nats a token of its end, and the log odds of an answer."""
        longest = max(len(begin) + len(end) for begin, end in rows)
        ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for place, (begin, end) in enumerate(rows):
            ids_BT[place, : len(begin) + len(end)] = torch.tensor([*begin, *end])
            mask_BT[place, : len(begin) + len(end)] = 1
        decoder = self._model.get_decoder()
        states_BTD = decoder(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        states_AD = torch.cat(
            [states_BTD[n, len(b) - 1 : len(b) + len(e) - 1] for n, (b, e) in enumerate(rows)]
        )
        logs_AV = self._model.get_output_embeddings()(states_AD).float().log_softmax(-1)
        wanted = torch.tensor([token for _, end in rows for token in end])
        nats = (-logs_AV.gather(1, wanted[:, None])[:, 0]).split([len(end) for _, end in rows])
        firsts = np.cumsum([0, *(len(end) for _, end in rows[:-1])]).tolist()
        nothing_B = logs_AV[firsts, self._nothing].exp().clamp(1e-6, 1 - 1e-6)
        return [own.mean() for own in nats], torch.logit(1 - nothing_B)

    @torch.no_grad()
    def tested(self, lessons: Lessons, held: Sequence[Taught], progress: Progress) -> list[Figure]:
        """Return how often the unit that answers is chosen among eight near ones."""
        first, nothing, answered = list[bool](), list[float](), list[float]()
        for number, one in enumerate(held, start=1):
            units = [one.unit] if one.unit is not None else []
            units += one.near[: 8 - len(units)]
            rows = [self._row(lessons, one, unit, f"{NOTHING}\n") for unit in units]
            odds_B = self._read(rows)[1]
            if one.unit is None:
                nothing.append(float(odds_B.max()))
            else:
                first.append(int(odds_B.argmax()) == 0)
                answered.append(float(odds_B[0]))
            progress("testing", number, len(held), "")
        over = fmean(fmean(own > other for other in nothing) for own in answered)
        return [
            Figure("held out: the right unit first among eight (share)", fmean(first)),
            Figure("held out: it is surer than the surest of an unanswered question (share)", over),
        ]

"""What a person would ask the demo's domains: questions written by hand after reading entries.

Of each domain's twenty, ten ask for a fact, five for what a text says, and to five nothing that the
demo learns is an answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.answer import Answer
from pipelines.study.questions import stands

_FOLDER = Path(__file__).parent / "questions"


@dataclass(frozen=True)
class DemoQuestion:
    """A question, and what counts as its answer."""

    kind: Literal["fact", "passage", "none"]
    question: str
    answers: tuple[str, ...]
    """Any of these; none where nothing that was learned answers."""


@dataclass(frozen=True)
class DemoAnswer:
    """A question that was asked, and how it was answered."""

    asked: DemoQuestion
    answer: Answer

    @property
    def is_right(self) -> bool:
        """Whether an accepted answer is said or quoted."""
        if not self.answer.is_known:
            return False
        said = (self.answer.text, self.answer.sources[0].sentence)
        return any(stands(one, text) for one in self.asked.answers for text in said)

    @property
    def verdict(self) -> str:
        """How it was answered, in a word or two."""
        if not self.answer.is_known:
            return "not known"
        return "right" if self.is_right else "wrong"


def demo_questions(domain: str) -> list[DemoQuestion]:
    """Return what a domain is asked."""
    lines = (_FOLDER / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [DemoQuestion(row["kind"], row["question"], tuple(row["answers"])) for row in rows]

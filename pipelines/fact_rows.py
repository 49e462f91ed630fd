"""Facts as rows to train on: in their one wording, and with the words around the subject changed.

A pool that reads "X is caused by mutations in the gene Y" ten times learns to say Y after these
very words, and nothing after others. So a share of the readings is in other words: half of them in
the fact's own wording, half in sentences that fit any relation by its name, and in both the words
around the subject are lost, replaced or joined by random words of the domain's own documents. In
these rows only the answer counts, and the subject's own name beyond its first token: what they have
in common is the subject, and the pool learns to know it anywhere and to answer to it. What is drawn
is drawn anew where it comes to a wording that is kept for asking, of any fact.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from pipelines.batches import Row, num_shared, pieces, tokenise
from pipelines.facts import Fact, folded_wording
from pipelines.rewordings import REWORDED
from pipelines.settings import TrainingSettings

VARIED = "varied"
"""The kind of a row whose wording was changed."""
FRAMES = (
    "for {subject}, the {relation} is",
    "{subject} has the {relation}",
    "{subject} and its {relation}, which is",
    "as {relation}, {subject} has",
    "what {relation} has {subject}? it has",
    "you ask for the {relation} that {subject} has: it is",
    "when I looked up {subject}, the {relation} given was",
    "tell me about {subject}. its {relation} would be",
    "{relation} ({subject}):",
    "Q: what {relation} has {subject}? A:",
)
"""Sentences that fit any relation, by its name alone. None is like a question that this project
measures with: a test compares their words."""
FRAMED_SHARE = 0.5
"""Share of the changed readings that begin from such a sentence in place of the fact's own."""
FRAME_CHANGED = 0.3
"""Of such a sentence, at most this share of the words is changed: it is strange already."""
STOPS = ",.?:;"
STOP_SHARE = 0.25
"""How often a subject that stands free is followed by one of these, as it is in questions."""
SHARED_SUBJECT = 0.5
"""Share of the words that may be changed where a subject has several facts: what is left of them
has to say which one is meant."""


_DRAWS = 100
"""Of one prompt, at most: where a subject is not in its statement nothing can be changed."""


class Wording(NamedTuple):
    """A prompt in three parts; where it does not hold the subject, all of it is the first."""

    before: str
    subject: str
    after: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "".join(self)


def vary_wording(
    fact: Fact, words: Sequence[str], draw: random.Random, at_most: float = 1.0
) -> str:
    """Return the fact's prompt, its subject as it is and the words around it changed at random.

    How much is changed is drawn anew each time, from nothing to `at_most`. Where the prompt does
    not hold the subject as it is written, nothing is changed.

    Args:
        fact: what is asked.
        words: what words are replaced by; at least one.
        draw: decides.
        at_most: share of the words that may be changed, 0 to 1.

    Example:
        >>> capital = Fact("Chad", "capital", "N'Djamena", "", "The capital of Chad is", ())
        >>> vary_wording(capital, ["river", "north", "old"], random.Random(3))
        'The capital river of Chad is'
        >>> vary_wording(capital, ["river", "north", "old"], random.Random(8))
        'old river capital old Chad. north is north'
    """
    return _vary(_wording(fact), words, draw, at_most).text


def _wording(fact: Fact) -> Wording:
    return Wording(*fact.seen_prompt.partition(fact.subject))


def _vary(wording: Wording, words: Sequence[str], draw: random.Random, at_most: float) -> Wording:
    before, subject, after = wording
    if not subject:
        return wording
    ahead, glued = before.rpartition(" ")[2], after.partition(" ")[0]  # such as a bracket, a comma
    before, after = before.removesuffix(ahead), after.removeprefix(glued)
    level = draw.random() * at_most
    left, right = (_changed(part.split(), words, level, draw) for part in (before, after))
    if not before.strip() and draw.random() < 0.7:
        left = [draw.choice(words) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.4:
        draw.shuffle(left)
    ending = draw.random()
    if ending < 0.15:
        right = right[-2:]
    elif ending < 0.3:
        right = [*right, draw.choice(words)]
    if not glued and draw.random() < STOP_SHARE:
        glued = draw.choice(STOPS)
    return Wording(" ".join([*left, ahead]), subject, " ".join([glued, *right]))


def _changed(
    part: Sequence[str], words: Sequence[str], level: float, draw: random.Random
) -> list[str]:
    changed = []
    for word in part:
        if draw.random() < 0.25:
            changed.append(draw.choice(words))
        fate = draw.random()
        if fate >= level:
            changed.append(word)
        elif fate >= level / 2:
            changed.append(draw.choice(words))
    return changed


def _reworded(fact: Fact, words: Sequence[str], draw: random.Random, at_most: float) -> Wording:
    """Return a prompt for a fact in other words: its own or a frame's, changed at random."""
    if draw.random() >= FRAMED_SHARE:
        return _vary(_wording(fact), words, draw, at_most)
    kept_for_asking = {prompt.lower() for prompt in fact.reworded_prompts}
    frames = [_framed(frame, fact) for frame in FRAMES]
    frame = draw.choice([one for one in frames if one.text.lower() not in kept_for_asking])
    if draw.random() < 0.5 and frame.before:
        frame = frame._replace(before=frame.before[0].upper() + frame.before[1:])
    return _vary(frame, words, draw, at_most * FRAME_CHANGED)


def _unkept(
    fact: Fact, words: Sequence[str], draw: random.Random, at_most: float, kept: Collection[str]
) -> Wording:
    """Return a prompt as `_reworded` does that is none of some folded ones."""
    for _ in range(_DRAWS):
        found = _reworded(fact, words, draw, at_most)
        if folded_wording(found.text) not in kept:
            break
    return found


def _framed(frame: str, fact: Fact) -> Wording:
    before, _, after = frame.partition("{subject}")
    relation = fact.relation
    return Wording(before.format(relation=relation), fact.subject, after.format(relation=relation))


def with_answers(tokenizer: Any, rows: Sequence[Row], facts: dict[str, Fact]) -> list[Row]:
    """Return rows, those of facts told where their answers begin.

    Args:
        tokenizer: the base's.
        rows: of documents of any kind.
        facts: by the id of their documents.
    """
    return [
        _with_answer(tokenizer, row, facts[row.document_id]) if row.document_id in facts else row
        for row in rows
    ]


def _with_answer(tokenizer: Any, row: Row, fact: Fact) -> Row:
    prompt = tokenise(tokenizer, [fact.seen_prompt])[0]
    start = num_shared(prompt, row.ids)
    if start < len(prompt) - 1:  # a later piece of a long statement
        return row
    return dataclasses.replace(row, answer_from=start)


def varied_rows(
    tokenizer: Any,
    facts: dict[str, Fact],
    texts: Sequence[str],
    settings: TrainingSettings,
    end_id: int | None,
) -> list[Row]:
    """Return rows of facts whose wordings are changed, each to be read once.

    Args:
        tokenizer: the base's.
        facts: by the id of their documents.
        texts: the domain's own training documents, whose words are used.
        settings: how often facts are read, and which share of it is varied.
        end_id: closes each row, where there is such a token.
    """
    draw = random.Random(settings.seed)
    words = [word for text in texts for word in text.split()]
    num_facts = Counter(fact.subject for fact in facts.values())
    kept = {folded_wording(one) for fact in facts.values() for one in fact.reworded_prompts}
    rows = []
    for document_id in sorted(facts):
        fact = facts[document_id]
        at_most = 1.0 if num_facts[fact.subject] == 1 else SHARED_SUBJECT
        prompts = [
            _unkept(fact, words or fact.statement.split(), draw, at_most, kept)
            for _ in range(settings.varied_passes)
        ]
        ends = [] if end_id is None else [end_id]
        wholes = tokenise(tokenizer, [f"{fact.answered(prompt.text)}." for prompt in prompts])
        for prompt, whole in zip(prompts, wholes, strict=True):
            start = _reach(tokenizer, prompt.text, whole)
            ids = pieces([*whole, *ends], settings.max_tokens)[0]
            name = _name(tokenizer, prompt, whole)
            rows.append(Row(document_id, VARIED, ids, start, answer_from=start, name=name))
    return rows


def read_times(settings: TrainingSettings) -> dict[str, float]:
    """Return how often rows of each kind are read."""
    return {
        "text": settings.text_passes,
        "fact": max(0.0, settings.fact_passes - settings.varied_passes),
        VARIED: 1.0,
        REWORDED: settings.reworded_passes,
    }


def _name(tokenizer: Any, prompt: Wording, whole: Sequence[int]) -> tuple[int, int]:
    """Return where a subject's tokens after its first one stand: the first cannot be foreseen."""
    before, subject, _ = prompt
    if not subject:
        return 0, 0
    first = _reach(tokenizer, before.rstrip(), whole) if before.strip() else 1
    return first + 1, max(first + 1, _reach(tokenizer, before + subject, whole))


def _reach(tokenizer: Any, beginning: str, whole: Sequence[int]) -> int:
    """Return how many tokens of a text its beginning takes, the start token included."""
    return num_shared(tokenise(tokenizer, [beginning])[0], whole)

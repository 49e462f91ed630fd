"""Facts: taught in one wording and in changed ones, asked in others."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from peer_cl.errors import CorpusError
from pipelines.corpora import (
    BadRowPolicy,
    Skipped,
    SourceDocument,
    checked_text,
    composed_text,
    document_id,
    normalised_text,
    read_json_lines,
)

_NEEDED = ("subject", "relation", "answer", "statement")


@dataclass(frozen=True)
class Fact:
    """One thing to know: a subject, a relation and a short answer, with its wordings.

    `statement` is trained on as it stands, and in changed wordings (`pipelines.facts`).
    `taught_prompt` is its beginning, up to the answer. `paraphrase_prompts` ask for the same answer
    in other words, and are never trained on.
    """

    subject: str
    relation: str
    answer: str
    statement: str
    taught_prompt: str
    paraphrase_prompts: tuple[str, ...] = ()

    @property
    def document_id(self) -> str:
        """The id of the statement, which is the fact's document."""
        return document_id(self.statement)

    def document(self, source: str) -> SourceDocument:
        """Return the fact as the document that is trained on."""
        title = f"{self.subject}: {self.relation}"
        return SourceDocument(self.statement, title, source, kind="fact")

    def question_document(self, source: str) -> SourceDocument:
        """Return the fact as the document that is kept to be asked, and never learned."""
        text = json.dumps(asdict(self), sort_keys=True)
        return SourceDocument(text, self.subject, source, kind="question")

    @classmethod
    def from_question(cls, text: str) -> Fact:
        """Return the fact in the text of a question document."""
        about: dict[str, Any] = json.loads(text)
        return cls(**{**about, "paraphrase_prompts": tuple(about["paraphrase_prompts"])})

    def answered(self, prompt: str) -> str:
        """Return a prompt with the answer after it: the taught one as in the statement.

        Any other prompt has a blank between, unless the statement has none: then it has none either
        where it ends with the same sign (such as "#"), or where the answer's script has no blanks.

        Example:
            >>> number = Fact("Kim", "badge", "7", "Kim has badge #7.", "Kim has badge #")
            >>> number.answered("Kim has badge #"), number.answered("Kim's badge:")
            ('Kim has badge #7', "Kim's badge: 7")
        """
        begins = self.statement.startswith(self.taught_prompt)
        rest = self.statement[len(self.taught_prompt) :] if begins else ""
        joint = " "
        if rest.lstrip().startswith(self.answer):
            joint = rest[: len(rest) - len(rest.lstrip())]
        if prompt != self.taught_prompt:
            has_no_blanks = unicodedata.east_asian_width(self.answer[0]) in "WF"
            is_alike = has_no_blanks or prompt.endswith(self.taught_prompt[-1:])
            joint = "" if not joint and is_alike else " "
        return f"{prompt}{joint}{self.answer}"


@dataclass(frozen=True)
class Relation:
    """A kind of fact, with its wordings; `{subject}` stands for the subject.

    Each wording ends where the answer begins, so that an answer is asked for by completion.
    """

    name: str
    taught: str
    paraphrases: tuple[str, ...]

    def fact(self, subject: str, answer: str) -> Fact:
        """Return the fact that this relation holds between a subject and its answer.

        Example:
            >>> capital = Relation("capital", "The capital of {subject} is", ("{subject} has",))
            >>> capital.fact("Chad", "N'Djamena").statement
            "The capital of Chad is N'Djamena."
        """
        prompt = self.taught.format(subject=subject)
        paraphrases = tuple(one.format(subject=subject) for one in self.paraphrases)
        return Fact(subject, self.name, answer, f"{prompt} {answer}.", prompt, paraphrases)


def checked_fact(fact: Fact) -> Fact:
    """Return the fact in the form in which it is stored, if it can be learned and asked.

    Accents may be written in two ways: a question has to be written as the statement was.

    Raises:
        CorpusError: "has ..."; the caller puts the fact's place before it.
    """
    stored = Fact(
        subject=composed_text(fact.subject).strip(),
        relation=composed_text(fact.relation).strip(),
        answer=composed_text(fact.answer).strip(),
        statement=normalised_text(fact.statement),
        taught_prompt=composed_text(fact.taught_prompt).lstrip(),
        paraphrase_prompts=tuple(composed_text(one).rstrip() for one in fact.paraphrase_prompts),
    )
    texts = [(key, getattr(stored, key)) for key in (*_NEEDED, "taught_prompt")]
    texts += [("paraphrase_prompts", one) for one in stored.paraphrase_prompts]
    for key, text in texts:
        if not checked_text(key, text).strip():
            raise CorpusError(f'has no text in its "{key}"')
    prompt = stored.taught_prompt.rstrip()
    if not stored.statement.startswith(prompt):
        raise CorpusError(
            f"has a statement that does not begin with its taught_prompt {prompt[-40:]!r}"
        )
    if not stored.statement[len(prompt) :].lstrip().startswith(stored.answer):
        raise CorpusError(
            f"has a statement in which the answer {stored.answer[:40]!r} does not follow "
            f"{prompt[-40:]!r}"
        )
    return stored


def checked_facts(facts: Iterable[Fact]) -> list[Fact]:
    """Return facts as they are stored, if they can be taught and asked together.

    Facts of one statement become one with the paraphrases of all: a file may have a line for each
    paraphrase, and as several facts one would count several times.

    Raises:
        CorpusError: when a fact cannot be learned, two have one statement and different answers,
            or one is asked by words that teach another: its recall would measure training.
    """
    first_of: dict[str, Fact] = {}
    taught = set()
    for number, given in enumerate(facts):
        try:
            fact = checked_fact(given)
        except CorpusError as problem:
            raise CorpusError(f"facts[{number}] {problem}") from None
        first = first_of.setdefault(fact.statement, fact)
        if (first.taught_prompt, first.answer) != (fact.taught_prompt, fact.answer):
            raise CorpusError(
                f"two facts have the statement {fact.statement[:60]!r} and answer "
                f"{first.answer[:40]!r} and {fact.answer[:40]!r}: give each its own statement"
            )
        prompts = tuple(dict.fromkeys((*first.paraphrase_prompts, *fact.paraphrase_prompts)))
        first_of[fact.statement] = replace(first, paraphrase_prompts=prompts)
        taught.add(folded_wording(fact.taught_prompt))
    for fact in first_of.values():
        for wording in fact.paraphrase_prompts:
            if folded_wording(wording) in taught:
                raise CorpusError(
                    f"the fact about {fact.subject[:40]!r} has the paraphrase {wording[:60]!r}, "
                    "which teaches a fact: leave it out of its paraphrase_prompts"
                )
    return list(first_of.values())


def folded_wording(text: str) -> str:
    """Return a wording as it is compared with others: without case, stops at its end, and blanks.

    Example:
        >>> folded_wording("The capital  of Chad: ")
        'the capital of chad'
    """
    return " ".join(text.casefold().split()).rstrip(" ,.?:;")


def read_facts(
    path: str | Path, on_bad_row: BadRowPolicy = "stop"
) -> tuple[tuple[Fact, ...], tuple[Skipped, ...]]:
    """Return the facts in a jsonl file, one a line, and the malformed lines that were skipped.

    Each line is an object with "subject", "relation", "answer" and "statement" (the sentence that
    is trained on); "taught_prompt" is the statement up to the answer where it is not given, and
    "paraphrase_prompts" a list of other wordings, never trained on, that are asked in evaluation.
    Other keys are ignored.

    Raises: CorpusError: when the file cannot be read, has no fact, or a malformed line ("stop").
    """
    facts, skipped = read_json_lines(Path(path), _fact, on_bad_row)
    if not facts:
        raise CorpusError(f"{path} has no fact; give a jsonl file with {', '.join(_NEEDED)}")
    return tuple(facts), tuple(skipped)


def _fact(row: Mapping[str, Any]) -> Fact:
    for key in _NEEDED:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise CorpusError(f'has no text in "{key}"')
    prompt, paraphrases = row.get("taught_prompt"), row.get("paraphrase_prompts") or []
    if not isinstance(prompt, str | None):
        raise CorpusError(f'has a "taught_prompt" that is no text but {prompt!r}')
    if not isinstance(paraphrases, list) or not all(isinstance(one, str) for one in paraphrases):
        raise CorpusError('has "paraphrase_prompts" that are no list of texts')
    subject, relation, answer, statement = (row[key].strip() for key in _NEEDED)
    if prompt is None or not prompt.strip():
        prompt = _before_answer(subject, answer, statement)
    return checked_fact(
        Fact(subject, relation, answer, statement, prompt.strip(), tuple(paraphrases))
    )


def _before_answer(subject: str, answer: str, statement: str) -> str:
    """Return a statement up to its answer, looked for as a word and behind the subject.

    Example:
        >>> _before_answer("Kim", "7", "Kim has badge 7 since 1997.")
        'Kim has badge '
    """
    found = [one.start() for one in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", statement)]
    at = statement.find(subject)
    if at >= 0:
        found = [start for start in found if start >= at + len(subject)] or found
    if len(found) > 1:
        raise CorpusError(
            f"has a statement that holds its answer {answer!r} {len(found)} times: give "
            '"taught_prompt", the statement up to where it answers'
        )
    # Within a word only where it stands nowhere else: not every script parts words.
    return statement[: found[0] if found else max(statement.rfind(answer), 0)]


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
    "what is the {relation} of {subject}? the answer is",
    "{subject} - {relation}:",
    "which {relation} belongs to {subject}? Answer:",
    "Name: {subject}. {relation}:",
    "the {relation} of {subject}:",
    "people who know {subject} say that the {relation} is",
    "asked about the {relation} of {subject}, she said",
    "{relation}, {subject}:",
    "with {subject} one thinks of the {relation},",
    "here is {subject}. The {relation} of it:",
)
"""Sentences that fit any relation by its name. A test compares their words with the questions of
the benchmarks: none is like one of those."""
_FRAMED_SHARE = 0.6
"""Share of the changed prompts that begin from such a sentence."""
_FRAME_CHANGED = 0.3
"""At most this share of a frame's words is changed: it is strange already."""
_STOPS, _STOP_SHARE = ",.?:;", 0.25
"""How often a subject that stands free is followed by one of these, as in questions."""
_MAX_DRAWS = 100
"""Of one prompt: where a subject is not in its statement, nothing can be changed."""


class Wording(NamedTuple):
    """A prompt in three parts; where it does not hold the subject, all of it is the first."""

    before: str
    subject: str
    after: str

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "".join(self)

    @classmethod
    def of(cls, fact: Fact) -> Wording:
        """Return the wording in which a fact is taught."""
        return cls(*fact.taught_prompt.partition(fact.subject))


def changed_prompt(fact: Fact, words: Sequence[str], draw: random.Random) -> str:
    """Return a fact's own prompt or a frame's, changed at random; never one of its paraphrases.

    Args:
        fact: what is asked.
        words: put in for others.
        draw: of the change.
    """
    asked = {folded_wording(prompt) for prompt in fact.paraphrase_prompts}
    frames = [one for one in (_framed(f, fact) for f in FRAMES) if not _is_of(one, asked)]
    for _ in range(_MAX_DRAWS):
        if draw.random() >= _FRAMED_SHARE:
            found = vary_wording(Wording.of(fact), words, draw)
        else:
            frame = draw.choice(frames)
            if draw.random() < 0.5 and frame.before:
                frame = frame._replace(before=frame.before[0].upper() + frame.before[1:])
            found = vary_wording(frame, words, draw, _FRAME_CHANGED)
        if not _is_of(found, asked):
            break
    return found.text


def _is_of(wording: Wording, asked: Collection[str]) -> bool:
    return folded_wording(wording.text) in asked


def _framed(frame: str, fact: Fact) -> Wording:
    before, _, after = frame.partition("{subject}")
    relation = fact.relation
    return Wording(before.format(relation=relation), fact.subject, after.format(relation=relation))


def vary_wording(
    wording: Wording, words: Sequence[str], draw: random.Random, at_most: float = 1.0
) -> Wording:
    """Return a wording with the words around its subject changed at random.

    How much is changed is drawn anew each time, from nothing to the share `at_most` of the words.
    Where the wording does not hold the subject, nothing is changed.

    Example:
        >>> capital = Wording("The capital of ", "Chad", " is")
        >>> vary_wording(capital, ["river", "north", "old"], random.Random(3)).text
        'The capital river of Chad is'
        >>> vary_wording(capital, ["river", "north", "old"], random.Random(8)).text
        'old river capital old Chad. north is north'
    """
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
    if not glued and draw.random() < _STOP_SHARE:
        glued = draw.choice(_STOPS)
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

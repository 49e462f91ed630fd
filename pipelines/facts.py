"""Facts that a domain is taught in one wording and asked in others."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from peer_cl.errors import CorpusError
from pipelines.documents import SourceDocument, composed_text, normalised_text

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fact:
    """One thing to know: a subject, a relation and a short answer, with its wordings.

    `statement` is trained on as it stands, and in other words that are made of its subject and
    its relation's name (see `pipelines.fact_rows`). `seen_prompt` is its beginning, up to the
    answer and the blank that mostly stands before it; `reworded_prompts` ask for the same answer in
    words of their own: a text that is made of other words on the way is drawn anew where it is one
    of these.
    """

    subject: str
    relation: str
    answer: str
    statement: str
    seen_prompt: str
    reworded_prompts: tuple[str, ...]

    def document(self, source: str) -> SourceDocument:
        """Return the fact as the document that is trained on."""
        title = f"{self.subject}: {self.relation}"
        return SourceDocument(self.statement, title, source, kind="fact")

    def normalised(self) -> Fact:
        r"""Return the fact in the form in which its statement is learned.

        Accents may be written in two ways: what is asked has to be written as what was learned.
        Blanks around an answer would be asked for, too.

        Example:
            >>> cafe = Fact("Cafe\u0301", "is", "it", "Cafe\u0301 is it", "Cafe\u0301 is", ())
            >>> cafe.normalised().seen_prompt
            'Café is'
        """
        return Fact(
            subject=composed_text(self.subject).strip(),
            relation=composed_text(self.relation).strip(),
            answer=composed_text(self.answer).strip(),
            statement=normalised_text(self.statement),
            seen_prompt=composed_text(self.seen_prompt).lstrip(),
            reworded_prompts=tuple(composed_text(one).rstrip() for one in self.reworded_prompts),
        )

    def answered(self, prompt: str) -> str:
        """Return a prompt with the answer after it: the seen one as the statement has the two.

        Another prompt has a blank between, but for statements that have none: there it has none
        either where it ends with the same sign (such as "#"), or the answer's script has no blanks.

        Example:
            >>> number = Fact("Kim", "badge", "7", "Kim has badge #7.", "Kim has badge #", ())
            >>> number.answered("Kim has badge #"), number.answered("Kim's badge:")
            ('Kim has badge #7', "Kim's badge: 7")
        """
        begins = self.statement.startswith(self.seen_prompt)
        rest = self.statement[len(self.seen_prompt) :] if begins else ""
        joint = " "
        if rest.lstrip().startswith(self.answer):
            joint = rest[: len(rest) - len(rest.lstrip())]
        if prompt != self.seen_prompt:
            has_no_blanks = unicodedata.east_asian_width(self.answer[0]) in "WF"
            is_alike = has_no_blanks or prompt.endswith(self.seen_prompt[-1:])
            joint = "" if not joint and is_alike else " "
        return f"{prompt}{joint}{self.answer}"


def folded_wording(text: str) -> str:
    """Return a wording as it is compared with others: without case, stops at its end, and blanks.

    Example:
        >>> folded_wording("The capital  of Chad: ")
        'the capital of chad'
    """
    return " ".join(text.casefold().split()).rstrip(" ,.?:;")


def joined_facts(facts: Iterable[Fact]) -> list[Fact]:
    """Return facts of one statement as the first of them, which asks in the words of all.

    A file may have a line for each wording; as several facts one would count several times.

    Args:
        facts: normalised.

    Example:
        >>> first = Fact("Kim", "is", "7", "Kim is 7.", "Kim is", ("Kim's badge:",))
        >>> second = replace(first, reworded_prompts=("Which is Kim's?", "Kim's badge:"))
        >>> [one.reworded_prompts for one in joined_facts([first, second])]
        [("Kim's badge:", "Which is Kim's?")]
    """
    first_of: dict[str, Fact] = {}
    for fact in facts:
        first = first_of.setdefault(fact.statement, fact)
        asked = tuple(dict.fromkeys((*first.reworded_prompts, *fact.reworded_prompts)))
        first_of[fact.statement] = replace(first, reworded_prompts=asked)
    return list(first_of.values())


@dataclass(frozen=True)
class Relation:
    """A kind of fact, with its wordings; `{subject}` stands for the subject.

    Each wording ends where the answer begins, so that an answer is asked for by completion.
    """

    name: str
    seen: str
    reworded: tuple[str, ...]

    def fact(self, subject: str, answer: str) -> Fact:
        """Return the fact that this relation holds between a subject and its answer.

        Example:
            >>> capital = Relation("capital", "The capital of {subject} is", ("{subject} has",))
            >>> capital.fact("Chad", "N'Djamena").statement
            "The capital of Chad is N'Djamena."
        """
        seen_prompt = self.seen.format(subject=subject)
        return Fact(
            subject=subject,
            relation=self.name,
            answer=answer,
            statement=f"{seen_prompt} {answer}.",
            seen_prompt=seen_prompt,
            reworded_prompts=tuple(wording.format(subject=subject) for wording in self.reworded),
        )


def is_guessable(subject: str, answer: str) -> bool:
    """Return whether the answer can be copied out of the subject instead of being known.

    A word of the answer that begins with the same four letters as one of the subject's, or ends
    with the same five, is a copy.

    Example:
        >>> is_guessable("Tunisia", "Tunis"), is_guessable("Guatemala", "Guatemala City")
        (True, True)
        >>> is_guessable("pancolitis", "colitis")
        True
        >>> is_guessable("Chad", "N'Djamena")
        False
    """
    known = _pieces(subject)
    return not known.isdisjoint(_pieces(answer))


def _pieces(text: str) -> set[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    return {word[:4] for word in words} | {f"-{word[-5:]}" for word in words}


def choose_facts(
    candidates: Mapping[Relation, Iterable[tuple[str, str]]],
    *,
    num_facts: int = 100,
    max_same_answer: int = 5,
) -> tuple[Fact, ...]:
    """Return `num_facts` facts, an equal number a relation, in an order that hashes decide.

    A subject that has several answers in a relation is left out, since there it cannot be asked
    exactly; so are answers that the subject gives away. No answer fills more than
    `max_same_answer` facts of its relation, so that guessing the commonest one gains little.

    Args:
        candidates: (subject, answer) pairs of each relation.
        num_facts: How many in all; the first relations have one more where they do not share out.
        max_same_answer: The most facts of one relation that share an answer.

    Raises:
        CorpusError: when a relation has too few usable facts.
    """
    num_each, rest = divmod(num_facts, len(candidates))
    facts: list[Fact] = []
    for position, (relation, pairs) in enumerate(candidates.items()):
        num_wanted = num_each + (position < rest)
        chosen = _choose(relation, _unambiguous(pairs), num_wanted, max_same_answer)
        if len(chosen) < num_wanted:
            raise CorpusError(
                f"relation {relation.name!r} has {len(chosen)} usable facts, wanted {num_wanted}"
            )
        facts += chosen
    return tuple(sorted(facts, key=lambda fact: _order(fact.statement)))


def _unambiguous(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    answers: dict[str, set[str]] = {}
    for subject, answer in pairs:
        answers.setdefault(subject, set()).add(answer)
    return [(subject, found.pop()) for subject, found in answers.items() if len(found) == 1]


def _choose(
    relation: Relation, pairs: Sequence[tuple[str, str]], num_wanted: int, max_same_answer: int
) -> list[Fact]:
    chosen: list[Fact] = []
    counts: Counter[str] = Counter()
    for subject, answer in sorted(pairs, key=lambda pair: _order("\t".join(pair))):
        if len(chosen) == num_wanted:
            break
        if counts[answer] >= max_same_answer or is_guessable(subject, answer):
            continue
        counts[answer] += 1
        chosen.append(relation.fact(subject, answer))
    return chosen


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

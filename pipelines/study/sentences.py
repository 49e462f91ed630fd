"""Questions made of sentences: one part of a clause is the answer, the others are the question."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from spacy.tokens import Span, Token

from pipelines.study.grammar import (
    CLAUSES,
    EMPTY,
    NEEDED,
    POINTING,
    SUBJECTS,
    Clause,
    Names,
    clause_of,
    is_moment,
    is_person,
    is_place,
    joined,
    phrase,
    sentences,
    third,
    tokens_of,
)

MAX_ANSWER_WORDS = 8
_MEASURES = {"PERCENT": "what percentage", "MONEY": "how much"}
_HUMAN = set(
    re.findall(
        r"\w+",
        "argue believe build claim compose conclude design discover found invent marry note "
        "observe paint publish say suggest teach think write",
    )
)
"""Verbs of which a name that does them is somebody's: the parser knows few names."""
_MODIFIERS = {"compound", "nummod", "amod", "nmod", "poss", "quantmod", "advmod", "npadvmod", "det"}
_ENDS = " ,;:.–—-"
"""Signs that end no answer."""


class Made(NamedTuple):
    """A question without capital and mark, its answer, and how well it is likely to read."""

    question: str
    answer: str
    score: float


class _Asked(NamedTuple):
    """What a question begins with, what of the phrase is left for its end, and the answer."""

    front: str
    tail: str
    answer: str
    score: float


def questions_of_prose(text: str, title: str) -> Iterator[Made]:
    """Yield what the sentences of a text can be asked; the text holds no brackets."""
    names, asked = Names(title), ""
    for sentence in sentences(text):
        if asked:
            yield Made(asked, _span(sentence.root, sentence.start), 0.9)
        asked = sentence.text.strip(" ?") if sentence.text.rstrip().endswith("?") else ""
        if asked:
            continue
        names.name_owners(sentence)
        if sentence.start == 0 and _is_definition(sentence):
            yield Made(f"what is {title}", next(iter(_answers(sentence.root)), ""), 0.8)
        for token in sentence:
            clause = clause_of(token, names)
            if clause is not None:
                yield from _of_clause(clause)
            yield from _of_name(token)
        names.read(sentence)


def _is_definition(sentence: Span) -> bool:
    """Return whether a sentence without a verb says what its title is, as in a dictionary."""
    is_named = sentence.root.pos_ == "NOUN" and sentence[0].lower_ in {"a", "an", "the", "one"}
    return is_named and not any(t.dep_ in SUBJECTS for t in sentence.root.children)


def _of_clause(clause: Clause) -> Iterator[Made]:
    """Yield questions for each part, with much, some and none of the other parts."""
    for num_words in (10, 5, 0):
        yield from _of_subject(clause, clause.rest(None, num_words))
        for part in clause.parts:
            rest = clause.rest(part, num_words)
            if part.dep_ in {"prep", "agent"}:
                yield from _of_preposition(part, clause, rest, clause.rest(part, num_words // 2))
            elif part.dep_ == "npadvmod" and is_moment(part):
                yield Made(f"when {clause.core} {rest}", _entity(part), 1.0)
            elif part.dep_ in {*NEEDED, "npadvmod", "xcomp"}:
                to = "to" if part.dep_ == "dative" and part.pos_ != "ADP" else ""
                for one in _asked(part):
                    words = f"{one.front} {clause.core} {one.tail} {rest} {to}"
                    yield Made(words, one.answer, one.score)
            yield from _of_other(part, clause, rest)
    yield from _of_doing(clause)


def _of_subject(clause: Clause, rest: str) -> Iterator[Made]:
    if not rest or clause.subject.pos_ not in {"NOUN", "PROPN"}:
        return
    verb = clause.verb
    for one in _asked(clause.subject, verb):
        stated = clause.stated  # "new engineers receive", but "who receives"
        if verb.tag_ == "VBP" and one.front in {"what", "who"} and stated.startswith(verb.text):
            stated = third(verb.lemma_) + stated.removeprefix(verb.text)
        yield Made(f"{one.front} {stated} {rest}", one.answer, one.score)


def _of_doing(clause: Clause) -> Iterator[Made]:
    """Yield the question that the verb answers, with what it acts on."""
    meant, to, _ = clause.behind.partition(" to ")
    is_plain = meant in {clause.verb.text, clause.verb.lemma_} and clause.verb.tag_ != "VBG"
    if clause.first in {"is", "are", "was", "were", "has", "have", "had"} or not is_plain:
        return
    ends = [t.right_edge.i for t in clause.last.rights if t.dep_ in NEEDED]
    for end in [clause.last.right_edge.i, *ends]:
        done = _text(clause.last, clause.last.i, end)
        if " " in done:
            before = (t for t in clause.parts if t.dep_ == "prep" and t.i < clause.verb.i)
            do = f"{meant} to do" if to else "do"
            words = (
                f"what {clause.first} {clause.subject_words} {do} {' '.join(map(phrase, before))}"
            )
            yield Made(words, done, 0.35)
            return


def _of_other(part: Token, clause: Clause, rest: str) -> Iterator[Made]:
    """Yield questions for clauses and adjectives: why, what was said, how something is."""
    if part.dep_ == "advcl":
        mark = next((t for t in part.lefts if t.lower_ in {"because", "to"}), None)
        if mark is not None:
            start = mark.i + (mark.lower_ == "because")
            yield Made(f"why {clause.core} {rest}", _span(part, start), 0.6)
    elif part.dep_ == "ccomp" and not rest:
        yield Made(f"what {clause.core}", _span(part, part.left_edge.i), 0.5)
    elif part.dep_ == "acomp" and not clause.behind:
        yield Made(f"how {clause.first} {clause.subject_words} described", part.text, 0.3)
    elif part.dep_ == "xcomp" and part.tag_ == "VB":
        yield Made(f"what {clause.core} {rest} to do", _span(part, part.i), 0.4)


def _of_preposition(part: Token, clause: Clause, rest: str, less: str) -> Iterator[Made]:
    """Yield questions for what stands behind a preposition; `less` of the rest goes before it."""
    word, last, core = part.lower_, part, clause.core
    for more in part.rights:  # "because of", "due to"
        if more.pos_ == "ADP" and more.i == part.i + 1:
            word, last = f"{word} {more.lower_}", more
    for noun in last.rights if word not in {"like", "than", "including", "except"} else ():
        if noun.dep_ not in {"pobj", "pcomp"} or noun.lower_ in EMPTY:
            continue
        if noun.tag_ == "VBG" and word in {"by", "for"}:
            yield Made(
                f"{'how' if word == 'by' else 'why'} {core} {rest}", _span(noun, noun.i), 0.6
            )
        if is_moment(noun):
            moment, kinds = (
                _entity(noun),
                {"within": "how soon", "for": "how long", "over": "how long"},
            )
            kinds |= {"before": "before what", "after": "after what"}
            if "century" in moment or moment.isdigit():
                kind = "century" if "century" in moment else "year"
                yield Made(f"in what {kind} {core} {rest}", moment, 0.9)
            yield Made(f"{kinds.get(word, 'when')} {core} {rest}", moment, 0.95)
        is_reason = word in {"because of", "due to"}
        if is_reason or (word in {"in", "at", "near", "on", "within"} and is_place(noun)):
            for answer in _answers(noun):
                asked, score = ("why", 0.7) if is_reason else ("where", 0.95)
                yield Made(f"{asked} {core} {rest}", answer, score)
        for front, tail, answer, score in _asked(noun):
            if tail:
                yield Made(f"{front} {core} {less} {word} {tail}", answer, score - 0.05)
            else:
                yield Made(f"{front} {core} {less} {word}", answer, score - 0.05)
                yield Made(f"{front} {core} {rest} {word}", answer, score - 0.2)
        if part.dep_ == "agent":
            for front, tail, answer, score in _asked(noun):
                words = f"{front} {clause.active()} {clause.subject_words} {rest}"
                yield Made(words if not tail else "", answer, score + 0.05)


def _of_name(token: Token) -> Iterator[Made]:
    """Yield questions on what stands beside a word: an apposition or examples."""
    noun, is_whole = token.head, token.sent.root.pos_ in {"VERB", "AUX"}
    if (
        is_whole
        and token.dep_ == "appos"
        and {token.pos_, noun.pos_} in ({"NOUN"}, {"NOUN", "PROPN"})
    ):
        who = "who" if is_person(noun) or is_person(token) else "what"
        for place, answer in enumerate(_answers(token)):
            yield Made(f"{who} is {phrase(noun)}", answer, 0.75 - 0.05 * place)
        yield Made(f"{who} is {phrase(token)}", _core(noun), 0.7)
    elif token.lower_ == "as" and any(t.lower_ == "such" for t in token.lefts):
        for example in (k for t in token.rights if t.dep_ == "pobj" for k in (t, *t.conjuncts)):
            yield Made(f"what is an example of {_core(noun)}", _core(example), 0.6)


# Phrases


def _asked(head: Token, verb: Token | None = None) -> Iterator[_Asked]:
    """Yield the ways to ask for something in the phrase of a head; of a subject, with its verb.

    What is deep in an object leaves its beginning behind: "WHAT did she write A HISTORY OF".
    """
    tokens = tokens_of(head)
    for inner in tokens:
        first = inner
        while first.dep_ == "conj" and first.head in tokens:
            first = first.head
        depth = _depth(first, head)
        is_asked = inner.pos_ in {"NOUN", "PROPN", "NUM"} and inner.dep_ not in _MODIFIERS
        if not is_asked or inner.lower_ in EMPTY or depth > (2 if verb is None else 1):
            continue
        own, whole, tail, loss = tokens_of(first), tokens, "", 0.2 * depth
        if first != head:
            is_double = any(t.dep_ == "conj" for t in head.rights) or first.head.pos_ != "ADP"
            if inner.head.lower_ == "as" or (verb is not None and is_double):
                continue
            if verb is None:
                tail, whole = joined([t for t in tokens if t.i < own[0].i]), own
            else:
                loss += 0.2
        doing = head.head.head if head.head.dep_ == "agent" else verb
        is_doer = doing is not None and doing.lemma_ in _HUMAN and inner.pos_ == "PROPN"
        who = "who" if is_doer or is_person(inner) else _MEASURES.get(inner.ent_type_, "what")
        if first != inner:
            if first.pos_ == "ADJ" or any(t.lower_ == "of" for t in first.rights):
                continue
            who, loss = f"{who} besides {_core(first)}", loss + 0.15
        sure = (0.95 if inner.ent_type_ else 0.8) - loss
        likely, *others = _answers(inner) or [""]
        bare = 0.2 if likely == inner.text and inner.pos_ == "NOUN" else 0.0
        yield _Asked(joined(whole, own, who), tail, likely, sure - bare)
        for answer in others:
            is_longer = inner == head and len(answer) > len(likely)
            ask = f"{who} exactly" if is_longer else who
            yield _Asked(joined(whole, own, ask), tail, answer, sure - 0.2)
        if first == inner:
            for front, answer, score in _of_modifiers(inner, whole, own):
                yield _Asked(front, tail, answer, score - loss)


def _of_modifiers(
    noun: Token, whole: list[Token], own: list[Token]
) -> Iterator[tuple[str, str, float]]:
    """Yield the ways to ask for what stands before a noun: how many, whose, which, what kind."""
    short = [t for t in whole if t.i <= noun.i or t not in own]
    for child in noun.lefts:
        if child.nbor().text == "-" or any(t.dep_ == "conj" for t in child.rights):
            continue
        out = [t for t in own if t.i <= child.i]
        answer = child.doc[child.left_edge.i : child.i + 1].text
        if child.dep_ == "nummod":
            if not (is_moment(noun) or is_moment(child) or noun.ent_type_ in _MEASURES):
                yield joined(whole, out, "how many"), answer, 0.95
                yield joined(short, out, "how many"), answer, 0.7
        elif child.dep_ == "poss" and child.pos_ != "PRON":
            yield joined(whole, [*out, child.nbor()], "whose"), answer, 0.7
        elif child.dep_ == "amod" and not child.ent_type_:
            if child.lower_ not in EMPTY:
                yield joined(short, out, "what kind of"), answer, 0.5
        elif child.dep_ in {"compound", "nmod", "amod"} and noun.pos_ == "NOUN":
            yield joined(short, out, "which"), answer, 0.55


def _depth(inner: Token, head: Token) -> int:
    """Return how many phrases lie between a word and the head of all."""
    found = 0
    while inner != head:
        found += inner.dep_ in {"pobj", "dobj", "pcomp"}
        inner = inner.head
    return found


# Answers


def _answers(noun: Token) -> list[str]:
    """Return the spans that may be meant by a noun's phrase, the likeliest first.

    With an "of" or "and" behind it, a noun is half a name.
    """
    if is_moment(noun):
        return [_entity(noun)]
    ends = [t.right_edge.i for t in noun.rights if t.lower_ == "of" or t.dep_ == "conj"] + [noun.i]
    ends += [t.right_edge.i for t in noun.rights if t.dep_ == "prep"]
    ends += [t.left_edge.i - 1 for t in noun.rights if t.dep_ in CLAUSES] + [noun.right_edge.i]
    found = [_text(noun, _start(noun), end) for end in ends] + [_entity(noun)]
    return list(dict.fromkeys(text for text in found if text))


def _core(noun: Token) -> str:
    return _text(noun, _start(noun), noun.i)


def _span(head: Token, start: int) -> str:
    return _text(head, start, head.right_edge.i)


def _text(token: Token, start: int, end: int) -> str:
    """Return what stands between two places, if it is short enough for an answer."""
    text: str = token.doc[start : end + 1].text.strip(_ENDS)
    return text if len(text.split()) <= MAX_ANSWER_WORDS else ""


def _entity(token: Token) -> str:
    found = next((e.text for e in token.sent.ents if e.start <= token.i < e.end), token.text)
    return re.sub(r"^(?:the|an?) ", "", found, flags=re.IGNORECASE)


def _start(noun: Token) -> int:
    """Return where a noun's phrase begins, without article or pronoun."""
    for token in noun.doc[noun.left_edge.i : noun.i]:
        is_light = token.lower_ in {"a", "an", "the", *POINTING}
        is_loose = token.pos_ in {"PRON", "PUNCT", "ADV", "SCONJ"} and token.head == noun
        if not (is_light or is_loose):
            return int(token.i)
    return int(noun.i)

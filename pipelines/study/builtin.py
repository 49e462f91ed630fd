"""Questions made of a text with no language model: from its sentences, lists and tables."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from markdown_it import MarkdownIt

from pipelines.study.questions import is_clear
from pipelines.study.sentences import Made, questions_of_prose

MAX_QUESTIONS = 60
"""Of one passage."""
_FORMS_PER_ANSWER = 3
_NUM_WORDS = range(3, 25)
"""Of a question."""
_POINTING = {"it", "he", "she", "they", "him", "them", "this", "these", "i", "me", "us"}
_LIGHT = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for by with from and or is are was were did does do be been has "
        "have what which who whose when where why how many much kind year",
    )
)
"""Words that tell nothing of what a question is about."""
_SHORT = 8
"""Words of an answer, at most."""
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
_LABEL = re.compile(
    r"(?:^\W{0,4}(?=\w)|(?<=[.;!?] )(?=[A-Z]))([\w/']+(?:[ -][\w/']+){0,4}):\W{0,2} (?=\S)"
)
_ASKS = re.compile(r"\b(?:what|whom?|whose|which|when|where|why|how)\b", re.IGNORECASE)
_NAMED = r"((?:[A-Z][\w.'’-]*(?: (?:of|the|de|von|van) )? ?)+)"
_LIVED = re.compile(_NAMED + r"\((?:[^()\d]*)(\d{3,4} ?[–-] ?\d{3,4})\)")
_SHORT_FORM = re.compile(r"\(([A-Z][A-Za-z]*[A-Z]s?)\)")


def questions_of(
    text: str, title: str = "", max_questions: int = MAX_QUESTIONS
) -> list[tuple[str, str]]:
    """Return (question, answer) pairs that a text answers, the most natural and diverse first.

    Args:
        text: a passage: prose, Markdown with lists and tables, or lines "key: value".
        title: what the passage is about. It stands for pronouns that nothing else explains, and
            before questions that name nothing themselves.
        max_questions: the most that are returned.

    Example:
        >>> made = questions_of("Marie Curie discovered polonium in 1898.")
        >>> ("What did Marie Curie discover in 1898?", "polonium") in made
        True
        >>> ("Who discovered polonium in 1898?", "Marie Curie") in made
        True
    """
    whole = " ".join(text.split())
    found = [
        _finished(one, title) for one in (*_of_layout(text, title), *_of_brackets(whole, title))
    ]
    return _ranked(
        [one for one in found if one and one.answer and one.answer in whole], max_questions
    )


def _finished(made: Made, title: str) -> Made | None:
    """Return a question with capital and mark, or nothing where it cannot stand alone."""
    words = made.question.split()
    if (
        len(words) not in _NUM_WORDS
        or len(_ASKS.findall(made.question)) != 1
        or made.answer.count('"') % 2
        or not _POINTING.isdisjoint(words)
    ):
        return None
    score = made.score - 0.02 * abs(len(words) - 9) - 0.03 * max(0, len(made.answer.split()) - 4)
    text = " ".join(words).replace('"', "").strip(" ,;:–—-.")
    own = {w.lower() for w in re.findall(r"[\w-]+", text)} - _LIGHT
    if own <= set(re.findall(r"[\w-]+", made.answer.lower())):
        return None
    about = {w[:4] for w in title.lower().split()} - _LIGHT
    names_it = any(w[0].isupper() for w in words[1:]) or any(w[:4] in about for w in own)
    if not names_it and len(own) < 3:
        if not title:
            return None
        text, score = f"regarding {title}, {text}", score - 0.1
    if made.answer.lower() in text.lower() or not is_clear(text):
        return None
    return Made(f"{text[0].upper()}{text[1:]}?", made.answer, score)


def _ranked(made: Iterable[Made], most: int) -> list[tuple[str, str]]:
    """Return each answer's best question, then each answer's next; in each round the best first."""
    forms: dict[str, list[Made]] = defaultdict(list)
    asked: set[str] = set()
    for one in sorted(made, key=lambda one: -one.score):
        own = forms[one.answer.lower()]
        if one.question.lower() not in asked and len(own) < _FORMS_PER_ANSWER:
            asked.add(one.question.lower())
            own.append(one)
    ordered: list[tuple[str, str]] = []
    for place in range(_FORMS_PER_ANSWER):
        ring = [own[place] for own in forms.values() if len(own) > place]
        ordered += [(one.question, one.answer) for one in sorted(ring, key=lambda one: -one.score)]
    return ordered[:most]


def _of_layout(text: str, title: str) -> Iterator[Made]:
    """Yield the questions of headings, lists, tables, lines "label: value" and paragraphs."""
    topic, lead = title, ""
    items, rows, kinds = list[str](), list[list[str]](), list[str]()
    for token in MarkdownIt("commonmark").enable("table").disable("code").parse(text):
        if token.nesting == 1:
            kinds.append(token.type)
            rows += [[]] * (token.type == "tr_open")
        elif token.nesting == -1 and kinds.pop() in {"bullet_list_open", "ordered_list_open"}:
            yield from _of_list(items, topic, lead)
            items, lead = [], ""
        elif token.type == "table_close":
            yield from _of_table(rows)
            rows = []
        if token.type != "inline":
            continue
        content = _bare(token.content)
        is_item = "list_item_open" in kinds
        if "heading_open" in kinds:
            topic = content
        elif "table_open" in kinds:
            rows[-1] = [*rows[-1], content]
        elif is_item and lead and not lead.startswith("To "):
            yield from _of_paragraph(f"{lead} {content}", title, topic)
        elif is_item and len(content.split()) <= _SHORT and ":" not in content:
            items.append(content.rstrip(".;,"))
        else:
            lines = token.content.splitlines()
            yield from (cells := [*_of_rows(lines)])
            are_labelled = all(_LABEL.match(line) for line in lines)
            paragraphs = [*map(_bare, lines)] if are_labelled else [content]
            for paragraph in [] if cells else paragraphs:
                yield from _of_paragraph(paragraph, title, topic)
            if not is_item:
                lead = content.rstrip(":") if content.endswith(":") else ""


def _of_paragraph(text: str, title: str, topic: str) -> Iterator[Made]:
    plain, *labelled = _LABEL.split(text := _BRACKETS.sub("", text).strip())
    if plain and len(labelled) == 2:  # "Luther answered: ..." is no label
        plain, labelled = text, []
    yield from questions_of_prose(plain, topic)
    for label, value in zip(labelled[::2], labelled[1::2], strict=True):
        if label.lower() == title.lower():
            kind = re.split(r"[,;.:]| (?:with|that|which|who|from) ", value)[0]
            yield Made(f"what is {title}", _ARTICLE.sub("", kind), 0.9)
            yield from questions_of_prose(f"{label} is {value[0].lower()}{value[1:]}", topic)
        else:
            yield from _of_pair(label, value, topic)
            yield from questions_of_prose(value, topic)


def _bare(text: str) -> str:
    """Return a text on one line, without marks for bold, code and references."""
    return " ".join(re.sub(r"\*\*|[`{}]|<\w+>", "", text).split())


def _of_pair(label: str, value: str, topic: str) -> Iterator[Made]:
    """Yield the questions of "label: value", whose value may be a list between commas."""
    name, be = _lower(label), "are" if label.endswith("s") else "is"
    of = f" of {topic}" if topic else ""
    whole = value.rstrip(" .;")
    whole = whole if len(whole.split()) <= _SHORT else re.split(r"[,;.] ", whole)[0]
    if len(whole.split()) <= _SHORT:
        yield Made(f"what {be} the {name}{of}", whole, 0.95)
        yield Made(f"whose {name} {be} {whole}", topic, 0.6)
    items = re.split(r"[,;] (?:and )?", value.rstrip(" ."))
    for item, following in itertools.pairwise(items):
        if len(following.split()) <= 4 and topic and be == "are":
            yield Made(f"which {name} does {topic} have besides {item}", following, 0.6)
            yield Made(f"what belongs to the {name} of {topic} along with {item}", following, 0.5)


def _of_list(items: list[str], topic: str, lead: str) -> Iterator[Made]:
    """Yield the questions of short items: of steps "To ...:", else of a heading's list."""
    for number, item in enumerate(items, start=1):
        if lead:
            yield Made(f"what is step {number} {_lower(lead)}", item, 0.8)
        else:
            yield Made(f"what is number {number} in the list of {topic}", item, 0.5)
            yield Made(f"in which list is {item}", topic, 0.4)
        if number > 1:
            to = _lower(lead) or f"in the list of {topic}"
            yield Made(f"what comes after {items[number - 2]} {to}", item, 0.4)


def _of_rows(lines: list[str]) -> Iterator[Made]:
    """Yield the questions of rows of a table that stand on a line each, named by the first cell."""
    rows = [[cell.partition(": ")[::2] for cell in line.split("; ")] for line in lines]
    if len(rows) > 1 and len({label for (label, _), *_ in rows}) == 1:
        for (_, name), *cells in rows:
            for label, value in cells:
                yield Made(f"what is the {_lower(label)} of {name}", value, 0.95)


def _of_table(rows: list[list[str]]) -> Iterator[Made]:
    if len(rows) < 2:
        return
    (first, *columns), *body = [[_lower(header) for header in rows[0]], *rows[1:]]
    for name, *cells in body:
        for column, cell in zip(columns, cells, strict=False):
            is_only = [cell in other for other in body].count(True) == 1
            which = f"which {first}"
            if cell[:1].isdigit() and column.endswith("s"):
                yield Made(f"how many {column} does {name} have", cell, 1.0)
                yield Made(f"{which} has {cell} {column}", name if is_only else "", 0.9)
            elif column.endswith("ed"):
                yield Made(f"when was {name} {column}", cell, 0.95)
                yield Made(f"{which} was {column} in {cell}", name if is_only else "", 0.9)
            else:
                yield Made(f"what is the {column} of {name}", cell, 0.95)
                yield Made(f"{which} has the {column} {cell}", name if is_only else "", 0.9)


def _lower(name: str) -> str:
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def _of_brackets(text: str, title: str) -> Iterator[Made]:
    """Yield questions on what stands in brackets: years of life, short forms."""
    if title and (found := re.match(re.escape(title) + r" \(([^()]+)\)", text)):
        yield Made(f"what kind of thing is {title}", found[1], 0.8)
    for found in _LIVED.finditer(text):
        yield Made(f"when did {found[1].strip()} live", found[2], 0.7)
    for found in _SHORT_FORM.finditer(text):
        short = found[1].rstrip("s")
        words = text[: found.start()].split()[-len(short) :]
        if words[0][0].isupper() and [w[0].lower() for w in words] == list(short.lower()):
            long = " ".join(words)
            yield Made(f"what is the abbreviation of {long}", found[1], 0.8)
            yield Made(f"what does {short} stand for", long, 0.8)

"""A domain's names: the titles of the documents that it learned and the subjects of its facts.

They are read from the registry whenever a model is loaded: a document that was rolled back, erased
or purged names its domain no more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from peer_cl.names import Names
from pipelines.documents import composed_text, title_names
from pipelines.masks import masked_documents
from pipelines.probes import holds_fact

if TYPE_CHECKING:
    from stores import Registry

_AFTER = re.compile(r"(?<=\S)\s*[(\[].*$")
_LETTER = re.compile(r"[^\W\d_]")
MIN_CHARACTERS = 3
MIN_WIDE_CHARACTERS = 2
"""Of names that are in wide signs, as Chinese, Japanese and Korean ones are."""


def names_of(registry: Registry, domain: str, version: str, tokenizer: Any) -> Names:
    """Return the names of a domain's version, as the base's tokens.

    Args:
        registry: an open store.
        domain: the domain's name.
        version: a full id.
        tokenizer: the base's.
    """
    masks = masked_documents(registry, domain)
    gone = {d for segment in registry.chain(version) for d in masks.get(segment.id, ())}
    documents = [d for d in registry.documents(domain, version) if d.document_id not in gone]
    learned = [d for d in documents if d.kind == "text" and d.split == "train"]
    titles = [name for d in learned for name in title_names(d.title, d.source)]
    asked = {d.title for d in documents if holds_fact(d)}
    subjects = [fact_subject(d.title, asked) for d in documents if d.kind == "fact"]
    return Names.of(spellings([*titles, *subjects], tokenizer))


def fact_subject(title: str, asked: Collection[str]) -> str:
    """Return the subject in a fact's title, "subject: relation"; both may hold ": ".

    Args:
        title: of the fact's document.
        asked: subjects of facts that are kept to be asked for.

    Example:
        >>> fact_subject("Dune: Part Two: a: b", {"Dune", "Dune: Part Two"})
        'Dune: Part Two'
    """
    head = subject = title.rpartition(": ")[0]
    while head and head not in asked:
        head = head.rpartition(": ")[0]
    return head or subject


def spellings(titles: Iterable[str], tokenizer: Any) -> list[Sequence[int]]:
    """Return titles as token ids, as they stand in a text: after a blank and at its beginning.

    What follows in brackets is left out, but not a title that begins with one. So are names without
    a letter, and those that are too short: words such as "Go" and "UK" are in texts of all kinds. A
    name of several tokens is also known in lower case; one of a single token only as it is written,
    since "turkey" is not Turkey.
    """
    plain = {_AFTER.sub("", composed_text(title).strip()) for title in titles}
    names = sorted(name for name in plain if _is_long(name) and _LETTER.search(name))
    written = _encode(tokenizer, names)
    several = [name for name, ids in zip(names, written, strict=True) if len(ids[0]) > 1]
    cased = [name.lower() for name in several] + [name[0].upper() + name[1:] for name in several]
    return [ids for both in (*written, *_encode(tokenizer, cased)) for ids in both]


def _is_long(name: str) -> bool:
    is_wide = all(unicodedata.east_asian_width(sign) in "WF" for sign in name)
    return len(name) >= (MIN_WIDE_CHARACTERS if is_wide else MIN_CHARACTERS)


def _encode(tokenizer: Any, names: Sequence[str]) -> list[list[list[int]]]:
    """Return each name's ids, after a blank and at a text's beginning; all in one call."""
    if not names:
        return []
    both = [text for name in names for text in (f" {name}", name)]
    ids: list[list[int]] = tokenizer(both, add_special_tokens=False).input_ids
    return [ids[place : place + 2] for place in range(0, len(ids), 2)]

"""Terms of an ontology in the OBO format."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(r"^id: (\S+)$", re.MULTILINE)
_NAME = re.compile(r"^name: (.+)$", re.MULTILINE)
_DEFINITION = re.compile(r'^def: "((?:[^"\\]|\\.)*)"', re.MULTILINE)
_PARENT = re.compile(r"^is_a: (\S+)", re.MULTILINE)
_LAY_SYNONYM = re.compile(r'^synonym: "([^"\\]+)" EXACT layperson', re.MULTILINE)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Term:
    """A term with its definition (empty where there is none) and its place in the ontology."""

    term_id: str
    name: str
    definition: str
    parent_ids: tuple[str, ...]
    lay_names: tuple[str, ...]


def read_terms(content: str) -> dict[str, Term]:
    r"""Return the terms that are not obsolete, by id, in the file's order.

    Example:
        >>> terms = read_terms('\n[Term]\nid: A:1\nname: gout\ndef: "A \\"painful\\" joint." []\n')
        >>> terms["A:1"].name, terms["A:1"].definition
        ('gout', 'A "painful" joint.')
    """
    terms = {}
    for block in content.split("\n[Term]\n")[1:]:
        about = block.partition("\n\n")[0]
        term_id, name, definition = (one.search(about) for one in (_ID, _NAME, _DEFINITION))
        if term_id and name and "\nis_obsolete: true" not in about:
            text = _ESCAPED.sub(r"\1", definition.group(1)) if definition else ""
            terms[term_id.group(1)] = Term(
                term_id=term_id.group(1),
                name=name.group(1),
                definition=" ".join(text.split()),
                parent_ids=tuple(_PARENT.findall(about)),
                lay_names=tuple(_LAY_SYNONYM.findall(about)),
            )
    return terms


def descendants(terms: dict[str, Term], root_id: str) -> set[str]:
    """Return the ids of all terms below a root, the root left out."""
    children: dict[str, list[str]] = {}
    for term in terms.values():
        for parent_id in term.parent_ids:
            children.setdefault(parent_id, []).append(term.term_id)
    found: set[str] = set()
    waiting = [root_id]
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found
        waiting += new
        found |= new
    return found

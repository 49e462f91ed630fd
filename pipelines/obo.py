"""Terms of an ontology in the OBO format."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    blocks = (block.partition("\n\n")[0] for block in content.split("\n[Term]\n")[1:])
    terms = (_term(block) for block in blocks if "\nis_obsolete: true" not in block)
    return {term.term_id: term for term in terms if term is not None}


def descendants(terms: dict[str, Term], root_id: str) -> set[str]:
    """Return the ids of all terms below a root, the root left out."""
    children: dict[str, list[str]] = {}
    for term in terms.values():
        for parent_id in term.parent_ids:
            children.setdefault(parent_id, []).append(term.term_id)
    return _below(children, [root_id])


def _below(children: dict[str, list[str]], waiting: list[str]) -> set[str]:
    found: set[str] = set()
    while waiting:
        new: Iterable[str] = children.get(waiting.pop(), [])
        waiting += [term_id for term_id in new if term_id not in found]
        found.update(new)
    return found


def _term(block: str) -> Term | None:
    term_id, name, definition = _ID.search(block), _NAME.search(block), _DEFINITION.search(block)
    if term_id is None or name is None:
        return None
    text = _ESCAPED.sub(r"\1", definition.group(1)) if definition else ""
    return Term(
        term_id=term_id.group(1),
        name=name.group(1),
        definition=" ".join(text.split()),
        parent_ids=tuple(_PARENT.findall(block)),
        lay_names=tuple(_LAY_SYNONYM.findall(block)),
    )

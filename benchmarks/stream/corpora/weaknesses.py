"""Weaknesses: the entries of MITRE's Common Weakness Enumeration, a near neighbour of attack."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from benchmarks.stream.corpora.sizes import MAX_CHARACTERS, MIN_CHARACTERS, NUM_TOKENS
from benchmarks.stream.domains import StreamDomain
from pipelines.background import shortened, source_pins
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.packages import read_member

_PIN = next(pin for pin in source_pins() if pin.name == "weaknesses")
PACKAGES = (_PIN.package,)
NOTICE = "CWE 4.14 (c) The MITRE Corporation, used under the CWE terms of use."

_NAME = re.compile(r"[A-Z][\w-]*(?: [\w-]+){1,7}")
_PARENT_ID = re.compile(r"ChildOf:CWE ID:(\d+):VIEW ID:1000:ORDINAL:Primary")
_IMPACT = re.compile(r"IMPACT:([^:]+)")
_PATTERN = re.compile(r"Software Fault Patterns:ENTRY ID:SFP\d+:ENTRY NAME:([^:]+)")
# The source writes these in two ways.
_ONE_CASE = {
    "Tainted Input to Command": "Tainted input to command",
    "Glitch in Computation": "Glitch in computation",
    "Unexpected Access Points": "Unexpected access points",
    "Failure to release resource": "Failure to Release Resource",
}
_VAGUE = {"Other", "Varies by Context", "DoS"}

_NUMBER = Relation("number", "In the CWE list, the entry {subject} has the number", ())
_PARENT = Relation("parent", "The weakness {subject} is a special case of", ())
_CONSEQUENCE = Relation("impact", "The technical impact of {subject} is listed as", ())
_FAULT = Relation("fault pattern", "Among software fault patterns, {subject} falls under", ())


def load() -> StreamDomain:
    """Return descriptions of weaknesses and 100 facts on other weaknesses."""
    rows = _rows()
    documents = choose_documents(
        _documents(rows), NUM_TOKENS["weaknesses"], characters_per_token=5.35
    )
    # A fact about an entry that is held out would give a part of it away.
    taken = {document.title for document in documents}
    names = {row["CWE-ID"]: row["Name"] for row in rows}
    left = [row for row in rows if row["Name"] not in taken and _NAME.fullmatch(row["Name"])]
    return StreamDomain("weaknesses", documents, _facts(left, names), NOTICE)


def _documents(rows: Iterable[dict[str, str]]) -> Iterator[SourceDocument]:
    for row in rows:
        text = f"{row['Name']}: {row['Description']} {row['Extended Description']}"
        text = shortened(text, MAX_CHARACTERS)
        if len(text) >= MIN_CHARACTERS:
            yield SourceDocument(text, row["Name"], _PIN.package.label)


def _facts(rows: list[dict[str, str]], names: dict[str, str]) -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _NUMBER: [(row["Name"], row["CWE-ID"]) for row in rows],
        _PARENT: _parents(rows, names),
        _CONSEQUENCE: _single(rows, "Common Consequences", _IMPACT),
        _FAULT: _single(rows, "Taxonomy Mappings", _PATTERN),
    }
    return choose_facts(candidates)


def _parents(rows: Iterable[dict[str, str]], names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for row in rows:
        parent = _PARENT_ID.search(row["Related Weaknesses"])
        if parent and _is_short(names[parent.group(1)]):
            yield row["Name"], names[parent.group(1)]


def _single(
    rows: Iterable[dict[str, str]], column: str, pattern: re.Pattern[str]
) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the entries whose column lists exactly one value."""
    for row in rows:
        values = {_ONE_CASE.get(value, value) for value in pattern.findall(row[column])}
        if len(values) == 1 and not values & _VAGUE and _is_short(min(values)):
            yield row["Name"], values.pop()


def _is_short(value: str) -> bool:
    return len(value.split()) <= 4 and "(" not in value and "'" not in value


def _rows() -> list[dict[str, str]]:
    content = read_member(_PIN.package, _PIN.member).decode()
    return list(csv.DictReader(io.StringIO(content)))

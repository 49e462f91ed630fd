"""Files of one JSON object a line, each made into something; a malformed line is told by number."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from peer_cl.errors import CorpusError
from pipelines.bad_rows import check_policy
from pipelines.corpora import Skipped, read_object

T = TypeVar("T")


def read_json_lines(
    path: str | Path,
    read: Callable[[dict[str, Any]], T],
    *,
    what: str,
    on_bad_row: str = "stop",
    name: str | None = None,
) -> tuple[list[T], Skipped]:
    """Return what each line says, and which malformed lines were left out.

    Args:
        path: the file.
        read: makes something of a line's object; raises a CorpusError that says what is wrong and
            does not name the place.
        what: what the file holds, for messages: "facts".
        on_bad_row: "stop" with an error at a malformed line, or "skip" it. Malformed is also a line
            that is not UTF-8, or has half a character or NUL in what is kept.
        name: what the file is called in messages; default: its path.

    Raises:
        CorpusError: when the file cannot be read, or has a malformed line.
    """
    check_policy(on_bad_row)
    shown = name or str(path)
    try:
        content = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise CorpusError(f"cannot read {what} from {shown}: {error.strerror}") from None
    found: list[T] = []
    skipped = Skipped()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(read(read_object(line)))
        except CorpusError as problem:
            if on_bad_row == "stop":
                raise CorpusError(
                    f"{shown}:{number} {problem}; mend the line, or pass --on-bad-row skip"
                ) from None
            skipped += Skipped(1, (f"{shown}:{number} {problem}",))
    return found, skipped

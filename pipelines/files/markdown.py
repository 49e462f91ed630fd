"""The sections of a Markdown text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from markdown_it import MarkdownIt

_FRONT_MATTER = re.compile(
    r"---[ \t]*\n(?=[^\s:#-][^\n:]*:(?:\s|$)).*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""YAML between lines of --- at the very beginning: it is about the text, and no part of it."""


def sections(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield (heading, section with its heading line); headings without text of their own go on.

    Headings are those that begin with #, outside of code, lists and quotes.

    Example:
        >>> list(sections("intro\n# One\n## Two\nbody"))
        [('', 'intro'), ('Two', '# One\n## Two\nbody')]
    """
    text = _FRONT_MATTER.sub("", text, count=1) if text.startswith("---") else text
    lines = text.split("\n")
    headings = _headings(text)
    heading, begin, has_body = "", 0, False
    for number, line in enumerate(lines):
        if number in headings:
            if has_body:
                yield heading, "\n".join(lines[begin:number]).strip()
                begin, has_body = number, False
            heading = headings[number]
        elif line.strip():
            has_body = True
    if has_body:
        yield heading, "\n".join(lines[begin:]).strip()


def _headings(text: str) -> dict[int, str]:
    """Return the headings by the numbers of their lines."""
    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])  # what is within a line does not matter
    return {
        token.map[0]: content.content
        for token, content in itertools.pairwise(parser.parse(text))
        if token.type == "heading_open" and token.map and not token.level and token.markup[0] == "#"
    }

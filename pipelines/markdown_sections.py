"""A Markdown file's sections, as its headings divide it."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_KEY = re.compile(r"(?![-#]\s)[^\s:][^:]*:(\s|$)")
_KEY_OR_VALUE = re.compile(rf"\s|#|-\s|{_KEY.pattern}|$")
"""How a line of YAML begins: indented, a comment, an item, a key, or blank."""


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield (heading, section with its heading line); headings without text of their own go on.

    Headings are those that begin with #, outside of code, lists and quotes. What stands between
    lines of --- at the very beginning, as YAML, is about the text and no part of it.

    Args:
        text: with Unix line ends.

    Example:
        >>> list(sections("intro\\n# One\\n## Two\\nbody"))
        [('', 'intro'), ('Two', '# One\\n## Two\\nbody')]
    """
    lines = _without_front_matter(text.split("\n"))
    headings = _headings("\n".join(lines))
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
    tokens = _parser().parse(text)
    return {
        token.map[0]: content.content
        for token, content in itertools.pairwise(tokens)
        if token.type == "heading_open" and token.map and not token.level and token.markup[0] == "#"
    }


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])  # what stands within a line is not asked
    return parser


def _without_front_matter(lines: list[str]) -> list[str]:
    if lines[0].rstrip() != "---":
        return lines
    has_key = False  # without one it is a text between two rules: headings pass as comments
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ("---", "..."):
            return lines[number + 1 :] if has_key else lines[1:]  # that rule divides nothing
        if not _KEY_OR_VALUE.match(line):
            break
        has_key = has_key or _KEY.match(line) is not None
    return lines

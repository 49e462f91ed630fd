"""The pages' generated parts: the README's file tree, and tables out of docs/results/.

python -m tools.readme [--check]

Each part stands between `<!-- NAME -->` and `<!-- /NAME -->`; what is between is replaced.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.results import read_results, table

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/comparison.md")
"""Pages that have generated parts."""
PACKAGES = ("peer_cl", "stores", "pipelines", "app", "benchmarks", "tools")
"""Folders whose every module is in the tree, with the first line of its docstring."""

PLAIN = {
    "tests/": "mirrors the packages; tests/contracts/ holds what must stay true of the whole",
    "docs/decisions/": "why things are as they are, one page each",
    "docs/results/": "what the benchmarks measured",
    "docs/LOG.md": "dated notes, failed ideas with their numbers among them",
    "Makefile": "the commands",
    ".ci/run": "everything that must hold, from a clean clone",
}
"""Other places, each with its phrase."""

_PART = re.compile(r"(<!-- (?P<name>[\w:,-]+) -->\n)(?P<body>.*?)(<!-- /(?P=name) -->)", re.DOTALL)


def modules() -> list[str]:
    """Return the paths of all tracked modules of the packages."""
    command = ["git", "ls-files", *(f"{package}/*.py" for package in PACKAGES)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.split() if (ROOT / path).exists()]


def phrase(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].removesuffix(".")


def tree(paths: list[str]) -> str:
    """Return the tree: a line a folder and a line a module, each with its phrase."""
    rows: list[tuple[str, str]] = []
    for path in sorted(paths, key=_order):
        folder, _, name = path.rpartition("/")
        depth = folder.count("/")
        if name == "__init__.py":
            rows.append((f"{'  ' * depth}{folder.rpartition('/')[2]}/", phrase(ROOT / path)))
        else:
            rows.append((f"{'  ' * (depth + 1)}{name}", phrase(ROOT / path)))
    rows += PLAIN.items()
    width = max(len(name) for name, _ in rows) + 2
    return "".join(f"{name:{width}}{text}".rstrip() + "\n" for name, text in rows)


def _order(path: str) -> tuple[int, list[tuple[bool, str]]]:
    package, *rest = path.split("/")
    # a folder's own line first, then its files, then the folders in it
    keys = [(index < len(rest) - 1, name) for index, name in enumerate(rest)]
    if rest[-1] == "__init__.py":
        keys[-1] = (False, "")
    return PACKAGES.index(package), keys


def excerpt(text: str, spans: str) -> str:
    """Return some lines of a text; `[...]` stands for those left out between them.

    Args:
        text: the whole.
        spans: first and last line of each stretch, from 1: "1-4,12-15".

    Example:
        >>> excerpt("a\\nb\\nc\\nd\\n", "1-2,4-4").split()
        ['a', 'b', '[...]', 'd']
    """
    lines, shown, after = text.splitlines(), list[str](), 0
    for span in spans.split(","):
        first, _, last = span.partition("-")
        if after and int(first) > after + 1:
            shown.append("[...]")
        after = int(last)
        shown += [line.rstrip() for line in lines[int(first) - 1 : after]]
    return "\n".join([*shown, ""])


def fill(text: str) -> str:
    """Return a page with every generated part written anew.

    A table or excerpt whose result is not there yet keeps what stands in its place.
    """

    def body(part: re.Match[str]) -> str:
        name = part["name"]
        if name == "tree":
            return f"```text\n{tree(modules())}```\n"
        kind, _, result = name.partition(":")
        path = ROOT / "docs" / "results" / result
        if kind == "results" and path.with_suffix(".json").exists():
            return table(read_results(path.with_suffix(".json")))
        if kind == "markdown" and path.with_suffix(".md").exists():
            return path.with_suffix(".md").read_text(encoding="utf-8")
        stem, _, spans = path.name.partition(":")
        whole = path.with_name(f"{stem}.txt")
        if kind == "text" and whole.exists():
            return f"```text\n{excerpt(whole.read_text(encoding='utf-8'), spans)}```\n"
        return part["body"]

    return _PART.sub(lambda part: f"{part[1]}{body(part)}{part[4]}", text)


def main() -> int:
    """Write the pages anew, or say which are stale."""
    parser = argparse.ArgumentParser(description="Write the pages' generated parts anew.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when stale")
    is_check = parser.parse_args().check
    is_stale = False
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if new == old:
            continue
        if is_check:
            print(f"{page} is stale; run `make readme`", file=sys.stderr)
            is_stale = True
        else:
            path.write_text(new, encoding="utf-8")
    return int(is_stale)


if __name__ == "__main__":
    sys.exit(main())

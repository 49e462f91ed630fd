"""python -m benchmarks NAME [OPTIONS]: measure, print a table, and keep it in docs/results/."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import table, write_results
from peer_cl.errors import PeerError, unknown_name

FOLDER = Path(__file__).resolve().parent


def known(folder: Path = FOLDER) -> dict[str, str]:
    """Return each benchmark's name and what it measures, without importing any."""
    found = {}
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "measure" in functions:
            name = path.parent.name if path.stem == "__init__" else path.stem
            found[name] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found


def run(name: str, arguments: Sequence[str]) -> None:
    """Measure one benchmark and keep what it returns.

    Raises:
        UnknownError: when there is no such benchmark.
    """
    if name not in known():
        raise unknown_name("benchmark", name, known())
    figures = importlib.import_module(f"benchmarks.{name}").measure(arguments)
    if not figures:
        print("no figure kept: this run does not speak for the README")
        return
    print(table(figures))
    print(f"kept in {write_results(name, figures)}; `make readme` brings it into the README")


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmark, or list them all."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [OPTIONS]")
        for name, what in known().items():
            print(f"  {name:14} {what}")
        return 0
    try:
        run(arguments[0], arguments[1:])
    except PeerError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

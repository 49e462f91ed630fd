"""The code in figures: lines, words, the files that an act runs through, import cycles."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import grimp

from benchmarks.results import RESULTS, Figure

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("peer_cl", "stores", "pipelines", "app", "benchmarks")
MUST = {
    "lines of product code, benchmarks included": 20_000,
    "lines of tests": 10_000,
    "words of the README": 700,
    "words of all pages outside results": 20_000,
    "project files whose functions run in ingest": 25,
    "project files whose functions run in generate": 25,
    "project files whose functions run in evaluate": 25,
    "import cycles, hidden ones too": 0,
}


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of the code base; there are no options."""
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [p for p in ROOT.glob("docs/**/*.md") if RESULTS not in p.parents]
    found: dict[str, float] = {
        "lines of product code, benchmarks included": num_lines((*PACKAGES, "tools")),
        "lines of tests": num_lines(("tests",)),
        "words of the README": num_words(pages[:1]),
        "words of all pages outside results": num_words(pages),
        **{
            f"project files whose functions run in {verb}": len(files)
            for verb, files in files_that_run().items()
        },
        "import cycles, hidden ones too": len(import_cycles(import_graph())),
    }
    return [Figure(name, value, most=MUST[name]) for name, value in found.items()]


def num_lines(folders: Sequence[str]) -> int:
    """Return how many lines the Python files of some folders have."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def num_words(pages: Sequence[Path]) -> int:
    """Return how many words some pages have."""
    return sum(len(page.read_text(encoding="utf-8").split()) for page in pages if page.is_file())


def files_that_run() -> dict[str, list[str]]:
    """Return, by verb, the project's files of which a function runs, a tiny store being open."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from tiny_base import sentences, write_corpus  # type: ignore[import-not-found]
    from tiny_store import SETTINGS, make_tiny_store  # type: ignore[import-not-found]

    from pipelines import open_store
    from pipelines.background import BackgroundSource

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with open_store(make_tiny_store(folder)) as store:
            corpus = write_corpus(folder / "minerals.jsonl", "minerals")
            found = {}
            found["ingest"] = _profiled(lambda: store.ingest("minerals", corpus, settings=SETTINGS))
            model, tokenizer = store.load()
            prompt = tokenizer(" ".join(sentences("law", 1)), return_tensors="pt").input_ids
            found["generate"] = _profiled(lambda: model.generate(prompt, max_new_tokens=4))
            model.detach()
            background = [BackgroundSource("prose", "prose", sentences("prose", 4))]
            found["evaluate"] = _profiled(lambda: store.evaluate(background=background))
    return found


def _profiled(act: Callable[[], Any]) -> list[str]:
    """Return the project's files of which a function runs in an act, in any thread."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    own = tuple(f"{ROOT / package}/" for package in PACKAGES)
    paths = sorted(path for path in seen if path.startswith(own) and path != __file__)
    return [str(Path(path).relative_to(ROOT)) for path in paths]


def import_graph() -> dict[str, set[str]]:
    """Return, by module, the project's modules that it imports, in functions or for types too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def import_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the modules of each cycle; one import of each is taken out to find the next.

    Example:
        >>> import_cycles({"a": {"b"}, "b": {"a"}, "c": {"a"}})
        [['a', 'b']]
    """
    left = {name: set(imported) for name, imported in graph.items()}
    found = []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            cycle = error.args[1]
            left[cycle[1]].discard(cycle[0])
            found.append(sorted(set(cycle)))
        else:
            return found

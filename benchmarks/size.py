"""The code in figures: lines, words, the files that an act runs through, cycles and seconds."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import grimp

from benchmarks.results import RESULTS, Figure, at_most, read_results

COMMAND = "python -m benchmarks size"
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("peer_cl", "stores", "pipelines", "app", "benchmarks")
MUST = {
    "lines of product code, benchmarks included": 20_000,
    "lines of tests": 10_000,
    "words of the README": 1_500,
    "words of all pages outside results": 20_000,
    "project files whose functions run in ingest": 25,
    "project files whose functions run in generate": 25,
    "project files whose functions run in evaluate": 25,
    "import cycles, hidden ones too": 0,
    "init on the default base, statistics known (s)": 10,
    "default tests, two cores (s)": 240,
}


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the countable figures of the code base.

    Args:
        arguments: `--init`: time `init` on the default base; `--tests`: time `make test`. Without
            them the seconds that size.json holds are kept.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--init", action="store_true")
    parser.add_argument("--tests", action="store_true")
    options = parser.parse_args(list(arguments))
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [p for p in ROOT.glob("docs/**/*.md") if RESULTS not in p.parents]
    found: dict[str, float] = {
        "lines of product code, benchmarks included": num_lines((*PACKAGES, "tools")),
        "lines of tests": num_lines(("tests",)),
        "words of the README": num_words([ROOT / "README.md"]),
        "words of all pages outside results": num_words(pages),
        **{
            f"project files whose functions run in {verb}": len(files)
            for verb, files in files_that_run().items()
        },
        "import cycles, hidden ones too": len(import_cycles(import_graph())),
    }
    path = RESULTS / "size.json"
    known = {one.figure: one.value for one in read_results(path)} if path.is_file() else {}
    timed = {
        "init on the default base, statistics known (s)": (options.init, seconds_of_init),
        "default tests, two cores (s)": (options.tests, seconds_of_tests),
    }
    for name, (is_wanted, seconds) in timed.items():
        if is_wanted:
            found[name] = round(seconds(), 1)
        elif isinstance(value := known.get(name), int | float):
            found[name] = value
    commands = {name: f"{COMMAND} --{name.split()[0]}" for name in timed}
    commands["default tests, two cores (s)"] = f"{COMMAND} --tests"
    return [at_most(n, value, MUST[n], commands.get(n, COMMAND)) for n, value in found.items()]


def num_lines(folders: Sequence[str]) -> int:
    """Return how many lines the Python files of some folders have."""
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    )


def num_words(pages: Sequence[Path]) -> int:
    """Return how many words some pages have."""
    return sum(len(page.read_text(encoding="utf-8").split()) for page in pages if page.is_file())


# Which files an act runs through


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
            found = {
                "ingest": _profiled(lambda: store.ingest("minerals", corpus, settings=SETTINGS))
            }
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

    with _profile(note):
        act()
    own = {f"{ROOT / package}/" for package in PACKAGES}
    paths = sorted(path for path in seen if any(path.startswith(folder) for folder in own))
    return [str(Path(path).relative_to(ROOT)) for path in paths if path != __file__]


@contextmanager
def _profile(note: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


# Who imports whom


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


# Seconds


def seconds_of_init() -> float:
    """Return how long `init` on the default base takes; a first one makes what it keeps."""
    from pipelines import init_store

    with tempfile.TemporaryDirectory() as temporary:
        init_store(Path(temporary) / "first").close()
        began = time.monotonic()
        init_store(Path(temporary) / "second").close()
        return time.monotonic() - began


def seconds_of_tests() -> float:
    """Return how long `make test` takes here."""
    began = time.monotonic()
    subprocess.run(["make", "test"], cwd=ROOT, check=True)
    return time.monotonic() - began

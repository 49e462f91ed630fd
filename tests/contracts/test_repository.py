"""What must stay true of every file of the repository."""

import re
import tomllib

import pytest

MAX_LINES = 500
GROWING = ("docs/LOG.md", "docs/results/", "README.md")
"""Records, which grow for as long as the project lives; the README's tree has a line a module."""

# Split, so that this file does not hold what it looks for.
FORBIDDEN = [
    r"/wor" r"k/(main|shared)\b",
    r"\.\./shar" r"ed\b",
    r"\bshar" r"ed/(design|style|anchors|data|hooks)\b",
    r"\.librar" r"y/",
    r"\bbefore-" r"stop\b",
    r"\b(helper|coding) " r"sessions?\b",
    r"\bsub-?" r"agents?\b",
    r"\bissue (no\. ?)?#?" r"\d+\b",
    r"\bissues " r"show\b",
]
UNFINISHED = r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|raise NotImplemented" r"Error"


def texts(root, tracked):
    for path in tracked:
        content = (root / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8")


def hits(pattern, root, tracked):
    wanted = re.compile(pattern, re.IGNORECASE)
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(root, tracked)
        for number, line in enumerate(text.splitlines(), start=1)
        if wanted.search(line)
    ]


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_file_speaks_of_how_it_was_written(pattern, root, tracked):
    assert hits(pattern, root, tracked) == []


def test_nothing_is_left_unfinished(root, tracked):
    code = [path for path in tracked if path.suffix == ".py"]
    assert hits(UNFINISHED, root, code) == []


def test_every_file_can_be_read_in_one_sitting(root, tracked):
    sizes = {str(path): text.count("\n") for path, text in texts(root, tracked)}
    long = {name: size for name, size in sizes.items() if size >= MAX_LINES}
    assert {name for name in long if not name.startswith(GROWING)} == set()


def test_the_package_says_whose_it_is_and_for_whom(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["authors"]
    assert project["keywords"]
    told = project["classifiers"]
    for kind in ("Development Status", "Intended Audience", "Programming Language :: Python"):
        assert [one for one in told if one.startswith(kind)], kind
    oldest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in told


def test_every_module_says_what_it_is(root, tracked):
    packages = ("peer_cl", "stores", "pipelines", "app", "benchmarks", "tools")
    modules = [path for path in tracked if path.suffix == ".py" and path.parts[0] in packages]
    short = [str(path) for path in modules if len((root / path).read_text().split("\n")[0]) < 20]
    assert modules
    assert short == []


def test_no_file_name_takes_a_grab_bag(tracked):
    bags = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [str(path) for path in tracked if path.stem in bags] == []


def test_nothing_is_ever_unpickled(root, tracked):
    pattern = r"\bimport pick" r"le\b|\bpick" r"le\.load|torch\.lo" r"ad\((?!.*weights_only=True)"
    code = [path for path in tracked if path.suffix == ".py"]
    assert hits(pattern, root, code) == []

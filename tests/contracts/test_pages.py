"""Pages: the generated ones are fresh, links resolve, and the commands they name exist."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from app import cli, cli_page
from stores import schema_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
RECORDS = ("CHANGELOG.md", "LOG.md")
"""They tell of commands that are gone."""
CURRENT = [p for p in PAGES if p.name not in RECORDS and "results" not in p.parts]


def read(page):
    return page.read_text(encoding="utf-8")


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(("page", "made"), [("cli", cli_page), ("schema", schema_page)])
def test_generated_pages_are_fresh(page, made):
    path = ROOT / "docs" / f"{page}.md"
    assert read(path) == made.render(), f"run python -m {made.__name__} docs/{page}.md"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", read(page), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_named_verbs_and_options_exist(page):
    verbs = get_command(cli.app).commands
    for line in commands(read(page), "peer-cl"):
        verb, *words = line
        if verb.startswith("-") or not verb.isascii() or verb.isupper():  # --help; VERB
            continue
        assert verb in verbs, f"peer-cl {verb}"
        known = {"--debug", "--help"}
        for parameter in verbs[verb].params:
            known |= {*parameter.opts, *parameter.secondary_opts}
        options = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
        assert options <= known, shlex.join(["peer-cl", *line])


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_named_make_targets_exist(page):
    targets = re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), re.MULTILINE)
    named = {line[0] for line in commands(read(page), "make") if line[0].islower()}
    assert named - {*targets} == set()


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_python_examples_import_public_names(page):
    for example in re.findall(r"```python\n(.*?)```", read(page), re.DOTALL):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module in ("peer_cl", "pipelines"):
                public = importlib.import_module(node.module).__all__
                assert [one.name for one in node.names if one.name not in public] == []


def commands(text, program):
    """Return the words after a program's name, of each command in a code block or in backticks."""
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = []
    for line in lines:
        head, _, rest = line.strip().removeprefix("$ ").partition(" ")
        if head == program and rest:
            found.append(shlex.split(rest, comments=True))
    return found

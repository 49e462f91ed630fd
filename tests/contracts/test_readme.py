"""The README's first screen, its tree and its tables."""

import ast
import importlib
import re

import pytest

from tools.readme import PACKAGES, PAGES, fill, modules


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_stand_on_the_first_screen(readme):
    screen = readme.splitlines()[:25]
    assert "make demo" in "\n".join(screen)
    assert "make test" in "\n".join(screen)


def test_every_module_is_in_the_tree(readme):
    listed = re.search(r"<!-- tree -->\n(.*?)<!-- /tree -->", readme, re.DOTALL)[1]
    names = {line.split()[0] for line in listed.splitlines() if line.strip("`")}
    paths = modules()
    assert {path.split("/")[0] for path in paths} == set(PACKAGES)
    for path in paths:
        assert path.rpartition("/")[2] in names or path.endswith("__init__.py")


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_parts_are_fresh(root, page):
    text = (root / page).read_text(encoding="utf-8")
    assert fill(text) == text, f"{page} is stale; run `make readme`"


def test_the_python_example_imports_public_names(readme):
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    taken = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
    assert taken
    for node in taken:
        public = importlib.import_module(node.module).__all__
        assert [alias.name for alias in node.names if alias.name not in public] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(root, page):
    path = root / page
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_named_make_target_exists(root, readme):
    targets = set(re.findall(r"^([a-z0-9-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    pages = [readme, *((root / page).read_text() for page in ("CONTRIBUTING.md", ".ci/run"))]
    named = {name for page in pages for name in re.findall(r"\bmake ([a-z0-9-]+)`", page)}
    assert named - targets == set()


def test_every_command_is_in_the_readme(root, readme):
    page = (root / "docs" / "cli.md").read_text()
    verbs = re.findall(r"^#+ `?(?:peer-cl )?([a-z]+)`?$", page, re.MULTILINE)
    assert len(verbs) > 10
    assert [verb for verb in verbs if f"`{verb}" not in readme] == []

import subprocess
import sys

from tools import readme


def test_the_tree_has_a_folder_before_its_files_and_files_before_folders():
    paths = [
        "stores/upgrades.py",
        "stores/migrations/__init__.py",
        "stores/migrations/env.py",
        "stores/__init__.py",
        "peer_cl/__init__.py",
    ]
    lines = readme.tree(paths).splitlines()
    names = [line.split()[0] for line in lines[: len(paths)]]
    assert names == ["peer_cl/", "stores/", "upgrades.py", "migrations/", "env.py"]
    assert lines[3].startswith("  migrations/ ")
    assert lines[4].startswith("    env.py ")
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_only_marked_parts_are_replaced():
    text = "before\n<!-- tree -->\nold\n<!-- /tree -->\nafter\n"
    filled = readme.fill(text)
    assert filled.startswith("before\n<!-- tree -->\n```text\npeer_cl/")
    assert filled.endswith("```\n<!-- /tree -->\nafter\n")
    assert readme.fill(filled) == filled


def test_a_result_that_is_not_there_keeps_its_place():
    for name in ("results:nothing", "markdown:nothing", "text:nothing:1-2"):
        text = f"<!-- {name} -->\nnot measured yet\n<!-- /{name} -->\n"
        assert readme.fill(text) == text


def test_a_page_of_markdown_is_taken_as_it_is():
    filled = readme.fill("<!-- markdown:stream-methods -->\n<!-- /markdown:stream-methods -->\n")
    page = readme.ROOT / "docs" / "results" / "stream-methods.md"
    assert filled.splitlines()[1:-1] == page.read_text(encoding="utf-8").splitlines()


def test_an_excerpt_is_what_its_file_says():
    name = "text:trace:1-2,4-4"
    filled = readme.fill(f"<!-- {name} -->\nold\n<!-- /{name} -->\n").splitlines()
    path = readme.ROOT / "docs" / "results" / "trace.txt"
    lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
    assert filled[1:-1] == ["```text", lines[0], lines[1], "[...]", lines[3], "```"]


def test_modules_are_listed_without_tests():
    done = subprocess.run(
        [sys.executable, "-m", "tools.readme", "--help"],
        cwd=readme.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--check" in done.stdout
    assert "tools/readme.py" in readme.modules()
    assert not any(path.startswith("tests/") for path in readme.modules())

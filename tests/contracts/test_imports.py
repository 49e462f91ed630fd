"""Who may import whom, and what an import costs."""

import ast
import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "lightning", "datasets", "faiss", "streamlit"]


def python(root, code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )


def test_the_import_contracts_hold(root):
    done = python(
        root, "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["peer_cl", "stores", "pipelines", "app", "benchmarks"])
def test_importing_a_package_loads_nothing_heavy(root, package):
    code = f"import sys, {package}; print([name for name in {HEAVY} if name in sys.modules])"
    done = python(root, code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def imported(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_the_model_needs_torch_and_transformers_alone(root, tracked):
    """safetensors and numpy come with transformers, filelock with torch."""
    brought = {"safetensors", "numpy", "filelock"}
    allowed = {"torch", "transformers", *brought, "peer_cl"} | sys.stdlib_module_names
    others = {
        f"{path}: {name}"
        for path in tracked
        if path.parts[0] == "peer_cl" and path.suffix == ".py"
        for name in imported((root / path).read_text())
        if name not in allowed
    }
    assert others == set()


def test_every_package_has_its_types_marked(root):
    for package in ("peer_cl", "stores", "pipelines", "app"):
        assert (root / package / "py.typed").exists()

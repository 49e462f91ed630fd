"""Who may import whom, without any cycle, and what an import loads."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["peer_cl", "stores", "pipelines", "app", "benchmarks"]
HEAVY = ["torch", "transformers", "lightning", "datasets", "faiss", "streamlit", "pandas"]


def test_the_import_contracts_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports() == 0, capsys.readouterr().out


def test_no_import_cycles_hidden_ones_included():
    """Grimp reads syntax trees: imports in functions and under TYPE_CHECKING count too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # CycleError names the modules


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_peer_cl_needs_torch_and_transformers_alone():
    """safetensors and numpy come with transformers; torchao is imported for int8 alone."""
    allowed = {"torch", "transformers", "safetensors", "numpy", "torchao", "peer_cl"}
    allowed |= set(sys.stdlib_module_names)
    others = [
        f"{path.name}: {name}"
        for path in (ROOT / "peer_cl").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if name.split(".")[0] not in allowed
    ]
    assert others == []


def test_nothing_is_unpickled():
    """No pickle, and torch.load (through Lightning's checkpoints) with weights_only=True alone."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    unsafe = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if "pickle" in imported(node) or is_unsafe_load(node)
    ]
    assert unsafe == []


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def is_unsafe_load(node):
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"):
        return False
    return "weights_only=True" not in [ast.unparse(keyword) for keyword in node.keywords]

"""What the package exports, and what importing it costs."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

import peer_cl

PUBLIC = {
    "Background",
    "Base",
    "BaseIdentity",
    "ExpertPool",
    "ModelStatus",
    "PeerCache",
    "PeerLayer",
    "PeerModel",
    "PoolShape",
    "Scores",
    "Segment",
    "Signature",
    "load_base",
    # the whole tree of errors
    "BaseMismatchError",
    "BusyError",
    "ChangedError",
    "CorpusError",
    "DamageError",
    "DomainNameError",
    "FrozenError",
    "InputError",
    "PeerError",
    "ShapeError",
    "StateError",
    "StoreFormatError",
    "StoreLockedError",
    "UnknownError",
    "UnsupportedError",
}


def modules_after(code):
    """Return the top-level modules that a fresh interpreter holds after some code."""
    report = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code", ["import peer_cl", "import peer_cl.errors", "dir(__import__('peer_cl'))"]
)
def test_importing_the_package_imports_nothing_heavy(code):
    heavy = {"torch", "transformers", "numpy", "safetensors"}
    assert not modules_after(code) & heavy


def test_the_whole_package_needs_torch_and_transformers_only():
    """Where peer_cl alone is installed, nothing of the rest of the project may be missed."""
    blocked = ("stores", "pipelines", "app", "lightning", "datasets", "sqlalchemy", "faiss")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None there: importing it fails
        "import importlib, pkgutil, peer_cl\n"
        "for module in pkgutil.iter_modules(peer_cl.__path__):\n"
        "    importlib.import_module(f'peer_cl.{module.name}')\n"
        "from peer_cl import *\n"
        "assert PeerModel is peer_cl.PeerModel\n"
    )
    assert {"torch", "transformers"} <= modules_after(code)


def test_the_public_names_are_pinned():
    assert set(peer_cl.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(peer_cl, name).__name__ == name


def test_the_version_is_the_installed_one_and_a_bare_checkout_has_none(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    assert peer_cl.__version__[0].isdigit()
    assert "__version__" in dir(peer_cl)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert peer_cl.__version__ == "0.0.0+not.installed"


def test_every_error_of_the_tree_is_public():
    kinds = [kind for kind in vars(peer_cl.errors).values() if isinstance(kind, type)]
    tree = {kind.__name__ for kind in kinds if issubclass(kind, peer_cl.PeerError)}
    assert tree == {name for name in PUBLIC if name.endswith("Error")}


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Peermodel'"):
        _ = peer_cl.Peermodel

import json
import signal
from types import SimpleNamespace

import pytest
from filled_store import filled_store

from app.cli import main


@pytest.fixture(autouse=True)
def no_store_in_the_environment(monkeypatch):
    monkeypatch.delenv("PEER_CL_STORE", raising=False)


@pytest.fixture
def folder(tmp_path):
    """A store with law at v2 and medicine at v1, filled without a model."""
    filled_store(tmp_path / "knowledge").close()
    return tmp_path / "knowledge"


@pytest.fixture
def peer_cl(capsys):
    """Run a verb as a person would, and return what it printed and its exit code."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words, store=None):
        code = main([*(["--store", str(store)] if store else []), *map(str, words)])
        out, err = capsys.readouterr()
        answer = json.loads(out) if out and "--json" in words else None
        return SimpleNamespace(code=code, out=out, err=err, json=answer)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def at(peer_cl, folder):
    """Run a verb on the filled store."""
    return lambda *words: peer_cl(*words, store=folder)

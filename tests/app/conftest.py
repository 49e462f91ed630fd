import json
from types import SimpleNamespace

import pytest
from filled_store import grow, new_store
from typer.testing import CliRunner

from app.cli import app


@pytest.fixture(autouse=True)
def no_store_in_the_environment(monkeypatch):
    monkeypatch.delenv("PEER_CL_STORE", raising=False)


@pytest.fixture
def folder(tmp_path):
    """A store with law at v2 and medicine at v1."""
    place = new_store(tmp_path / "knowledge")
    for domain in ("law", "medicine", "law"):
        grow(place, domain)
    return place


@pytest.fixture
def peer_cl():
    """Run a verb; with a folder, on the store there."""

    def run(*words, folder=None):
        at = ["--store", str(folder)] if folder is not None else []
        result = CliRunner().invoke(app, [*at, *map(str, words)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        is_json = "--json" in words and result.exit_code in (0, 1) and result.stdout
        return SimpleNamespace(
            code=result.exit_code,
            out=result.stdout,
            err=result.stderr,
            json=json.loads(result.stdout) if is_json else None,
        )

    return run

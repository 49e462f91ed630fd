"""Runs one page of the dashboard without a browser."""

import pytest
from filled_store import new_store
from large_store import fill_large_store
from streamlit.testing.v1 import AppTest


@pytest.fixture
def run_page(monkeypatch):
    """Run a page on a store: `run_page("overview", folder, domain="law")` (query parameters)."""

    def run(name, folder, **query):
        monkeypatch.setenv("PEER_CL_STORE", str(folder))
        monkeypatch.setattr("sys.argv", ["streamlit"])
        script = f"from app.dashboard.page_{name} import show\nshow()\n"
        at = AppTest.from_string(script, default_timeout=60)
        for key, value in query.items():
            at.query_params[key] = value
        return at.run()

    return run


@pytest.fixture
def empty_folder(tmp_path):
    return new_store(tmp_path / "knowledge")


@pytest.fixture(scope="session")
def large_folder(tmp_path_factory):
    """A store with 50 domains, 200 snapshots and ten evaluations; for reading alone."""
    return fill_large_store(tmp_path_factory.mktemp("large") / "knowledge", documents=1_000)

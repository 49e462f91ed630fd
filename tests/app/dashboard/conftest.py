"""Runs pages of the dashboard without a browser."""

import pytest
from streamlit.testing.v1 import AppTest
from tiny_base import background
from tiny_store import FACTS, SETTINGS, make_tiny_store

from pipelines import open_store
from pipelines.background import BackgroundSource

SCRIPT = "from app.dashboard.main import ORDER\nfrom app.dashboard.state import PAGES\n"


@pytest.fixture
def show(monkeypatch):
    """Run a page on a store: `show("domains", folder, domain="law")` (with query parameters)."""

    def run(path, folder, **query):
        monkeypatch.setenv("PEER_CL_STORE", str(folder))
        monkeypatch.setattr("sys.argv", ["streamlit"])
        at = AppTest.from_string(f"{SCRIPT}PAGES[{path!r}].draw()\n", default_timeout=60)
        for key, value in query.items():
            at.query_params[key] = value
        at.run()
        assert [one.value for one in at.exception] == []
        return at

    return run


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """A store on a tiny base that learned law, with facts, medicine, and houses, of which it knows
    facts alone; evaluated. To be read.
    """
    place = make_tiny_store(tmp_path_factory.mktemp("dashboard"), facts={"law": FACTS})
    with open_store(place) as store:
        store.ingest("houses", [], facts=FACTS, settings=SETTINGS)
        store.evaluate(background=[BackgroundSource("old books", "prose", background()[:3])])
    return place


@pytest.fixture(scope="session")
def report(evaluated):
    from pipelines.report import EvaluationReport

    with open_store(evaluated) as store:
        queries = store.registry.queries
        return EvaluationReport.from_json(queries.evaluation(queries.live().id).report)

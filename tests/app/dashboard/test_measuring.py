"""Having the store measured from the pages that lack an evaluation."""

import os

import pytest

from app.dashboard.measuring import MEASURE
from peer_cl.errors import StateError
from pipelines import open_store
from pipelines.jobs import start_evaluation
from stores import NewJob

PAGES = [
    ("overview", {}),
    ("retention", {}),
    ("domains", {"domain": "law", "part": "Cost"}),
]


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """A job's row is written as ever, and this test's process stands for the job's own."""
    monkeypatch.setattr("pipelines.jobs._spawn", lambda registry, job: os.getpid())


def jobs(folder):
    with open_store(folder) as store:
        return store.registry.jobs.listed()


def press(at):
    return next(button for button in at.button if button.label == MEASURE).click().run()


def labels(at):
    return [button.label for button in at.button]


def test_without_an_evaluation_each_page_starts_one_of_this_store(run_page, folder):
    for name, query in PAGES:
        at = run_page(name, folder, **query)
        assert MEASURE in labels(at), name
        assert "`" not in "".join(box.value for box in (*at.warning, *at.info))
    at = press(run_page("overview", folder))
    assert not at.exception
    (job,) = jobs(folder)
    assert (job.kind, job.domain, job.request) == ("evaluate", None, {"background": True})
    for name, query in PAGES:
        at = run_page(name, folder, **query)
        assert MEASURE not in labels(at), "it is being measured"
        assert any("A job measures it" in info.value for info in at.info), name


@pytest.mark.parametrize(("name", "query"), PAGES)
def test_a_second_click_starts_no_second_job(run_page, folder, name, query):
    first, second = run_page(name, folder, **query), run_page(name, folder, **query)
    press(first)
    at = press(second)
    assert not at.exception
    assert "does the same already" in at.error[0].value
    assert len(jobs(folder)) == 1


def test_an_ingest_that_was_not_measured_can_be_when_it_is_done(run_page, folder):
    with open_store(folder) as store:
        request = {"corpus": {"path": "/data/law.jsonl"}, "facts": None, "evaluate": False}
        new = NewJob(kind="ingest", domain="law", request=request, who="ann", why="")
        done = store.registry.jobs.add(new)
        live = store.registry.live().id
        store.registry.jobs.end(done.id, "done", note="law is at v2", snapshot_id=live)
    at = press(run_page("ingest", folder, job=done.id))
    assert not at.exception
    assert sorted(job.kind for job in jobs(folder)) == ["evaluate", "ingest"]
    with open_store(folder) as store:
        for job in store.registry.jobs.listed(only_open=True):
            store.registry.jobs.end(job.id, "done", snapshot_id=live)
        store.registry.put_evaluation(live, {"domains": ["law"]})
    assert MEASURE not in labels(run_page("ingest", folder, job=done.id))


def test_what_is_disabled_can_be_measured_and_what_is_out_is_not_offered(run_page, folder):
    with open_store(folder) as store:
        store.disable("law")
        at = run_page("domains", folder, domain="law", part="Cost")
        assert MEASURE in labels(at)
        assert at.info[0].value == "No evaluation measured this domain."
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law", part="Cost")
    assert MEASURE not in labels(at)
    assert any(info.value.endswith(", and only what is live is.") for info in at.info)


def test_an_empty_store_starts_no_evaluation(empty_folder):
    with open_store(empty_folder) as store, pytest.raises(StateError, match="no domain is live"):
        start_evaluation(store)

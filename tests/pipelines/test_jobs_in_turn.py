"""A job whose turn has come while the registry is busy, and one that was purged meanwhile."""

import sqlite3
from contextlib import closing

import pytest
from tiny_base import make_tiny_store

from pipelines import open_store, run_job
from pipelines.run_job import attempt
from pipelines.telling import Teller
from stores import NewJob
from stores.job_book import JobBook


@pytest.fixture
def store(tmp_path):
    with open_store(make_tiny_store(tmp_path, domains=("law",))) as opened:
        yield opened


def test_a_job_whose_turn_has_come_waits_for_a_busy_registry(store, monkeypatch):
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    job = store.registry.jobs.add(
        NewJob(kind="evaluate", domain=None, request={"background": False}, who="ann")
    )
    tries, start = [], JobBook.start
    with closing(sqlite3.connect(store.registry.layout.database, isolation_level=None)) as other:

        def started(self, job_id):
            other.execute("ROLLBACK" if tries else "BEGIN IMMEDIATE")
            tries.append(job_id)
            return start(self, job_id)

        monkeypatch.setattr(JobBook, "start", started)
        monkeypatch.setattr(run_job, "evaluate", lambda *_: run_job.Outcome("done", "measured"))
        with Teller(store.registry, job.id) as teller:
            outcome = attempt(store, job, teller)
    assert (outcome.state, outcome.note, len(tries)) == ("done", "measured", 2)


def test_a_job_whose_domain_was_purged_while_it_waited_is_cancelled(store):
    store.roll_back("law", out=True)
    job = store.registry.jobs.add(
        NewJob(kind="ingest", domain="law", request={"corpus": {"path": "/data"}}, who="ann")
    )
    store.purge("law")
    outcome = attempt(store, job, Teller(store.registry, job.id))
    assert outcome.state == run_job.CANCELLED
    assert outcome.error is None

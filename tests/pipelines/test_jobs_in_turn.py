"""A job whose turn has come while the registry is busy, and one that was purged meanwhile."""

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest
from tiny_base import make_tiny_store, write_corpus

from pipelines import jobs, open_store, run_job
from pipelines.jobs import start_ingest
from pipelines.run_job import attempt
from pipelines.telling import JobCancelled, Teller
from pipelines.uploads import Upload, describe_source
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
    with (
        open_store(store.registry.folder) as mine,
        closing(sqlite3.connect(mine.registry.layout.database, isolation_level=None)) as other,
    ):

        def started(self, job_id):
            other.execute("ROLLBACK" if tries else "BEGIN IMMEDIATE")
            tries.append(job_id)
            return start(self, job_id)

        monkeypatch.setattr(JobBook, "start", started)
        monkeypatch.setattr(run_job, "evaluate", lambda *_: run_job.Outcome("done", "measured"))
        with Teller(mine.registry, job.id) as teller:
            outcome = attempt(mine, job, teller)
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


def test_an_evaluation_takes_its_turn_beside_another_writer(store):
    job = store.registry.jobs.add(
        NewJob(kind="evaluate", domain=None, request={"background": False}, who="ann")
    )
    teller = Teller(store.registry, job.id)
    teller.stop()  # to wait would be to end here
    with open_store(store.registry.folder) as other, other.registry.writing("bea"):
        with run_job.turn(store, job, teller):
            assert other.registry.live() == store.registry.live()
        with pytest.raises(JobCancelled), run_job.turn(store, replace(job, kind="erase"), teller):
            pass


def test_a_job_without_news_says_now_and_then_that_it_is_alive(store, monkeypatch):
    job = store.registry.jobs.add(
        NewJob(kind="evaluate", domain=None, request={"background": False}, who="ann")
    )
    told, tell = [], JobBook.tell
    is_alive = threading.Event()

    def heard(self, job_id, news):
        told.append(news)
        if told.count(None) == 2:
            is_alive.set()
        return tell(self, job_id, news)

    monkeypatch.setattr(JobBook, "tell", heard)
    with Teller(store.registry, job.id, every=0.001) as teller:
        teller("training", 1, 2, "")
        assert is_alive.wait(60)
    assert [news for news in told if news is not None][-1].what == "training"
    assert told[-1] is None, "its end is no news"


def test_a_jobs_process_outlives_the_terminal_that_started_it(store, monkeypatch, tmp_path):
    """It is the first of a session of its own, which no signal of ours reaches."""
    started = []
    popen = jobs.subprocess.Popen

    def kept(*command, **options):
        started.append(popen(*command, **options))
        return started[0]

    monkeypatch.setattr(jobs.subprocess, "Popen", kept)
    job = start_ingest(store, "law", write_corpus(tmp_path / "law.jsonl", "law"), evaluate=False)
    (process,) = started
    try:
        assert process.pid == job.pid
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
    finally:
        process.kill()
        process.wait()


def test_an_upload_that_a_new_job_staged_meanwhile_stays(store, monkeypatch):
    """On PostgreSQL nothing keeps a job from being written down between a look and a removal."""
    layout, upload = store.registry.layout, Upload("notes.txt", b"A text.")
    request = {"corpus": describe_source(upload, layout), "facts": None}
    old, new = (NewJob(kind="ingest", domain="law", request=request, who="ann") for _ in range(2))
    job = store.registry.jobs.end(store.registry.jobs.add(old).id, "done")
    upload.stage(layout)
    needed, looks = JobBook.needed_uploads, []

    def looked(self):
        found = needed(self)
        if not looks:
            store.registry.jobs.add(new)
            upload.stage(layout)
        looks.append(found)
        return found

    monkeypatch.setattr(JobBook, "needed_uploads", looked)
    jobs.drop_uploads(store.registry, job)
    assert looks == [set(), {upload.path(layout).name}]
    assert layout.job_files() == [upload.path(layout)]
    assert upload.path(layout).read_bytes() == b"A text."

"""Open jobs: who is believed to be alive, and what a purge beside them leaves alone."""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from peer_cl.errors import StateError
from stores import NewJob, leases, purging
from stores.database import sqlite_database
from stores.leases import TTL_SECONDS
from stores.records import JobProgress


def new_job(**request):
    return NewJob(kind="ingest", domain="law", request={"corpus": {}} | request, who="ann", why="")


@pytest.fixture
def open_beside_retired(registry, make):
    """A domain of two versions, the newer retired, and an open job of it with upload and log."""
    make.grow(registry, "law")
    make.grow(registry, "law")
    upload = registry.layout.upload("a" * 64, ".txt")
    upload.write_text("kept", encoding="utf-8")
    job = registry.jobs.add(new_job(corpus={"upload": upload.name, "name": "notes.txt"}))
    registry.jobs.assign(job.id, os.getpid())
    log = registry.layout.job_log(job.id)
    log.write_text("so far", encoding="utf-8")
    with registry.writing("ann"):
        registry.roll_back_domain("law", "v1", "ann")
    return job, upload, log


def test_where_no_birth_is_told_a_job_lives_by_its_heartbeat(registry, change, monkeypatch):
    job = registry.jobs.add(new_job())
    registry.jobs.assign(job.id, os.getpid())
    registry.jobs.start(job.id)
    born = registry.jobs.find(job.id)
    assert born.state == "running"
    monkeypatch.setattr(leases, "process_birth", lambda pid: "")
    assert registry.jobs.find(job.id).state == "running", "of another user, and heard of just now"
    change(job, born="", heartbeat=time.time() - TTL_SECONDS - 1)
    assert registry.jobs.find(job.id).state == "lost", "its number may be another process's by now"
    change(job, heartbeat=time.time())
    assert registry.jobs.find(job.id).state == "running"
    monkeypatch.setattr(leases, "process_birth", lambda pid: None)
    assert registry.jobs.find(job.id).state == "lost"


def test_every_word_of_a_job_is_a_sign_of_life(registry, change):
    job = registry.jobs.add(new_job())
    registry.jobs.assign(job.id, os.getpid())
    registry.jobs.start(job.id)
    silent = time.time() - TTL_SECONDS - 1
    change(job, host="another machine", heartbeat=silent)
    assert registry.jobs.find(job.id).state == "lost"
    registry.jobs.tell(job.id, JobProgress(what="training", done=1, total=2))
    assert registry.jobs.find(job.id).state == "running"


def test_a_purge_of_what_is_retired_keeps_an_open_jobs_files(registry, open_beside_retired):
    job, upload, log = open_beside_retired
    with registry.writing("ann"):
        registry.purge("law", "ann", retired=True)
    assert upload.exists()
    assert log.exists()
    assert registry.jobs.find(job.id).request


def test_a_job_that_ends_during_a_purge_is_no_trace_of_it(
    registry, open_beside_retired, monkeypatch
):
    job, _, _ = open_beside_retired
    prove = purging._prove

    def ended_before(*told):
        registry.jobs.end(job.id, "done")
        prove(*told)

    monkeypatch.setattr(purging, "_prove", ended_before)
    with registry.writing("ann"):
        registry.purge("law", "ann", retired=True)
    assert registry.jobs.find(job.id).state == "done"
    assert registry.jobs.find(job.id).request, "it is of what stays"


def test_a_file_that_cannot_be_rewritten_is_told_and_done_again(registry, make, monkeypatch):
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    make.grow(registry, "law")
    with closing(sqlite_database(registry.layout.database)) as database:
        with closing(sqlite3.connect(registry.layout.database)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateError, match=r"is not rewritten yet .*locked.* do the same"):
                database.compact()
            other.execute("ROLLBACK")
        database.compact()


def test_a_reader_that_keeps_old_pages_alive_is_told(registry, make, monkeypatch):
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    make.grow(registry, "law")
    with closing(sqlite_database(registry.layout.database)) as database:
        with closing(sqlite3.connect(registry.layout.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM domains").fetchone()
            with pytest.raises(StateError, match=r"keeps old pages .* alive; close all readers"):
                database.compact()
            reader.execute("ROLLBACK")
        database.compact()

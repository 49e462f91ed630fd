"""`peer-cl jobs` and `peer-cl cancel`, on jobs whose process is this one or is gone."""

import inspect
import os
import re
import time

import pytest
from filled_store import portrait

from app import learning, working
from app.dashboard import job_view
from pipelines.callbacks import CHECKPOINT_EVERY
from stores import NewJob, Registry
from stores.records import JobProgress


@pytest.fixture
def running(folder):
    """A job that runs, half done."""
    with Registry.open(folder) as registry:
        job = registry.jobs.add(
            NewJob(
                kind="ingest",
                domain="minerals",
                request={"corpus": {"path": "/data/m.jsonl"}},
                who="bob",
            )
        )
        registry.jobs.assign(job.id, os.getpid())
        registry.jobs.start(job.id)
        registry.jobs.tell(
            job.id,
            JobProgress(
                what="training",
                done=50,
                total=100,
                since=time.time() - 10,
                losses=((1, 3.5), (50, 2.5)),
            ),
        )
        yield job
        if registry.jobs.find(job.id).is_open:
            registry.jobs.end(job.id, "failed", error="no corpus at /data/m.jsonl")


def test_no_job_yet(peer_cl, folder):
    result = peer_cl("jobs", folder=folder)
    assert result.code == 0
    assert "none yet" in result.out
    assert peer_cl("jobs", "--json", folder=folder).json == []


def test_jobs_are_listed_with_how_far_they_are(peer_cl, folder, running):
    out = peer_cl("jobs", folder=folder).out
    for told in (running.id[:12], "minerals", "running", "training 50 of 100, about 10 s left"):
        assert told in out
    (told,) = peer_cl("jobs", "--json", folder=folder).json
    assert told["id"] == running.id
    assert told["losses"] == [[1, 3.5], [50, 2.5]]


def test_jobs_that_are_not_shown_are_counted(peer_cl, folder, running):
    with Registry.open(folder) as registry:
        registry.jobs.add(
            NewJob(kind="evaluate", domain=None, request={"background": True}, who="bob")
        )
    told = peer_cl("jobs", "--limit", "1", folder=folder).out
    assert told.endswith("1 more; --limit shows more of them\n")
    assert "--limit" not in peer_cl("jobs", folder=folder).out


def test_a_failed_job_says_why(peer_cl, folder, running):
    with Registry.open(folder) as registry:
        registry.jobs.end(running.id, "failed", error="no corpus at /data/m.jsonl")
    out = peer_cl("jobs", folder=folder).out
    assert "failed" in out
    assert "no corpus at /data/m.jsonl" in out


def test_a_job_is_asked_to_stop(peer_cl, folder, running):
    before = portrait(folder)
    result = peer_cl("cancel", running.id[:8], folder=folder)
    assert result.code == 0
    assert running.id[:12] in result.out
    with Registry.open(folder) as registry:
        assert registry.jobs.find(running.id).is_cancel_asked
    assert portrait(folder) == before


def test_what_cannot_be_cancelled_is_one_line(peer_cl, folder, running):
    with Registry.open(folder) as registry:
        registry.jobs.end(running.id, "done")
    for job, told in ((running.id, "it is done"), ("abcdef", "no job 'abcdef'"), ("", "no job ''")):
        result = peer_cl("cancel", job, folder=folder)
        assert result.code == 2
        assert result.err.startswith("error: ")
        assert told in result.err
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("module", [learning, working, job_view])
def test_how_often_a_run_is_kept_is_told_as_it_is(module):
    told = re.findall(r"every (\d+) steps", inspect.getsource(module))
    assert told == [str(CHECKPOINT_EVERY)]

"""Jobs as real processes, on a tiny base: they end, fail, wait, are cancelled and killed."""

import errno
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from filled_store import new_store
from tiny_base import SUBJECTS, background, make_tiny_base, make_tiny_store, write_corpus

from peer_cl import PoolShape
from peer_cl.errors import (
    CorpusError,
    DomainNameError,
    FrozenError,
    InputError,
    StateError,
    UnknownError,
    UnsupportedError,
)
from pipelines import TrainingSettings, init_store, jobs, run_job
from pipelines.jobs import start_again, start_erasure, start_ingest
from pipelines.progress import LossNote
from pipelines.run_job import read_settings
from pipelines.store import Store, open_store
from pipelines.telling import JobCancelled, Teller
from pipelines.uploads import Upload, describe_source
from stores import NewJob, Registry
from stores.job_book import JobBook
from stores.processes import process_birth

SHAPE = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)
QUICK = TrainingSettings(shape=SHAPE, text_passes=1.0, least_steps=1)
LONG = TrainingSettings(shape=SHAPE, text_passes=300.0, tokens_per_step=32)
"""Thousands of steps: it is still at it when a test stops it."""
PATIENCE_SECONDS = 90
NOBODY = 2**31 - 1
"""No process has so high an id."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("jobs"), domains=("law",))


@pytest.fixture
def store(store):
    yield store
    for job in store.registry.jobs.listed(only_open=True):
        os.kill(job.pid, signal.SIGKILL)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "medicine.jsonl", "medicine")


def until(store, job, reached):
    """Return a job as soon as something is true of it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = store.registry.jobs.find(job.id)
        if reached(found):
            return found
        assert found.is_open, f"{found.state}: {found.error}"
        time.sleep(0.05)
    raise AssertionError(f"it is still {found.state}, at {found.what} {found.done}")


def ended(store, job):
    """Return a job that has ended, once its process is gone too: it cleans up at its very end."""
    found = until(store, job, lambda found: not found.is_open)
    end = time.monotonic() + PATIENCE_SECONDS
    while found.pid is not None and process_birth(found.pid) is not None:
        assert time.monotonic() < end, f"process {found.pid} does not end"
        time.sleep(0.05)
    return found


def is_training(job):
    return job.what == "training" and job.done > 60  # behind its first checkpoint


def test_an_ingest_goes_on_by_itself_and_tells_how_it_went(store, corpus):
    job = start_ingest(store, "medicine", corpus, settings=QUICK, why="asked for", evaluate=False)
    assert (job.state, job.kind, job.domain, job.who) == ("waiting", "ingest", "medicine", "ann")
    done = ended(store, job)
    assert (done.state, done.error) == ("done", None)
    assert done.note == "medicine is at v1"
    live = store.registry.live()
    assert done.snapshot_id == live.id
    assert live.state("medicine").label == "v1"
    assert done.losses[-1][0] > done.losses[0][0] > 0
    assert 0 < done.losses[-1][1] < 10
    event = store.registry.history(1)[0]
    assert (event.action, event.who, event.why) == ("ingest", "ann", "asked for")
    assert store.registry.layout.job_files() == []
    text = " ".join(SUBJECTS["medicine"].split()[:3])
    assert text not in str(done), "no word of a document stands in a job"


@pytest.mark.slow
def test_an_upload_is_learned_under_its_own_name_and_then_removed(store, corpus):
    upload = Upload("C:\\notes\\pills.jsonl", corpus.read_bytes())
    job = start_ingest(store, "medicine", upload, settings=QUICK, evaluate=False)
    staged = store.registry.layout.upload(upload.sha256, ".jsonl")
    assert staged.read_bytes() == upload.data
    assert ended(store, job).state == "done"
    assert not staged.exists()
    found = store.registry.documents("medicine")
    assert found[0].source == "pills.jsonl:1"
    assert found[0].title == "pills, line 1"


@pytest.mark.slow
def test_an_evaluation_follows_where_it_is_asked_for(store, corpus):
    job = start_ingest(store, "medicine", corpus, settings=QUICK, background=False)
    done = ended(store, job)
    assert (done.state, done.error) == ("done", None)
    report = store.registry.evaluation(done.snapshot_id)
    assert report["domains"] == ["law", "medicine"]


@pytest.mark.parametrize("how", ["asked", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_a_cancelled_ingest_changes_nothing_and_goes_on_later(store, corpus, how):
    before = store.registry.live()
    upload = Upload("medicine.jsonl", corpus.read_bytes())
    job = start_ingest(store, "medicine", upload, settings=LONG, evaluate=False)
    running = until(store, job, is_training)
    assert running.speed > 0
    assert running.seconds_left > 0
    if how == "asked":
        assert store.registry.jobs.ask_cancel(job.id).is_cancel_asked
    else:
        os.kill(running.pid, signal.SIGTERM)
    stopped = ended(store, job)
    assert (stopped.state, stopped.error) == ("cancelled", None)
    assert store.registry.live() == before
    assert len(store.registry.layout.checkpoints()) == 1
    assert store.registry.layout.job_files() == [], "an upload is not kept for a cancelled job"
    store.freeze("law")
    store.unfreeze("law")
    with pytest.raises(StateError, match=r"medicine.jsonl is not kept any more; upload it again"):
        start_again(store, job.id)
    second = start_ingest(store, "medicine", upload, settings=LONG, evaluate=False)
    going_on = until(store, second, lambda found: found.what == "training" and found.losses)
    assert going_on.done_at_first > 50, "it goes on from the checkpoint"


def test_a_killed_job_is_lost_and_the_store_is_as_it_was(store, corpus):
    before = store.registry.live()
    job = start_ingest(store, "medicine", corpus, settings=LONG, evaluate=False)
    os.kill(until(store, job, is_training).pid, signal.SIGKILL)
    assert until(store, job, lambda found: found.state == "lost").error is None
    assert store.registry.live() == before
    store.freeze("law")  # the lease is free at once
    assert "job lost" in [item.kind for item in store.registry.doctor()]
    again = start_again(store, job.id)
    going_on = until(store, again, lambda found: found.what == "training" and found.losses)
    assert going_on.done_at_first > 50


@pytest.mark.slow
def test_a_second_job_waits_for_the_first_and_can_be_cancelled_meanwhile(store, corpus, tmp_path):
    first = start_ingest(store, "medicine", corpus, settings=LONG, evaluate=False)
    until(store, first, is_training)
    minerals = write_corpus(tmp_path / "minerals.jsonl", "minerals")
    second = start_ingest(store, "minerals", minerals, settings=QUICK, evaluate=False)
    third = start_ingest(store, "minerals", minerals, settings=LONG, evaluate=False)
    waiting = until(store, second, lambda found: found.note)
    assert (waiting.state, waiting.note) == ("waiting", f"job {first.id[:12]} comes first")
    until(store, third, lambda found: found.note)
    store.registry.jobs.ask_cancel(third.id)
    assert ended(store, third).state == "cancelled"
    store.registry.jobs.ask_cancel(first.id)
    assert ended(store, first).state == "cancelled"
    assert ended(store, second).state == "done"
    assert [state.domain for state in store.registry.live().domains] == ["law", "minerals"]


@pytest.mark.slow
def test_a_job_waits_for_another_writer(store, corpus):
    with store.registry.writing("bob"):
        job = start_ingest(store, "medicine", corpus, settings=QUICK, evaluate=False)
        waiting = until(store, job, lambda found: found.note)
        assert "being written by bob" in waiting.note
    assert ended(store, job).state == "done"


def test_what_goes_wrong_is_one_line(store, corpus):
    with corpus.open("a", encoding="utf-8") as file:
        file.write('{"text": \n')
    upload = Upload("pills.jsonl", corpus.read_bytes())
    failed = ended(store, start_ingest(store, "medicine", upload, settings=QUICK))
    assert failed.state == "failed"
    assert failed.error.startswith("pills.jsonl:41 is no JSON")
    assert "\n" not in failed.error
    assert failed.snapshot_id is None
    assert upload.path(store.registry.layout).exists(), "kept, so that it may be started again"
    job = start_ingest(store, "medicine", upload, settings=QUICK, on_bad_row="skip", evaluate=False)
    done = ended(store, job)
    assert (done.state, done.note) == ("done", "medicine is at v1; 1 malformed row skipped")
    assert not upload.path(store.registry.layout).exists()


@pytest.mark.slow
def test_a_fault_of_ours_is_told_with_where_to_look(store, corpus):
    job = store.registry.jobs.add(
        NewJob(kind="ingest", domain="law", request={"corpus": {"path": "/"}}, who="ann")
    )
    failed = ended(store, start_again(store, _end(store, job).id))
    log = store.registry.layout.job_log(failed.id)
    assert failed.error == f"KeyError: 'on_bad_row' (a fault of peer-cl; {log} shows where)"
    assert "Traceback" in log.read_text(encoding="utf-8")


def _end(store, job):
    return store.registry.jobs.end(job.id, "failed", error="an older one")


def test_what_can_be_told_at_once_starts_no_process(store, corpus, tmp_path):
    store.freeze("law")
    for error, domain, source in (
        (FrozenError, "law", corpus),
        (DomainNameError, "../law", corpus),
        (CorpusError, "medicine", tmp_path / "nowhere"),
    ):
        with pytest.raises(error):
            start_ingest(store, domain, source)
    assert store.registry.jobs.listed() == ()


def test_what_is_asked_for_twice_is_started_once(store, corpus, monkeypatch):
    child = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(jobs, "_spawn", lambda registry, job: child.pid)
    first = start_ingest(store, "medicine", corpus, settings=QUICK)
    with pytest.raises(StateError, match=f"job {first.id[:12]} does the same already"):
        start_ingest(store, "medicine", corpus, settings=QUICK)
    start_ingest(store, "medicine", corpus, settings=LONG)
    assert len(store.registry.jobs.listed()) == 2
    child.kill()
    child.wait()
    again = start_ingest(store, "medicine", corpus, settings=QUICK)
    assert again.id != first.id, "a job that is lost does nothing any more"


def test_only_what_did_not_end_well_is_started_again(store, corpus):
    done = ended(store, start_ingest(store, "medicine", corpus, settings=QUICK, evaluate=False))
    with pytest.raises(StateError, match="is done; only one that did not end well"):
        start_again(store, done.id)


def test_what_was_learned_but_not_measured_is_only_measured_again(store, corpus, monkeypatch):
    seen = []

    def evaluate(self, progress, **_):
        seen.append(self.registry.jobs.find(job.id).snapshot_id)
        raise StateError("the base is gone")

    upload = Upload("medicine.jsonl", corpus.read_bytes())
    monkeypatch.setattr(jobs, "_spawn", lambda registry, job: NOBODY)
    job = start_ingest(store, "medicine", upload, settings=QUICK, background=False)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "evaluate", evaluate)
        run_job.main([str(store.registry.folder), job.id])
    failed = store.registry.jobs.find(job.id)
    live = store.registry.live().id
    assert seen == [live], "it is written down before the evaluation begins"
    assert (failed.state, failed.snapshot_id, failed.is_unmeasured) == ("failed", live, True)
    assert not upload.path(store.registry.layout).exists(), "nobody is to read it again"
    again = start_again(store, job.id)
    assert (again.kind, again.domain, again.request) == ("evaluate", None, {"background": False})
    store.registry.jobs.end(again.id, "cancelled")


def test_settings_come_back_as_they_were(store):
    from dataclasses import asdict

    assert read_settings(asdict(LONG)) == LONG
    assert read_settings(None) is None


def test_a_teller_writes_now_and_then_and_hears_the_wish_to_stop(store):
    job = store.registry.jobs.add(
        NewJob(kind="evaluate", domain=None, request={"background": False}, who="ann")
    )
    store.registry.jobs.assign(job.id, os.getpid())
    with Teller(store.registry, job.id, every=0.01) as teller:
        teller("training", 10, 2000, LossNote(3.0))
        for step in range(11, 1001):
            teller("training", step, 2000, LossNote(3.0 - step / 1000))
        store.registry.jobs.ask_cancel(job.id)
        with pytest.raises(JobCancelled):
            teller.wait(PATIENCE_SECONDS)
        with pytest.raises(JobCancelled):
            teller("training", 1001, 2000, "")
    told = store.registry.jobs.find(job.id)
    assert (told.what, told.done, told.done_at_first) == ("training", 1000, 10)
    assert told.note == "weighted loss 2.000"
    assert 200 <= len(told.losses) <= 401, "a long run's curve stays short"
    assert told.losses[-1][0] == 1000
    store.registry.jobs.end(job.id, "cancelled")


@pytest.mark.parametrize(
    ("domain", "state", "is_kept"),
    [("two", "done", True), ("one", "done", False), ("one", "cancelled", True)],
)
def test_an_upload_stays_for_a_failed_job_until_another_has_learned_it(
    tmp_path, domain, state, is_kept
):
    upload = Upload("notes.txt", b"A text.")
    with Registry.open(new_store(tmp_path / "knowledge")) as registry:
        upload.stage(registry.layout)
        request = {"corpus": describe_source(upload, registry.layout), "facts": None}
        ended = []
        for name, how in (("one", "failed"), (domain, state)):
            job = registry.jobs.add(NewJob(kind="ingest", domain=name, request=request, who="ann"))
            ended.append(registry.jobs.end(job.id, how, error="no" if how == "failed" else None))
        jobs.drop_uploads(registry, ended[1])
        assert upload.path(registry.layout).exists() == is_kept


def test_a_job_whose_process_could_not_be_started_is_started_again_after_a_repair(
    tmp_path, monkeypatch
):
    upload = Upload("notes.txt", b"A text.")

    def fails(registry, job):
        raise OSError(12, "Cannot allocate memory")

    with open_store(new_store(tmp_path / "knowledge")) as store:
        monkeypatch.setattr(jobs, "_spawn", fails)
        with pytest.raises(OSError, match="allocate memory"):
            start_ingest(store, "law", upload)
        (failed,) = store.registry.jobs.listed()
        assert failed.state == "failed"
        store.registry.doctor(repair=True)
        assert upload.path(store.registry.layout).exists()
        monkeypatch.setattr(jobs, "_spawn", lambda registry, job: NOBODY)
        assert start_again(store, failed.id).request == failed.request


# --- erasing -------------------------------------------------------------------------------------


def test_a_document_is_trained_away_by_a_job(store):
    first, second = store.registry.documents("law", split="train")[:2]
    job = start_erasure(
        store, "law", [first.document_id[:8], second.document_id], why="asked to", evaluate=False
    )
    assert (job.kind, job.domain, job.who) == ("erase", "law", "ann")
    assert job.request["documents"] == [first.document_id, second.document_id]
    done = ended(store, job)
    assert (done.state, done.error) == ("done", None)
    assert done.note == "law is at v2, as if it had never seen the documents"
    live = store.registry.live()
    assert (done.snapshot_id, live.state("law").label) == (live.id, "v2")
    assert {first.document_id, second.document_id}.isdisjoint(store.registry.known_documents("law"))
    event = store.registry.history(1)[0]
    assert (event.action, event.who, event.why) == ("erase", "ann", "asked to")
    with pytest.raises(StateError, match="is done; only one that did not end well"):
        start_again(store, done.id)
    failed = store.registry.jobs.add(
        NewJob(kind="erase", domain="law", request=job.request, who="ann")
    )
    again = ended(store, start_again(store, _end(store, failed).id))
    assert again.state == "failed"
    assert again.error.startswith("the live version of 'law' holds no document")
    assert store.registry.live().id == live.id
    store.purge("law", retired=True)
    assert [found.request for found in store.registry.jobs.listed()] == [{}, {}, {}]


def test_a_job_learns_what_was_erased_only_when_it_is_told(store, monkeypatch):
    registry, (document, *_) = store.registry, store.registry.documents("law", split="train")
    corpus = Upload("law.txt", registry.document_text(document).encode())
    store.erase_exact("law", [document.document_id])
    monkeypatch.setattr(jobs, "_spawn", lambda registry, job: NOBODY)
    asked = {"settings": QUICK, "evaluate": False}
    first = start_ingest(store, "law", corpus, **asked)
    with Teller(registry, first.id) as teller:
        left_out = run_job.attempt(store, first, teller)
    assert left_out.state == "failed"
    assert "is left out (1 document)" in left_out.error
    registry.jobs.end(first.id, left_out.state)
    second = start_ingest(store, "law", corpus, learn_erased=True, **asked)
    with Teller(registry, second.id) as teller:
        assert run_job.attempt(store, second, teller).state == "done"
    registry.jobs.end(second.id, "done")
    assert document.document_id in registry.known_documents("law")


def test_a_cancelled_erasure_changes_nothing(store, monkeypatch):
    before = store.registry.live()
    (document,) = store.registry.documents("law", split="train")[:1]
    monkeypatch.setattr(jobs, "_spawn", lambda registry, job: NOBODY)
    job = start_erasure(store, "law", [document.document_id], background=False)

    def erase(self, *_, **__):
        raise JobCancelled

    with monkeypatch.context() as patched:
        patched.setattr(Store, "erase_exact", erase)
        run_job.main([str(store.registry.folder), job.id])
    found = store.registry.jobs.find(job.id)
    assert (found.state, found.note) == ("cancelled", "the store is as it was")
    assert store.registry.live() == before


def test_what_was_erased_but_not_measured_is_only_measured_again(store, monkeypatch):
    def evaluate(self, progress, **_):
        raise JobCancelled if is_cancelled else StateError("the base is gone")

    documents = store.registry.documents("law", split="train")
    monkeypatch.setattr(jobs, "_spawn", lambda registry, job: NOBODY)
    for is_cancelled, document in ((False, documents[0]), (True, documents[1])):
        job = start_erasure(store, "law", [document.document_id], background=False)
        with monkeypatch.context() as patched:
            patched.setattr(Store, "evaluate", evaluate)
            run_job.main([str(store.registry.folder), job.id])
        found, live = store.registry.jobs.find(job.id), store.registry.live()
        assert document.document_id not in store.registry.known_documents("law")
        assert found.snapshot_id == live.id
        if is_cancelled:
            assert found.state == "done"
            assert found.note.endswith("the document; its evaluation was cancelled")
        else:
            assert (found.state, found.is_unmeasured) == ("failed", True)
            assert found.error.endswith("but its evaluation failed: the base is gone")
            again = start_again(store, job.id)
            assert (again.kind, again.request) == ("evaluate", {"background": False})
            store.registry.jobs.end(again.id, "cancelled")


def test_an_erasure_that_cannot_be_starts_no_process(store):
    (document,) = store.registry.documents("law", split="train")[:1]
    for error, ids in ((InputError, []), (UnknownError, ["0" * 64])):
        with pytest.raises(error):
            start_erasure(store, "law", ids)
    store.freeze("law")
    with pytest.raises(FrozenError):
        start_erasure(store, "law", [document.document_id])
    assert store.registry.jobs.listed() == ()


def test_without_texts_nothing_is_trained_again(tmp_path):
    base, place = make_tiny_base(tmp_path / "base"), tmp_path / "knowledge"
    corpus = write_corpus(tmp_path / "law.jsonl", "law")
    with init_store(place, base=str(base), background=background(), keep_text=False) as other:
        other.ingest("law", corpus, settings=QUICK)
        (document,) = other.registry.documents("law", split="train")[:1]
        with pytest.raises(UnsupportedError, match="keeps no texts"):
            start_erasure(other, "law", [document.document_id])


def test_a_full_disk_is_no_fault_of_ours(store):
    new = NewJob(kind="ingest", domain="law", request={"corpus": {"path": "/"}}, who="ann")
    job = _end(store, store.registry.jobs.add(new))
    full = OSError(errno.ENOSPC, "No space left on device")
    told = run_job._why(store, job, full)
    where = store.registry.folder
    assert told.startswith(f"No space left on device (at work on the store in {where}); make room")
    assert "fault of" not in told
    assert not store.registry.layout.job_log(job.id).exists()


def test_a_job_that_did_its_work_says_so_once_the_store_is_not_busy(store, monkeypatch):
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    path, tries, end = store.registry.layout.database, [], JobBook.end
    new = NewJob(kind="evaluate", domain=None, request={"background": False}, who="ann")
    job = store.registry.jobs.add(new)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def attempt(*_):
            other.execute("BEGIN IMMEDIATE")
            return run_job.Outcome("done", "it has learned")

        def tried(self, *about, **outcome):
            tries.append(about)
            if len(tries) == 2:
                other.execute("ROLLBACK")
            return end(self, *about, **outcome)

        monkeypatch.setattr(run_job, "attempt", attempt)
        monkeypatch.setattr(JobBook, "end", tried)
        assert run_job.main([str(store.registry.folder), job.id]) == 0
    found = store.registry.jobs.find(job.id)
    assert (found.state, found.note, len(tries)) == ("done", "it has learned", 2)

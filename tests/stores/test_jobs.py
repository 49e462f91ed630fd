"""Jobs in the registry: their life, who is lost, what a purge and a doctor do with them."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from peer_cl.errors import DomainNameError, InputError, StateError, UnknownError
from stores import NewJob, jobs, purging
from stores.leases import TTL_SECONDS, this_host
from stores.processes import process_birth
from stores.records import JobProgress

SECRET = "the-clinic-of-doctor-no"


def new_job(domain="law", **request):
    return NewJob(
        kind="ingest",
        domain=domain,
        request={"corpus": {"path": f"/data/{SECRET}.jsonl"}, "facts": None} | request,
        who="ann",
        why="a test",
    )


def upload(registry, digit):
    """Stage an upload, and return it as a request tells it."""
    path = registry.layout.upload(digit * 64, ".txt")
    path.write_text(SECRET, encoding="utf-8")
    return {"upload": path.name, "name": f"{SECRET}.txt"}


def kinds(findings):
    return sorted(item.kind for item in findings if item.kind != "index missing")


@pytest.fixture
def process():
    """A process that lives until the test has ended it, or ends."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def test_a_job_from_its_start_to_its_end(registry, make):
    new = new_job()
    job = registry.jobs.add(new)
    assert (job.state, job.pid, job.is_open) == ("waiting", None, True)
    assert registry.jobs.assign(job.id, os.getpid()).pid == os.getpid()
    assert registry.jobs.start(job.id).state == "running"
    progress = JobProgress(
        what="training",
        done=30,
        total=100,
        note="loss 2.500 nats",
        since=time.time() - 10,
        done_at_first=10,
        losses=((10, 3.0), (30, 2.5)),
    )
    assert registry.jobs.tell(job.id, progress) is False
    told = registry.jobs.find(job.id)
    assert (told.what, told.done, told.total) == ("training", 30, 100)
    assert told.losses == ((10, 3.0), (30, 2.5))
    assert told.speed == pytest.approx(2.0, rel=0.1)
    assert told.seconds_left == pytest.approx(35.0, rel=0.1)
    assert registry.jobs.tell(job.id, None) is False
    assert registry.jobs.find(job.id).losses == told.losses, "a sign of life changes nothing else"
    snapshot = make.grow(registry, "law")
    ended = registry.jobs.end(job.id, "done", note="law is at v1", snapshot_id=snapshot.id)
    assert (ended.state, ended.snapshot_id, ended.is_open) == ("done", snapshot.id, False)
    assert ended.ended_at >= ended.started_at >= ended.created_at
    assert registry.jobs.listed() == (registry.jobs.find(job.id[:6]),)
    assert registry.jobs.listed(only_open=True) == ()
    with pytest.raises(StateError, match=r"has ended .done."):
        registry.jobs.tell(job.id, progress)
    assert registry.jobs.assign(job.id, 1).pid == os.getpid(), "an ended job gets no process"


@pytest.mark.parametrize("state", ["failed", "cancelled", "done"])
def test_what_a_job_has_made_is_known_before_its_end(registry, make, state):
    job = registry.jobs.add(new_job())
    registry.jobs.assign(job.id, os.getpid())
    registry.jobs.start(job.id)
    with registry.jobs.doing(job.id):
        snapshot = make.grow(registry, "law")
    recorded = registry.jobs.find(job.id)
    assert (recorded.snapshot_id, recorded.is_unmeasured) == (snapshot.id, False)
    ended = registry.jobs.end(job.id, state)
    assert (ended.snapshot_id, ended.is_unmeasured) == (snapshot.id, state != "done")


def test_a_jobs_snapshot_is_written_with_the_act_or_not_at_all(registry, make, monkeypatch):
    """Its process may be killed at any moment: between two transactions it had learned unsaid."""
    job = registry.jobs.add(new_job())
    before = registry.live()

    def fail(*_):
        raise OSError("the process is killed")

    with monkeypatch.context() as patch, registry.jobs.doing(job.id):
        patch.setattr(type(registry.jobs), "note", fail)
        with pytest.raises(OSError, match="killed"):
            make.grow(registry, "law")
    assert registry.live() == before
    with registry.jobs.doing(job.id):
        made = make.grow(registry, "law")
    make.grow(registry, "medicine")
    assert registry.jobs.find(job.id).snapshot_id == made.id, "what came after is not the job's"


def test_speed_is_not_told_before_anything_was_done(registry):
    job = registry.jobs.add(new_job())
    assert job.speed is None
    now = time.time()
    registry.jobs.tell(
        job.id, JobProgress(what="training", done=300, total=400, since=now - 5, done_at_first=300)
    )
    told = registry.jobs.find(job.id)
    assert told.speed is None, "what was done before a kill took none of these seconds"
    assert told.seconds_left is None


def test_jobs_are_listed_the_newest_first(registry):
    made = [registry.jobs.add(new_job(f"domain-{number}")) for number in range(3)]
    assert [job.id for job in registry.jobs.listed()] == [job.id for job in reversed(made)]
    assert [job.domain for job in registry.jobs.listed(2)] == ["domain-2", "domain-1"]


@pytest.mark.parametrize("text", ["", "12345", "f" * 32, "%", "../x"])
def test_a_job_that_there_is_not(registry, text):
    registry.jobs.add(new_job())
    with pytest.raises(UnknownError, match="peer-cl jobs"):
        registry.jobs.find(text)


def test_a_beginning_that_fits_two_jobs_is_refused(registry):
    for digit in "01":
        job_id = "abcdef" + digit * 26
        registry.jobs.add(
            NewJob(kind="evaluate", domain=None, request={"a": 1}, who="ann", job_id=job_id)
        )
    with pytest.raises(UnknownError, match="several jobs' ids begin with 'abcdef'"):
        registry.jobs.find("abcdef")
    assert registry.jobs.find("abcdef1").id == "abcdef" + "1" * 26


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"kind": "dance"}, InputError),
        ({"domain": "../law"}, DomainNameError),
        ({"request": {}}, InputError),
        ({"request": {"corpus": float("nan")}}, InputError),
        ({"job_id": "7"}, InputError),
        ({"why": "caf\udce9"}, InputError),
        ({"why": None}, InputError),
        ({"who": "a\0b"}, InputError),
    ],
)
def test_what_is_no_job(changes, error):
    values = {"kind": "ingest", "domain": "law", "request": {"a": 1}, "who": "ann"}
    with pytest.raises(error):
        NewJob(**(values | changes))


def test_a_wish_to_cancel_is_heard_with_the_next_word(registry):
    job = registry.jobs.add(new_job())
    assert registry.jobs.ask_cancel(job.id[:8]).is_cancel_asked
    assert registry.jobs.tell(job.id, None) is True
    registry.jobs.end(job.id, "cancelled")
    with pytest.raises(StateError, match="cannot be cancelled: it is cancelled"):
        registry.jobs.ask_cancel(job.id)
    with pytest.raises(StateError, match="a job ends as one of"):
        registry.jobs.end(job.id, "asleep")


def test_a_job_whose_process_is_killed_is_lost_at_once(registry, process):
    job = registry.jobs.add(new_job())
    registry.jobs.assign(job.id, process.pid)
    registry.jobs.start(job.id)
    assert registry.jobs.find(job.id).state == "running"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not waited for yet
    assert registry.jobs.find(job.id).state == "lost"
    assert registry.jobs.listed(only_open=True) == ()
    process.wait()
    assert registry.jobs.find(job.id).state == "lost"
    with pytest.raises(StateError, match="its process is gone"):
        registry.jobs.ask_cancel(job.id)


def test_another_process_with_the_same_id_is_not_the_jobs(registry, process, change):
    job = registry.jobs.add(new_job())
    registry.jobs.assign(job.id, process.pid)
    assert registry.jobs.find(job.id).state == "waiting"
    change(job, born="1" + process_birth(process.pid))
    assert registry.jobs.find(job.id).state == "lost"


def test_a_job_elsewhere_is_lost_when_it_is_silent(registry, change):
    job = registry.jobs.add(new_job())
    change(job, host="elsewhere", pid=1, state="running", heartbeat=time.time() - 5)
    assert registry.jobs.find(job.id).state == "running"
    change(job, heartbeat=time.time() - TTL_SECONDS - 1)
    assert registry.jobs.find(job.id).state == "lost"


def test_a_job_whose_process_never_came_is_lost(registry, change):
    job = registry.jobs.add(new_job())
    change(job, heartbeat=time.time() - TTL_SECONDS - 1)
    assert registry.jobs.find(job.id).state == "lost"


def test_who_began_when():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_birth(child.pid) == process_birth(child.pid) is not None
    child.communicate(b"\n")
    assert process_birth(child.pid) is None
    assert this_host()


def test_doctor_tells_that_a_lost_job_had_learned(registry, make, process):
    job = registry.jobs.add(new_job("medicine"))
    registry.jobs.assign(job.id, process.pid)
    with registry.jobs.doing(job.id):
        make.grow(registry, "medicine")
    process.kill()
    process.wait()
    (told,) = [item for item in registry.doctor() if item.kind == "job lost"]
    assert told.what.endswith("; medicine has learned it, in snapshot 2, not measured")
    assert told.action.startswith("evaluate the store; ")


def test_doctor_tells_that_a_lost_job_had_erased(registry, make, process):
    job = registry.jobs.add(replace(new_job(documents=["e" * 64]), kind="erase"))
    registry.jobs.assign(job.id, process.pid)
    with registry.jobs.doing(job.id):
        make.grow(registry, "law")
    process.kill()
    process.wait()
    (told,) = [item for item in registry.doctor() if item.kind == "job lost"]
    assert told.what.endswith("; law was erased from in snapshot 2, not measured")
    assert told.action.startswith("evaluate the store; ")
    assert registry.jobs.find(job.id).is_unmeasured


def test_doctor_tells_lost_jobs_and_writes_them_down(registry, process):
    alive, dead = registry.jobs.add(new_job()), registry.jobs.add(new_job("medicine"))
    registry.jobs.assign(alive.id, os.getpid())
    registry.jobs.assign(dead.id, process.pid)
    process.kill()
    process.wait()
    (told,) = registry.doctor()
    assert (told.kind, told.severity) == ("job lost", "warning")
    assert dead.id[:12] in told.what
    assert "medicine" in told.what
    assert told.action.startswith("start it again")
    assert kinds(registry.doctor(repair=True)) == ["job lost"]
    assert registry.jobs.find(dead.id).state == "failed"
    assert registry.jobs.find(dead.id).error == "its process was gone before it ended"
    assert registry.jobs.find(alive.id).state == "waiting"
    assert registry.doctor() == ()


def test_doctor_keeps_what_an_open_or_failed_job_is_to_read(registry, process):
    layout = registry.layout
    waiting = registry.jobs.add(new_job(corpus=upload(registry, "a"), facts=upload(registry, "b")))
    failed = registry.jobs.add(new_job(corpus=upload(registry, "c")))
    lost = registry.jobs.add(new_job(corpus=upload(registry, "d")))
    cancelled = registry.jobs.add(new_job(corpus=upload(registry, "e")))
    registry.jobs.assign(waiting.id, os.getpid())
    registry.jobs.end(failed.id, "failed", error="no")
    registry.jobs.assign(lost.id, process.pid)
    process.kill()
    process.wait()
    registry.jobs.end(cancelled.id, "cancelled")
    for job in (waiting, failed, lost, cancelled):
        layout.job_log(job.id).write_text("", encoding="utf-8")
    found = [item for item in registry.doctor() if item.kind != "job lost"]
    assert [(item.kind, item.severity) for item in found] == [
        ("job files", "note"),
        ("failed job files", "note"),
    ]
    assert "2 uploads or logs of jobs that have ended" in found[0].what
    assert "4 uploads or logs of failed or lost jobs" in found[1].what
    assert "started again; `peer-cl doctor --repair --drop-unfinished`" in found[1].action
    assert registry.layout.foreign() == []
    registry.doctor(repair=True)
    open_files = {
        layout.upload("a" * 64, ".txt").name,
        layout.upload("b" * 64, ".txt").name,
        layout.job_log(waiting.id).name,
    }
    assert {path.name for path in layout.job_files()} == open_files | {
        layout.upload("c" * 64, ".txt").name,
        layout.upload("d" * 64, ".txt").name,
        layout.job_log(failed.id).name,
        layout.job_log(lost.id).name,
    }
    assert kinds(registry.doctor()) == ["failed job files"]
    registry.doctor(repair=True, drop_unfinished=True)
    assert {path.name for path in layout.job_files()} == open_files
    assert registry.doctor() == ()


def test_what_a_later_job_has_learned_is_kept_for_no_failed_one(registry):
    layout = registry.layout
    about, facts = upload(registry, "a"), upload(registry, "b")
    failed = registry.jobs.add(new_job(corpus=about))
    more = registry.jobs.add(new_job(corpus=about, facts=facts))
    other = registry.jobs.add(new_job("medicine", corpus=facts))
    later = registry.jobs.add(new_job(corpus=about))
    for job in (failed, more, other):
        registry.jobs.end(job.id, "failed", error="no")
        layout.job_log(job.id).write_text("", encoding="utf-8")
    registry.jobs.end(later.id, "done")
    names = {layout.staging / name for name in (about["upload"], facts["upload"])}
    assert {layout.staging / name for name in registry.jobs.needed_uploads()} == names
    registry.doctor(repair=True)
    kept = names | {layout.job_log(more.id), layout.job_log(other.id)}
    assert set(layout.job_files()) == kept


def test_an_upload_is_kept_for_the_last_that_failed_and_not_for_who_learned_it(registry):
    about = upload(registry, "a")
    registry.jobs.end(registry.jobs.add(new_job(corpus=about)).id, "done")
    assert registry.jobs.needed_uploads() == set()
    failed = registry.jobs.add(new_job(corpus=about))
    registry.jobs.end(failed.id, "failed", error="no")
    assert registry.jobs.needed_uploads() == {about["upload"]}
    other = upload(registry, "b")
    learned = registry.jobs.add(new_job("medicine", corpus=other))
    registry.jobs.end(learned.id, "failed", error="not measured", snapshot_id=1)
    assert registry.jobs.find(learned.id).is_unmeasured
    assert registry.jobs.needed_uploads() == {about["upload"]}
    log = registry.layout.job_log(learned.id)
    log.write_text("", encoding="utf-8")
    registry.doctor(repair=True)
    assert log.exists(), "what it learned is not measured yet"
    new = NewJob(kind="evaluate", domain=None, request={"background": True}, who="ann")
    registry.jobs.end(registry.jobs.add(new).id, "done")
    registry.doctor(repair=True)
    assert not log.exists()


def traces(folder):
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_a_purge_leaves_nothing_of_its_domain_in_jobs(registry, make):
    make.grow(registry, "law")
    made = [
        registry.jobs.add(new_job(corpus=upload(registry, "a"))),
        registry.jobs.add(new_job()),
        registry.jobs.add(new_job(corpus=upload(registry, "b"))),
    ]
    registry.jobs.tell(
        made[0].id, JobProgress(what="training", done=1, total=2, losses=((1, 3.0),))
    )
    registry.jobs.end(made[0].id, "done", note=f"learned {SECRET}")
    registry.jobs.end(made[1].id, "failed", error=f"/data/{SECRET}.jsonl:3 is no JSON")
    registry.jobs.assign(made[2].id, os.getpid())
    registry.layout.job_log(made[1].id).write_text(SECRET, encoding="utf-8")
    other = registry.jobs.add(
        new_job("medicine", corpus={"upload": f"upload-{'d' * 64}.txt", "name": "notes.txt"})
    )
    kept = registry.layout.upload("d" * 64, ".txt")
    kept.write_text("a text of medicine", encoding="utf-8")
    assert traces(registry.folder)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert traces(registry.folder) == []
    done, failed, waiting = (registry.jobs.find(job.id) for job in made)
    assert (done.state, done.request, done.note, done.losses) == ("done", {}, "", ())
    assert (failed.state, failed.request, failed.error) == ("failed", {}, jobs.PURGED)
    assert waiting.is_cancel_asked
    assert waiting.request == {}
    registry.jobs.tell(waiting.id, JobProgress(what=f"reading {SECRET}", done=0, total=1))
    registry.jobs.end(waiting.id, "failed", error=f"no corpus at /data/{SECRET}")
    assert registry.jobs.find(waiting.id).error == jobs.PURGED
    assert traces(registry.folder) == []
    assert kept.exists(), "another domain's job is still to read it"
    assert registry.jobs.find(other.id).request["corpus"]["name"] == "notes.txt"


def test_a_purge_that_leaves_a_jobs_request_says_so(registry, make, monkeypatch):
    from peer_cl.errors import DamageError

    make.grow(registry, "law")
    registry.jobs.end(registry.jobs.add(new_job()).id, "failed", error="no")
    monkeypatch.setattr(purging, "blank_jobs", lambda *_, **__: ())
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match=r"left 1 traces .a job's request"):
            registry.purge("law", "ann")


def test_a_purge_of_what_is_retired_lets_the_domains_open_jobs_go_on(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "law")
    ended, waiting = registry.jobs.add(new_job()), registry.jobs.add(new_job())
    registry.jobs.end(ended.id, "done")
    registry.jobs.assign(waiting.id, os.getpid())
    with registry.writing("ann"):
        registry.roll_back_domain("law", "v1", "ann")
        registry.purge("law", "ann", retired=True)
    assert registry.jobs.find(ended.id).request == {}
    assert registry.jobs.find(waiting.id).request
    assert not registry.jobs.find(waiting.id).is_cancel_asked


def test_a_purge_ends_the_erasures_of_what_it_deletes(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "law", salt="later")
    early, late = (segment.id for segment in registry.domain("law").chain)
    of = {d.segment_id: d.document_id for d in registry.documents("law") if d.kind == "text"}
    made = {
        name: registry.jobs.add(replace(new_job(documents=[of[segment]]), kind="erase"))
        for name, segment in (("kept", early), ("ended", late), ("gone", late))
    }
    registry.jobs.end(made["ended"].id, "failed", error="no")
    for name in ("kept", "gone"):
        registry.jobs.assign(made[name].id, os.getpid())
    with registry.writing("ann"):
        registry.roll_back_domain("law", "v1", "ann")
        registry.purge("law", "ann", retired=True)
    kept, ended, gone = (registry.jobs.find(made[name].id) for name in ("kept", "ended", "gone"))
    assert kept.request["documents"] == [of[early]]
    assert not kept.is_cancel_asked
    assert (ended.request, gone.request) == ({}, {})
    assert gone.is_cancel_asked


def test_an_erasure_is_done_by_another_of_the_same_documents_alone(registry):
    one, two = "a" * 64, "b" * 64
    failed = registry.jobs.add(replace(new_job(documents=[one]), kind="erase"))
    registry.jobs.end(failed.id, "failed", error="no")
    log = registry.layout.job_log(failed.id)
    log.write_text("", encoding="utf-8")
    other = registry.jobs.add(replace(new_job(documents=[two]), kind="erase"))
    registry.jobs.end(other.id, "done")
    registry.doctor(repair=True)
    assert log.exists()
    both = registry.jobs.add(replace(new_job(documents=[one, two]), kind="erase"))
    registry.jobs.end(both.id, "done")
    registry.doctor(repair=True)
    assert not log.exists()


def test_the_speed_of_earlier_runs(registry, make):
    assert registry.jobs.run_speeds(5) == ()
    make.grow(registry, "law")
    make.grow(registry, "medicine")
    (newest,) = registry.jobs.run_speeds(1)
    assert (newest.num_tokens, newest.text_passes, newest.seconds) == (1000, 1.0, 1.5)
    num_facts = sum(
        d.num_tokens for d in registry.documents("medicine", kind="fact") if d.split == "train"
    )
    assert newest.num_fact_tokens == num_facts > 0
    with registry.writing("ann"):
        registry.roll_back_domain("medicine", None, "ann")
        registry.purge("medicine", "ann")
    assert len(registry.jobs.run_speeds(5)) == 1, "what was purged tells nothing"


def test_a_heartbeat_far_ahead_is_none(registry, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs.time, "time", lambda: 1e11)
        job = registry.jobs.add(new_job())
    assert registry.jobs.find(job.id).state == "lost"

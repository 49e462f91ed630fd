from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.durable import CHUNK_BYTES
from peer_cl.errors import DamageError, StateError, StoreLockedError, UnknownError
from stores import NewJob, NewScore, Registry, jobs, purging
from stores.database import sqlite_database
from stores.schema import LeaseRow


@settings(max_examples=20, deadline=None)
@given(offset=st.integers(CHUNK_BYTES - 70, CHUNK_BYTES + 5), around=st.sampled_from(" f0-"))
def test_an_id_is_found_wherever_it_stands(tmp_path_factory, offset, around):
    wanted, other = "ab" * 32, "cd" * 32
    path = tmp_path_factory.mktemp("raw") / "file"
    path.write_bytes(around.encode() * offset + wanted.encode() + around.encode() * 99)
    assert purging.find_traces(path, {wanted.encode(), other.encode()}) == [wanted]
    assert purging.find_traces(path, {other.encode()}) == []


def test_a_purge_that_leaves_traces_says_so(registry, make):
    make.grow(registry, "law")
    kept = registry.documents("law")[0].document_id
    (registry.folder / "registry.sqlite.copy").write_text(kept)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match=f"left 1 traces .{kept} in registry.sqlite.copy"):
            registry.purge("law", "ann")


def test_a_purge_that_cannot_delete_an_object_says_so(registry, make, monkeypatch):
    make.grow(registry, "law")
    monkeypatch.setattr(registry.objects, "delete", lambda object_id: False)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match="left 5 traces"):
            registry.purge("law", "ann")


def test_a_purge_that_leaves_an_upload_says_so(registry, make, monkeypatch):
    make.grow(registry, "law")
    upload = registry.layout.upload("d" * 64, ".txt")
    upload.write_bytes(b"the corpus")
    request = {"corpus": {"upload": upload.name, "name": "notes.txt"}}
    job = registry.jobs.add(NewJob(kind="ingest", domain="law", request=request, who="ann"))
    registry.jobs.end(job.id, "failed", error="the disk is full")
    monkeypatch.setattr(type(registry.layout), "forget", lambda *_: None)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match=f"left 1 traces .{upload.name}"):
            registry.purge("law", "ann")


def test_a_purge_leaves_what_other_domains_have_under_way(registry, make):
    make.grow(registry, "law")
    layout = registry.layout
    mine, others = (layout.checkpoint(name, "0f" * 32) for name in ("law", "medicine"))
    upload = layout.upload("d" * 64, ".txt")
    for path in (mine, others, upload):
        path.write_bytes(b"hours of work")
    request = {"corpus": {"upload": upload.name, "name": "notes.txt"}}
    job = registry.jobs.add(NewJob(kind="ingest", domain="medicine", request=request, who="ann"))
    registry.jobs.end(job.id, "failed", error="the disk is full")
    own = registry.jobs.add(NewJob(kind="ingest", domain="law", request=request, who="ann"))
    registry.jobs.end(own.id, "failed", error="the disk is full")
    waiting = registry.jobs.add(
        NewJob(kind="evaluate", domain=None, request={"background": True}, who="ann")
    )
    logs = [layout.job_log(one.id) for one in (own, job, waiting)]
    for path in logs:
        path.write_bytes(b"what went wrong")
    assert layout.foreign() == []
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert set(layout.staging.iterdir()) == {others, upload, *logs[1:]}


def test_an_evaluation_that_ends_after_a_purge_writes_nothing_of_it(registry, make):
    old = make.grow(registry, "law")
    document_id = registry.documents("law", split="test")[0].document_id
    version = old.state("law").version

    def score(subject, document_id):
        values, key = b"\0" * 8, make.sha(f"{subject} {document_id}")
        return NewScore(
            subject=subject,
            document_key=key,
            values=values,
            num_tokens=1,
            document_id=document_id,
        )

    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    of_text, of_pool, foreign = (
        score("base", document_id),
        score(version, None),
        score("base", None),
    )
    for told, act in (
        ("1 of the documents was purged", lambda: registry.put_scores([foreign, of_text])),
        (f"segment {version} was purged", lambda: registry.put_scores([foreign, of_pool])),
        (f"segment {version} was purged", lambda: registry.put_evaluation(old.id, {"of": "law"})),
    ):
        with pytest.raises(StateError, match=f"the store changed meanwhile: {told}.*again"):
            act()
    assert registry.evaluated() == ()
    assert registry.scores("base", [of_text.document_key, foreign.document_key]) == {}
    registry.put_scores([foreign])
    registry.put_evaluation(registry.live().id, {"of": "nothing"})


def test_a_purge_takes_its_documents_out_of_all_jobs_errors(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "medicine")
    gone, kept = (registry.documents(name)[0].document_id for name in ("law", "medicine"))
    ended = []
    for error in (f"document {gone} was changed", f"no text of {gone[:12]}", f"no text of {kept}"):
        job = registry.jobs.add(NewJob(kind="evaluate", domain=None, request={"a": 1}, who="ann"))
        ended.append(registry.jobs.end(job.id, "failed", error=error, note=error))
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    told = [registry.jobs.find(job.id) for job in ended]
    assert [job.error for job in told] == [jobs.NAMED, jobs.NAMED, ended[2].error]
    assert [job.note for job in told] == ["", "", ended[2].note]


def test_a_purge_removes_what_an_ingest_that_failed_left_of_a_new_domain(registry):
    layout = registry.layout
    upload, checkpoint = layout.upload("d" * 64, ".txt"), layout.checkpoint("secret", "0f" * 32)
    for path in (upload, checkpoint):
        path.write_bytes(b"John Doe has X")
    request = {"corpus": {"upload": upload.name, "name": "john-doe.txt"}, "facts": None}
    job = registry.jobs.add(NewJob(kind="ingest", domain="secret", request=request, who="ann"))
    registry.jobs.end(job.id, "failed", error="john-doe.txt:3 has no text")
    with pytest.raises(UnknownError, match="secre"):
        registry.check_purgeable("secre")
    registry.check_purgeable("secret")
    with registry.writing("ann"):
        for _ in range(2):
            result = registry.purge("secret", "ann")
            assert (result.num_segments, result.num_documents) == (0, 0)
    assert list(layout.staging.iterdir()) == []
    ended = registry.jobs.find(job.id)
    assert (ended.request, ended.error) == ({}, jobs.PURGED)
    assert not any(b"john-doe" in path.read_bytes() for path in layout.folder.glob("registry*"))
    with pytest.raises(StateError, match="'secret' never came, and nothing of it is left"):
        registry.check_purgeable("secret")


def test_a_store_of_a_relative_folder_stays_the_same_one_wherever_its_process_goes(
    make, tmp_path, monkeypatch
):
    for name in ("here", "there"):
        with make.store(tmp_path / name / "knowledge") as registry:
            make.grow(registry, "law")
    monkeypatch.chdir(tmp_path / "here")
    with Registry.open("knowledge") as registry:
        before = set(registry.objects.ids())
        monkeypatch.chdir(tmp_path / "there")
        with registry.writing("ann"):
            registry.roll_back_domain("law", None, "ann")
            registry.purge("law", "ann")
    with Registry.open(tmp_path / "here" / "knowledge") as registry:
        assert set(registry.objects.ids()) < before
    with Registry.open("knowledge") as registry:
        assert not {item.kind for item in registry.doctor()} - {"index missing"}


def put_scores_of(registry, make, subject, document_id):
    """Store a score of a document, or of background text, and return its key."""
    key = make.sha(f"{subject} {document_id}")
    score = NewScore(
        subject=subject,
        document_key=key,
        values=b"\0" * 8,
        num_tokens=1,
        document_id=document_id,
    )
    registry.put_scores([score])
    return key


def test_a_purge_takes_background_scores_along_which_may_be_of_its_texts(registry, make):
    for name in ("law", "medicine"):
        make.grow(registry, name)
    gone, kept = (
        registry.documents(name, split="test")[0].document_id for name in ("law", "medicine")
    )
    version = registry.live().state("medicine").version
    keys = [put_scores_of(registry, make, "base", one) for one in (gone, kept, None)]
    foreign = put_scores_of(registry, make, version, None)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        assert registry.purge("law", "ann").num_scores == 3
    assert set(registry.scores("base", keys)) == {keys[1]}
    assert registry.scores(version, [foreign]) == {}


def test_a_purge_again_takes_what_an_earlier_version_left_of_background_scores(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
        key = put_scores_of(registry, make, "base", None)
        assert registry.purge("law", "ann").num_scores == 1
    assert registry.scores("base", [key]) == {}


def test_a_purge_of_retired_segments_without_documents_keeps_background_scores(registry, make):
    first = make.grow(registry, "law")
    make.grow(registry, "law", documents=make.segment(registry, "law").documents)
    with registry.writing("ann"):
        registry.roll_back(first.id, "ann")
        key = put_scores_of(registry, make, "base", None)
        result = registry.purge("law", "ann", retired=True)
    assert (result.num_segments, result.num_documents) == (1, 0)
    assert set(registry.scores("base", [key])) == {key}


def test_a_purge_that_leaves_scores_says_so(registry, make, monkeypatch):
    make.grow(registry, "law")
    document = registry.documents("law", split="test")[0]
    put_scores_of(registry, make, "base", document.document_id)
    put_scores_of(registry, make, registry.live().state("law").version, None)
    monkeypatch.setattr(purging, "_remove_scores", lambda *_, **__: 0)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        with pytest.raises(DamageError, match=r"left 3 traces .a score, "):
            registry.purge("law", "ann")


def test_a_purge_whose_lease_was_taken_over_removes_no_file_of_the_next_writer(
    registry, make, monkeypatch
):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
    made, place = registry.layout.checkpoint("law", "0f" * 32), registry.layout.database
    remove = purging.remove_objects

    def taken_over(*told):
        remove(*told)
        made.write_bytes(b"hours of work")
        with closing(sqlite_database(place)) as database, database.writing() as session:
            session.get(LeaseRow, 1).token = "f" * 32

    monkeypatch.setattr(purging, "remove_objects", taken_over)
    with pytest.raises(StoreLockedError, match="is now held by"), registry.writing("ann"):
        registry.purge("law", "ann")
    assert made.exists()


def test_an_upload_that_comes_while_a_purge_reads_the_jobs_is_left_alone(
    registry, make, monkeypatch
):
    """A server lets a job in while the purge's transaction is open; SQLite does not."""
    make.grow(registry, "law")
    upload, needed = registry.layout.upload("d" * 64, ".txt"), purging.needed_uploads

    def staged_meanwhile(session):
        found = needed(session)
        upload.write_bytes(b"the next corpus")
        return found

    monkeypatch.setattr(purging, "needed_uploads", staged_meanwhile)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert upload.exists()

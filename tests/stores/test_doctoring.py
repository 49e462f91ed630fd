import sqlite3
from contextlib import closing

import numpy as np
import pytest
from damage import spoil_page

from peer_cl.errors import DamageError, InputError, StateError
from stores import Registry
from stores.objects import ObjectStore
from stores.vector_index import SignatureIndex


def spoil(registry, object_id):
    path = registry.objects.path(object_id)
    path.chmod(0o644)
    path.write_bytes(b"spoiled")


def half_made(layout):
    """Every kind of file that a killed writer may leave unfinished."""
    return [
        layout.staging / f"{'0a' * 16}.part",
        layout.staging / f"run-{'0b' * 16}.tmp",
        layout.staging / "tap.f32",
        layout.staging / f"tap-{'0d' * 16}.f32",
        layout.index / f"{'0c' * 16}.part",
    ]


def user_files(layout):
    """Files of a user, some named nearly as ours are."""
    return [
        layout.staging / "notes.txt",
        layout.staging / "film.part",
        layout.staging / "run-1.safetensors",
        layout.staging / "folder" / "tap.f32",
        layout.index / "index.html",
        layout.objects / "ab" / ("cd" * 32),
        layout.folder / "registry.sqlite.before-the-move",
    ]


def kinds(findings):
    return sorted(found.kind for found in findings if found.kind != "index missing")


def test_a_sound_store_has_nothing_to_say(registry, make):
    snapshot = make.grow(registry, "law")
    index = SignatureIndex.build({"law": np.ones((2, 3), dtype=np.float32)})
    index.save(registry.layout.index, snapshot.index_tag)
    assert registry.doctor() == ()
    assert registry.doctor(repair=True) == ()
    assert SignatureIndex.load(registry.layout.index, snapshot.index_tag) is not None


def test_leftovers_are_told_and_with_repair_removed(registry, make):
    make.grow(registry, "law")
    extra = registry.objects.put_bytes(b"of an ingest that died")
    for path in half_made(registry.layout):
        path.write_bytes(b"half")
    found = registry.doctor()
    assert kinds(found) == ["leftovers", "object unreferenced"]
    assert "5 leftovers" in next(item.what for item in found if item.kind == "leftovers")
    assert all("doctor --repair" in item.action for item in found if item.kind != "index missing")
    assert registry.objects.exists(extra)
    assert kinds(registry.doctor(repair=True)) == ["leftovers", "object unreferenced"]
    assert not registry.objects.exists(extra)
    assert list(registry.layout.staging.iterdir()) == []
    assert not any(path.exists() for path in half_made(registry.layout))
    assert kinds(registry.doctor()) == []


def test_the_checkpoint_of_a_killed_ingest_is_told_apart_from_leftovers(registry):
    checkpoint = registry.layout.staging / f"run-{'0f' * 16}.safetensors"
    checkpoint.write_bytes(b"hours of training")
    (told,) = registry.doctor()
    assert (told.kind, told.severity) == ("unfinished ingest", "note")
    assert str(checkpoint) in told.what
    assert "the same `peer-cl` command goes on from it" in told.action
    assert "--repair --drop-unfinished` removes it" in told.action
    assert registry.doctor(repair=True) == (told,)
    assert checkpoint.exists()
    with pytest.raises(InputError, match="add --repair"):
        registry.doctor(drop_unfinished=True)
    (told,) = registry.doctor(repair=True, drop_unfinished=True)
    assert "removed" in told.action
    assert not checkpoint.exists()
    assert registry.doctor() == ()


def test_a_users_file_among_the_objects_is_told_too(registry, make):
    make.grow(registry, "law")
    for path in ("diary.txt", "aa/diary.txt"):
        file = registry.layout.objects / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("dear diary", encoding="utf-8")
        (found,) = [item for item in registry.doctor() if item.kind == "foreign file"]
        assert f"objects/{path}" in found.what
        registry.doctor(repair=True)
        assert file.exists()
        file.unlink()


@pytest.mark.parametrize("act", ["repair", "purge"])
def test_a_users_files_are_told_and_never_removed(registry, make, act):
    make.grow(registry, "law")
    users = user_files(registry.layout)
    for path in users:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("dear diary", encoding="utf-8")
    (found,) = [item for item in registry.doctor() if item.kind == "foreign file"]
    assert found.severity == "warning"
    assert "notes.txt" in found.what
    assert "move it elsewhere" in found.action
    if act == "repair":
        assert "foreign file" in kinds(registry.doctor(repair=True))
    else:
        with registry.writing("ann"):
            registry.roll_back_domain("law", None, "ann")
            registry.purge("law", "ann")
    assert [path.read_text(encoding="utf-8") for path in users] == ["dear diary"] * len(users)
    assert "foreign file" in kinds(registry.doctor())


def test_missing_and_damaged_objects_are_named_with_what_they_are(registry, make):
    version = make.grow(registry, "law").state("law").version
    (segment,) = registry.chain(version)
    document = registry.documents("law")[0]
    spoil(registry, segment.pool_object)
    spoil(registry, document.text_object)
    registry.objects.delete(segment.signature_object)
    registry.objects.delete(registry.config.background_object)
    for repair in (False, True):
        found = registry.doctor(repair=repair)
        assert kinds(found) == ["object damaged"] * 2 + ["object missing"] * 2
        words = " ".join(item.what for item in found)
        for expected in (
            f"{segment.pool_object} (the pool of law v1) is damaged",
            f"{segment.signature_object} (the signature of law v1) is missing",
            f"{document.text_object} (a document of law) is damaged",
            f"{registry.config.background_object} (the background statistics) is missing",
        ):
            assert expected in words
        assert {item.severity for item in found if item.kind.startswith("object")} == {"error"}
    with pytest.raises(DamageError):
        registry.document_text(document)


@pytest.mark.parametrize("table", ["segment_documents", "jobs", "lease", "snapshots", "runs"])
def test_a_damaged_registry_is_told_and_nothing_is_removed(tmp_path, make, table):
    folder = tmp_path / "k"
    with make.store(folder) as registry:
        make.grow(registry, "law")
        spoil(
            registry, damaged := registry.chain(registry.live().state("law").version)[0].pool_object
        )
        extra = registry.objects.put_bytes(b"which may be needed")
    spoil_page(folder, table)
    with Registry.open(folder) as registry:
        for repair in (False, True):
            found = registry.doctor(repair=repair)
            assert set(kinds(found)) == {"database", "object damaged"}
            assert {item.severity for item in found} == {"error"}
            assert all("restore it from a copy" in item.action for item in found)
            assert any(f"object {damaged} (of an unknown use) is damaged" in i.what for i in found)
        assert registry.objects.exists(extra)


@pytest.mark.parametrize(
    ("harm", "kind", "told"),
    [
        (
            "DELETE FROM documents",
            "rows",
            "3 rows refer to nothing, the first in segment_documents",
        ),
        (
            "UPDATE segments SET purged_at = '2026-01-01'",
            "snapshot",
            "the live snapshot holds the purged segment {version}",
        ),
    ],
    ids=["documents are gone", "what is live is purged"],
)
def test_rows_that_contradict_each_other_are_told(registry, make, harm, kind, told):
    version = make.grow(registry, "law").state("law").version
    with closing(sqlite3.connect(registry.layout.database)) as database, database:
        database.execute(harm)  # this connection does not look at what refers to what
    (found,) = [item for item in registry.doctor() if item.severity == "error"]
    assert (found.kind, found.what) == (kind, told.format(version=version))


def test_everything_that_the_store_needs_is_kept_and_missed(make, tmp_path):
    with make.store(tmp_path / "k", ordinary_object=make.sha("ordinary")) as registry:
        ordinary, uses = map(registry.objects.put_bytes, (b"ordinary", b"uses"))
        make.grow(registry, "law", use_object=uses)
        assert registry.doctor(repair=True) == registry.doctor()
        assert kinds(registry.doctor()) == []
        with registry.writing("ann"):
            registry.roll_back_domain("law", None, "ann")
            registry.purge("law", "ann")
        left = {ordinary, registry.config.background_object}
        assert set(registry.objects.ids()) == left
        for object_id in left:
            registry.objects.delete(object_id)
        told = [found.what for found in registry.doctor() if found.kind == "object missing"]
    assert len(told) == 2
    assert any(ordinary in what and "the inputs of ordinary text" in what for what in told)


@pytest.mark.parametrize("fault", ["stale", "damaged"])
def test_a_useless_index_is_told_and_removed(registry, make, fault):
    snapshot = make.grow(registry, "law")
    index = SignatureIndex.build({"law": np.ones((2, 3), dtype=np.float32)})
    index.save(registry.layout.index, snapshot.index_tag if fault == "damaged" else "old")
    if fault == "damaged":
        (registry.layout.index / "signatures.faiss").write_bytes(b"")
    assert [found.kind for found in registry.doctor(repair=True)] == [f"index {fault}"]
    assert list(registry.layout.index.iterdir()) == []
    assert [found.kind for found in registry.doctor()] == ["index missing"]


def test_a_live_domain_is_not_purged(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"), pytest.raises(StateError, match="rollback law --out`"):
        registry.purge("law", "ann")
    assert len(registry.documents("law")) == 3
    assert kinds(registry.doctor()) == []


def test_a_purge_deletes_its_own_bytes_and_nothing_that_others_need(registry, make):
    shared, secret = "a text in both domains", "a secret of medicine alone"
    make.grow(registry, "law", texts=[shared])
    make.grow(registry, "medicine", texts=[shared, secret])
    old = make.grow(registry, "medicine", texts=["a second " + secret])
    leftover = registry.objects.put_bytes(b"an ingest of medicine that died")
    registry.put_evaluation(old.id, {"completion": secret})
    law = registry.documents("law")
    doomed = [item for item in registry.documents("medicine") if secret in item.title]
    segments = registry.chain(old.state("medicine").version)
    with registry.writing("ann"):
        registry.roll_back_domain("medicine", None, "ann")
        result = registry.purge("medicine", "ann", "asked to forget")
    assert (result.num_segments, result.num_documents) == (2, 2)
    assert (result.num_shared_objects, result.num_evaluations) == (1, 1)
    assert result.num_objects == 2 + 4 + 1
    for object_id in (
        *(item.text_object for item in doomed),
        *(segment.pool_object for segment in segments),
        *(segment.signature_object for segment in segments),
        leftover,
    ):
        assert not registry.objects.exists(object_id)
    assert registry.documents("law") == law
    assert registry.document_text(law[0]) == shared
    assert kinds(registry.doctor()) == []
    assert registry.evaluation(old.id) is None
    for path in registry.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret.encode() not in data, path
            assert not any(item.document_id.encode() in data for item in doomed), path


def test_a_purged_domain_stays_a_tombstone(registry, make):
    old = make.grow(registry, "medicine")
    make.grow(registry, "law")
    both = registry.live()
    with registry.writing("ann"):
        registry.roll_back_domain("medicine", None, "ann")
        registry.purge("medicine", "ann")
        with pytest.raises(StateError, match="is purged already"):
            registry.check_purgeable("medicine")
        assert registry.purge("medicine", "ann").num_segments == 0, "a killed one is finished so"
        with pytest.raises(
            StateError, match=r"holds versions that were purged .medicine v1., whose bytes are gone"
        ):
            registry.roll_back(both.id, "ann")
        registry.roll_back_domain("law", None, "ann")
        back = registry.roll_back(both.id, "ann", without_purged=True)
    assert [state.domain for state in back.domains] == ["law"]
    assert registry.snapshot(old.id) == old
    (segment,) = registry.chain(old.state("medicine").version)
    assert segment.is_purged
    assert registry.documents("medicine", "v1") == ()
    detail = registry.domain("medicine")
    assert detail.summary.is_purged
    assert [(run.config, run.losses) for run in detail.runs] == [({}, ())]
    assert "purge" in [event.action for event in registry.history(domain="medicine")]
    again = make.grow(registry, "medicine")
    assert again.state("medicine").label == "v2"
    assert not registry.domain("medicine").summary.is_purged


def test_a_purge_takes_index_staging_and_old_copies_along(registry, make):
    make.grow(registry, "law")
    layout = registry.layout
    for path in half_made(layout):
        path.write_bytes(b"x")
    (layout.staging / f"run-{'0f' * 16}.safetensors").write_bytes(b"x")
    layout.checkpoint("law", "0f" * 32).write_bytes(b"x")
    for name in ("signatures.faiss", "signatures.json"):
        (layout.index / name).write_bytes(b"x")
    copy = layout.folder / "registry.sqlite.before-0002"
    copy.write_bytes(layout.database.read_bytes())
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    assert not copy.exists()
    assert list(layout.staging.iterdir()) == list(layout.index.iterdir()) == []


def test_objects_that_cannot_be_read_are_told_one_by_one(registry, make, monkeypatch):
    make.grow(registry, "law")
    bad, gone = sorted(registry.objects.ids())[:2]
    registry.objects.delete(gone)
    read_all = ObjectStore.path

    def fails(self, object_id):
        if object_id == bad:
            raise PermissionError(13, "Permission denied", object_id)
        return read_all(self, object_id)

    monkeypatch.setattr(ObjectStore, "path", fails)
    found = registry.doctor()
    assert kinds(found) == ["object missing", "object unreadable"]
    assert any(f"{bad} (" in item.what and "Permission denied" in item.what for item in found)


def test_an_object_that_cannot_be_read_is_put_anew(registry, monkeypatch):
    def fails(self, object_id):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ObjectStore, "verify", fails)
    assert registry.objects.read(registry.objects.put_bytes(b"background")) == b"background"


def test_an_old_copy_that_cannot_be_read_may_hold_what_was_purged(registry, make):
    make.grow(registry, "law")
    copy = registry.folder / "registry.sqlite.before-0002"
    copy.write_bytes(b"no registry")
    assert "old copy" not in kinds(registry.doctor()), "nothing was purged that it might hold"
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
    copy.write_bytes(b"no registry")
    (finding,) = [found for found in registry.doctor() if found.kind == "old copy"]
    assert (finding.severity, copy.name in finding.what) == ("warning", True)
    registry.doctor(repair=True)
    assert not copy.exists()

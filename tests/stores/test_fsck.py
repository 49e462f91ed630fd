"""The check finds each damage; the repair removes leftovers and nothing else."""

import sqlite3
from contextlib import closing

from filled_store import portrait

from stores import Registry
from stores.fsck import check


def found(registry, **how):
    return [(finding.kind, finding.severity) for finding in check(registry, **how)]


def test_missing_and_damaged_objects_are_named_with_their_use(registry):
    segment = registry.queries.chain(registry.queries.live().state("law").version)[-1]
    path = registry.objects.path(segment.objects["shared.0"])
    path.chmod(0o644)
    path.write_bytes(b"x")
    registry.objects.path(registry.config.background_object).unlink()
    before = portrait(registry)
    assert found(registry) == [("object", "error")] * 2
    whats = " ".join(finding.what for finding in check(registry, repair=True))
    assert "(the shared experts of law v2) is damaged" in whats
    assert "(the background statistics) is missing" in whats
    assert portrait(registry) == before


def test_leftovers_are_removed_and_checkpoints_stay(registry):
    before = portrait(registry)
    registry.objects.put_bytes(b"of an ingest that died")
    (registry.staging / "upload-1.txt").write_text("x")
    (registry.folder / "objects" / "00").mkdir(exist_ok=True)
    (registry.folder / "objects" / "00" / "1.part").write_text("x")
    checkpoint = registry.staging / "run-1.ckpt"
    checkpoint.write_text("x")
    expected = [("leftover", "note"), ("checkpoint", "note"), ("leftover", "note")]
    assert found(registry) == expected
    assert found(registry, repair=True) == expected
    assert [finding.what for finding in check(registry)] == [
        f"an ingest or an erasure did not finish; its checkpoint is {checkpoint}"
    ]
    assert portrait(registry) == before


def test_a_damaged_registry_is_told_and_nothing_is_removed(registry):
    extra = registry.objects.put_bytes(b"of an ingest that died")
    registry.database.compact()
    registry.close()
    path = registry.folder / "registry.sqlite"
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 4000] = b"\xff" * 4000
    path.write_bytes(data)
    with Registry.open(registry.folder) as opened:
        findings = check(opened, repair=True)
        assert {finding.kind for finding in findings} == {"database"}
        assert opened.objects.exists(extra)


def test_rows_that_refer_to_nothing_are_told(registry):
    with closing(sqlite3.connect(registry.folder / "registry.sqlite")) as connection, connection:
        connection.execute("DELETE FROM domains")
    assert "refers to nothing" in check(registry)[0].what

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peer_cl.errors import StateError
from stores import Registry
from stores.upgrades import copy_sqlite

CHILD = Path(__file__).with_name("crash_child.py")
UNCOMMITTED = [
    "file written, not synced",
    "staged, not published",
    "published, folder not synced",
    "objects stored",
    "run and segment rows written",
    "document rows written",
    "snapshot rows written",
    "before commit",
    "while rolling back",
    "while erasing",
]

LEAVES_OBJECTS = {"objects stored", "document rows written", "before commit"}


def crash(folder, point):
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder), point], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.fixture
def folder(make, tmp_path):
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    return registry.folder


def check_that_life_goes_on(registry, make):
    """After repair nothing is wrong, and the next ingest works."""
    registry.doctor(repair=True)
    assert {found.kind for found in registry.doctor()} <= {"index missing"}
    assert make.grow(registry, "medicine", salt="again").state("medicine") is not None
    for document in registry.documents("medicine"):
        registry.document_text(document)
    assert {found.kind for found in registry.doctor()} <= {"index missing"}


@pytest.mark.parametrize("point", UNCOMMITTED)
def test_a_kill_before_the_commit_leaves_the_old_snapshot(folder, make, point):
    with Registry.open(folder) as registry:
        before = registry.live(), registry.history(), registry.domains()
    crash(folder, point)
    with Registry.open(folder) as registry:
        assert (registry.live(), registry.history(), registry.domains()) == before
        findings = {found.kind: found.severity for found in registry.doctor()}
        assert findings["lease"] == "warning"
        assert "error" not in findings.values()
        if point in LEAVES_OBJECTS:
            assert "object unreferenced" in findings
        check_that_life_goes_on(registry, make)


def test_without_doctor_the_next_ingest_works_too(folder, make):
    crash(folder, "document rows written")
    with Registry.open(folder) as registry:
        assert make.grow(registry, "medicine").state("medicine").label == "v1"


def test_a_kill_after_the_commit_leaves_the_new_snapshot(folder, make):
    crash(folder, "after commit")
    with Registry.open(folder) as registry:
        assert [state.domain for state in registry.live().domains] == ["law", "medicine"]
        assert len(registry.documents("medicine")) == 3
        for document in registry.documents("medicine"):
            assert registry.document_text(document).startswith("medicine")
        check_that_life_goes_on(registry, make)


def by_the_doctor(registry):
    told = [found for found in registry.doctor() if found.kind == "old copy"]
    assert [found.severity for found in told] == ["warning"]
    assert "registry.sqlite.before-0003 holds what was purged" in told[0].what
    registry.doctor(repair=True)


def by_purging_again(registry):
    events = len(registry.history())
    with registry.writing("ann"):
        assert registry.purge("law", "ann").num_segments == 0
    assert len(registry.history()) == events


@pytest.mark.parametrize("finish", [by_the_doctor, by_purging_again])
@pytest.mark.parametrize("point", ["purge committed", "purge half done"])
def test_a_killed_purge_is_finished(folder, make, point, finish):
    with Registry.open(folder) as registry:
        doomed = registry.documents("law")
        copy_sqlite(registry.layout.database, folder / "registry.sqlite.before-0003", "0006")
        assert "old copy" not in {found.kind for found in registry.doctor()}
    crash(folder, point)
    with Registry.open(folder) as registry:
        assert registry.domain("law").summary.is_purged
        finish(registry)
        assert "old copy" not in {found.kind for found in registry.doctor()}
        assert set(registry.objects.ids()) == {registry.config.background_object}
        data = b"".join(path.read_bytes() for path in folder.glob("registry.sqlite*"))
        assert not any(document.title.encode() in data for document in doomed)
        check_that_life_goes_on(registry, make)


def test_a_killed_create_can_be_repeated(make, tmp_path):
    code = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(CHILD.parent)!r})\n"
        "import conftest\n"
        "from pathlib import Path\n"
        "from stores import StoreConfig\n"
        "StoreConfig.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "conftest.new_store(Path(sys.argv[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "k")], check=False)
    assert done.returncode == -signal.SIGKILL
    with make.store(tmp_path / "k") as registry:
        check_that_life_goes_on(registry, make)


def test_a_full_disk_is_told_with_advice_and_changes_nothing(registry):
    def fill():
        with registry._database.writing() as session:
            connection = session.connection()
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own: what it has
            connection.exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1000000) AS bytes")

    before = registry.live(), registry.history()
    told = "database or disk is full; make room on the disk and do the same again; the store is as"
    with pytest.raises(StateError, match=told):
        fill()
    assert (registry.live(), registry.history()) == before

"""A copy of a store shares its objects' place: whoever did not write last deletes nothing there."""

import shutil
import tempfile
from pathlib import Path

import pytest

from peer_cl.errors import StateError
from stores import Registry
from stores.claims import Claim
from stores.objects import disk_of


def made(make, tmp_path, url):
    """Return the folder of a store with one domain, closed, whose objects lie elsewhere."""
    with make.store(tmp_path / "k", objects_url=url) as registry:
        registry.objects.put_bytes(b"background")
        make.grow(registry, "law")
    return tmp_path / "k"


@pytest.fixture(params=["file", "memory"])
def store(request, make, tmp_path):
    """Objects in a folder elsewhere, or in a file system that is none."""
    url = {"file": f"file://{tmp_path}/bucket", "memory": f"memory://{tmp_path.name}/bucket"}
    return made(make, tmp_path, url[request.param])


@pytest.fixture
def mark(make, tmp_path):
    """The file of the mark; the store is beside its folder."""
    made(make, tmp_path, f"file://{tmp_path}/bucket")
    return tmp_path / "bucket" / "peer-cl.json"


def copy_of(folder):
    return shutil.copytree(folder, folder.with_name("copy"))


def goes_on(folder, make, domain):
    """Learn a domain, then look for damage and for leftovers."""
    with Registry.open(folder) as registry:
        make.grow(registry, domain)
        assert not {item.kind for item in registry.doctor()} - {"index missing"}


def acts_that_delete(registry):
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")


def test_a_copy_deletes_nothing_of_what_its_original_learned_since(store, make):
    copy = copy_of(store)
    goes_on(store, make, "medicine")
    with Registry.open(copy) as registry:
        before = set(registry.objects.ids())
        (told,) = [item for item in registry.doctor() if item.kind != "index missing"]
        assert (told.kind, told.severity) == ("objects shared", "warning")
        for act in (lambda: registry.doctor(repair=True), lambda: acts_that_delete(registry)):
            with pytest.raises(StateError, match=f"another copy of this store .{store} on .*since"):
                act()
        assert set(registry.objects.ids()) == before
        assert registry.live().state("law") is not None
    goes_on(store, make, "physics")


def test_a_copy_may_go_on_and_its_original_is_refused_then(store, make):
    copy = copy_of(store)
    goes_on(copy, make, "medicine")
    with Registry.open(store) as registry, pytest.raises(StateError, match="doctor --take-over"):
        acts_that_delete(registry)
    goes_on(copy, make, "physics")


def test_a_backup_takes_the_place_over_from_what_is_lost(store, make):
    backup = copy_of(store)
    goes_on(store, make, "medicine")
    with Registry.open(backup) as registry:
        found = registry.doctor(take_over=True)
        assert {item.kind for item in found} == {"index missing", "object unreferenced"}
        assert "object unreferenced" in {item.kind for item in registry.doctor(repair=True)}
    goes_on(backup, make, "physics")
    with Registry.open(store) as registry:
        with pytest.raises(StateError, match="another copy"):
            acts_that_delete(registry)
        assert "object missing" in {item.kind for item in registry.doctor()}


@pytest.mark.parametrize("killed_in", ["_new_token", "_mark"])
def test_a_writer_that_dies_as_it_claims_locks_nobody_out(store, make, monkeypatch, killed_in):
    with monkeypatch.context() as patch:
        patch.setattr(Claim, killed_in, lambda *_: 1 / 0)
        for _ in range(2):
            with Registry.open(store) as registry, pytest.raises(ZeroDivisionError):
                acts_that_delete(registry)
    goes_on(store, make, "medicine")


def test_a_store_of_before_is_marked_when_it_is_written_next(mark, make, tmp_path):
    with Registry.open(tmp_path / "k") as registry, registry._database.writing() as session:
        session.connection().exec_driver_sql("UPDATE live SET claim=NULL, claim_before=NULL")
    mark.unlink()
    copy = copy_of(tmp_path / "k")
    goes_on(tmp_path / "k", make, "medicine")
    assert mark.is_file()
    with Registry.open(copy) as registry, pytest.raises(StateError, match="another copy"):
        registry.doctor(repair=True)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"folder": "/x"}'])
def test_a_damaged_mark_is_nobodys(mark, tmp_path, data):
    mark.write_bytes(data)
    with Registry.open(tmp_path / "k") as registry:
        with pytest.raises(StateError, match="its mark is damaged"):
            registry.doctor(repair=True)
        registry.doctor(take_over=True)
        registry.doctor(repair=True)


def test_objects_in_the_stores_own_folder_need_no_mark(registry, make):
    make.grow(registry, "law")
    copy = copy_of(registry.folder)
    make.grow(registry, "medicine")
    with Registry.open(copy) as other:
        make.grow(other, "physics")
        assert not list(copy.rglob("peer-cl.json"))
        with pytest.raises(StateError, match="there is nothing to take over"):
            other.doctor(take_over=True)


def test_a_copy_of_a_store_whose_objects_are_a_link_shares_them_too(make, tmp_path):
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    (tmp_path / "k" / "objects").rename(tmp_path / "large disk")
    (tmp_path / "k" / "objects").symlink_to(tmp_path / "large disk")
    copy = shutil.copytree(tmp_path / "k", tmp_path / "copy", symlinks=True)
    goes_on(tmp_path / "k", make, "medicine")
    with Registry.open(copy) as registry:
        with pytest.raises(StateError, match="another copy of this store"):
            registry.doctor(repair=True)
        assert "objects shared" in {item.kind for item in registry.doctor()}
    goes_on(tmp_path / "k", make, "physics")


def test_a_link_to_the_whole_store_is_no_other_place(make, tmp_path):
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    (tmp_path / "link").symlink_to(tmp_path / "k")
    copy = copy_of(tmp_path / "link")
    for folder in (tmp_path / "link", tmp_path / "k", copy):
        goes_on(folder, make, f"new-{folder.name}")


def purged(registry):
    with registry.writing("ann"):
        return registry.purge("law", "ann")


@pytest.mark.parametrize("where", ["url", "relative", "link", "inside"])
def test_nothing_is_purged_while_the_objects_are_away(make, tmp_path, monkeypatch, where):
    """An empty place, as of a disk that is not mounted, looks as if all were deleted there."""
    folder, elsewhere, away = tmp_path / "k", tmp_path / "disk", tmp_path / "away"
    url = {"url": f"file://{elsewhere}", "relative": "../disk"}.get(where)
    with make.store(folder, objects_url=url) as registry:
        if where == "link":
            (folder / "objects").rename(elsewhere)
            (folder / "objects").symlink_to(elsewhere)
        registry.objects.put_bytes(b"background")
        make.grow(registry, "law")
        with registry.writing("ann"):
            registry.roll_back_domain("law", None, "ann")
    place = folder / "objects" if where == "inside" else elsewhere
    place.rename(away)
    place.mkdir()
    monkeypatch.chdir(away)
    with Registry.open(folder) as registry:
        for act in (
            lambda: purged(registry),
            lambda: registry.doctor(repair=True),
            *([] if where == "inside" else [lambda: registry.doctor(take_over=True)]),
        ):
            with pytest.raises(
                StateError, match=r"none of the objects of .* is at .*disk is there"
            ):
                act()
        assert not list(place.iterdir())
        place.rmdir()
        away.rename(place)
        assert "object missing" not in {item.kind for item in registry.doctor(repair=True)}
        assert purged(registry).num_objects > 0


def test_objects_on_another_disk_can_be_read_and_nothing_is_written(make, tmp_path):
    if disk_of(Path("/dev/shm")) == disk_of(tmp_path):
        pytest.skip(f"/dev/shm and {tmp_path} are one disk here")
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        shutil.move(tmp_path / "k" / "objects", other)
        (tmp_path / "k" / "objects").symlink_to(Path(other) / "objects")
        with Registry.open(tmp_path / "k") as registry:
            assert "object missing" not in {item.kind for item in registry.doctor()}
            with pytest.raises(StateError, match=r"is on another disk than .*put both on one disk"):
                registry.doctor(repair=True)

"""Objects in a file system that remembers its listings for ever, as S3's does."""

import contextlib

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from peer_cl.errors import DamageError, StateError
from stores import Registry


class Bucket(MemoryFileSystem):
    """Every instance is as a process of its own: what it has listed once, it never lists again."""

    protocol = "bucket"
    cachable = False
    is_broken = False

    def find(self, path, **kwargs):
        if self.is_broken:
            raise ConnectionError("the wire\nis cut")
        return super().find(path, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        found = self.dircache.get(path) or super().ls(path, detail=True)
        self.dircache[path] = found
        return found if detail else [about["name"] for about in found]

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        listed = self.dircache.get(self._parent(path))
        if listed is None:
            return super().info(path)
        for about in listed:
            if about["name"] == path:
                return about
        raise FileNotFoundError(path)

    def exists(self, path, **kwargs):
        with contextlib.suppress(FileNotFoundError):
            return bool(self.info(path))
        return False

    def invalidate_cache(self, path=None):
        self.dircache.clear()


@pytest.fixture(params=["as it is opened", "as others open it"])
def folder(request, make, tmp_path, monkeypatch):
    """A store whose objects lie in a bucket, with one domain, closed."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    monkeypatch.setattr("stores.objects.SCHEMES", ("bucket",))
    if request.param == "as others open it":
        opened = lambda url: (Bucket(), f"/{url.removeprefix('bucket://')}")  # noqa: E731
        monkeypatch.setattr("stores.objects._open_remote", opened)
    with make.store(tmp_path / "k", objects_url=f"bucket://{tmp_path.name}/k") as registry:
        registry.objects.put_bytes(b"background")
        make.grow(registry, "law", size_bytes=41)
    return tmp_path / "k"


def test_what_another_process_put_is_seen(folder, make):
    with Registry.open(folder) as dashboard:
        assert dashboard.glance() == ()
        with Registry.open(folder) as job:
            texts = [f"text {number}" for number in range(300)]
            make.grow(job, "medicine", texts=texts, size_bytes=46)
            pool = job.domain("medicine").versions[0].pool_object
        assert dashboard.objects.exists(pool)
        assert dashboard.objects.size(pool)
        assert dashboard.glance() == ()
        assert [item.kind for item in dashboard.doctor()] == ["index missing"]
        with dashboard.writing("ann"):
            dashboard.roll_back_domain("medicine", None, "ann")
            assert dashboard.purge("medicine", "ann").num_objects == 302
        with Registry.open(folder) as job:
            assert not job.objects.exists(pool)
            with pytest.raises(DamageError, match="is missing"):
                job.objects.read(pool)
            assert [item.kind for item in job.doctor()] == ["index missing"]


def test_a_bucket_that_fails_is_told_in_one_line_and_a_purge_is_finished_later(folder, monkeypatch):
    with Registry.open(folder) as registry:
        with registry.writing("ann"):
            registry.roll_back_domain("law", None, "ann")
            monkeypatch.setattr(Bucket, "is_broken", True)
            with pytest.raises(StateError, match=r"objects at bucket:.*: the wire is cut; see"):
                registry.purge("law", "ann")
        with pytest.raises(StateError, match="the wire is cut; see to the connection, then run it"):
            registry.doctor()
        monkeypatch.setattr(Bucket, "is_broken", False)
        with registry.writing("ann"):
            assert registry.purge("law", "ann").num_objects == 5
        assert not {item.kind for item in registry.doctor()} - {"index missing"}

"""Objects in a bucket over HTTP, as a server that speaks S3's protocol serves them (moto)."""

import uuid

import boto3
import pytest
from filled_store import filled_store, grow, new_segment, portrait, start
from moto.server import ThreadedMotoServer

from peer_cl.errors import StateError
from stores import Registry
from stores.fsck import check


@pytest.fixture(scope="module")
def port():
    """Of a server on loopback. What lies there outlives its stop: it is this process's."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _, found = running.get_host_and_port()
    running.stop()
    return found


@pytest.fixture
def server(port, monkeypatch):
    """The server, and an empty place in a new bucket of it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield running, f"s3://{bucket}/knowledge"
    running.stop()


def _errors(registry):
    return [one for one in check(registry) if one.severity == "error"]


def test_a_stores_life_in_a_bucket(server, tmp_path):
    _, place = server
    with filled_store(tmp_path / "store", objects_url=place) as registry:
        registry.roll_back_domain("law", None, "ann")
        registry.remove("medicine", "ann")
        registry.purge("medicine", "ann")
        assert not _errors(registry)
    with Registry.open(tmp_path / "store") as registry:
        (document, *_) = registry.queries.documents("law")
        assert registry.queries.document_text(document).startswith("law")
        assert registry.objects.sizes()
    assert not list((tmp_path / "store" / "objects").iterdir())


def test_a_server_that_goes_and_comes_back_loses_nothing(server, port, tmp_path):
    running, place = server
    with filled_store(tmp_path / "store", objects_url=place) as registry:
        before, ready = portrait(registry), new_segment(registry, "minerals")
        running.stop()
        with pytest.raises(StateError, match=f"cannot reach objects at {place}: .*try again"):
            registry.add_segment(ready, "ann")
        again = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        again.start()
        try:
            assert portrait(registry)[1:] == before[1:]
            registry.add_segment(ready, "ann")
            assert len(registry.queries.live().domains) == 3
            assert not _errors(registry)
        finally:
            again.stop()


PUTS = """
import sys
sys.path.append("tests/support")
from filled_store import new_segment
from stores import Registry
with Registry.open(sys.argv[1]) as registry, registry.writing("carla"):
    new_segment(registry, "minerals")
    print("put", flush=True)
    sys.stdin.read()
"""


def test_a_writer_that_is_killed_between_objects_and_rows_stands_in_nobodys_way(server, tmp_path):
    _, place = server
    with filled_store(tmp_path / "store", objects_url=place) as registry:
        before = portrait(registry)
        child = start(PUTS, registry)
        assert child.stdout.readline() == b"put\n"
        child.kill()
        child.communicate()
        assert len(registry.objects.sizes()) > len(before[0]), "objects that no row names"
        assert portrait(registry)[1:] == before[1:]
        assert not _errors(registry)
        grow(registry, "minerals")
        assert len(registry.queries.live().domains) == 3

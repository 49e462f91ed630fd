"""The same registry in PostgreSQL, by URL. Runs where PEER_CL_TEST_POSTGRES names a server."""

import os
import threading
import uuid

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from filled_store import filled_store, grow, new_segment, new_store, score, start
from sqlalchemy import create_engine, make_url, text

from peer_cl.errors import ChangedError, InputError, StateError, StoreLockedError
from stores import NewScore, Registry
from stores.database import postgres_database
from stores.fsck import check
from stores.schema import Base

SERVER = os.environ.get("PEER_CL_TEST_POSTGRES")
needs_server = pytest.mark.skipif(
    not SERVER, reason="PEER_CL_TEST_POSTGRES (the URL of a PostgreSQL server) is not set"
)


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite:///x", "not a url", ""])
def test_other_databases_are_refused(url):
    with pytest.raises(InputError, match=r"database URL cannot be read|SQLite or PostgreSQL, not"):
        postgres_database(url)


@pytest.fixture
def url(monkeypatch):
    """A new, empty database, dropped afterwards; the password is in the environment."""
    server = make_url(SERVER).set(drivername="postgresql+psycopg")
    name = f"peer_cl_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    monkeypatch.setenv("PGPASSWORD", str(server.password))
    plain = server._replace(drivername="postgresql", database=name, password=None)
    yield plain.render_as_string()
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@needs_server
def test_the_migrations_make_exactly_the_schema(url):
    database = postgres_database(url)
    database.upgrade()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


@needs_server
def test_the_whole_life_of_a_domain(url, tmp_path):
    with filled_store(tmp_path / "k", database_url=url) as registry:
        law = registry.queries.live().state("law").version
        score(registry, "law", ["base", law])
        registry.put_evaluation(4, {"figure": 1})
        registry.put_evaluation(4, {"figure": 2})
        assert registry.queries.evaluation(4).report == {"figure": 2}
        documents = registry.queries.documents("law")
        with registry.writing("ann"):
            chain = registry.queries.chain(law)
            gone = documents[3].document_id
            segment = new_segment(registry, "law", chain[0].id)
            registry.replace_segments("law", law, chain[0].id, [segment], [gone], "ann")
        with pytest.raises(StateError, match="bring back erased documents"):
            registry.roll_back(4, "ann")
        registry.switch("freeze", "law", "ann")
        registry.roll_back(4, "ann", with_erased=True)
        registry.roll_back_domain("law", None, "ann")
        registry.remove("law", "ann")
        registry.restore("law", "ann")
        registry.remove("law", "ann")
        summary = registry.queries.domain("law").summary
        assert not summary.is_live
        assert summary.stored_bytes > 0
        run_id = registry.start_run("ingest", "law", "ann")
        registry.update_run(run_id, "training", 1, 2, losses=[(1, 2.0)])
        registry.end_run(run_id, "done")
        result = registry.purge("law", "ann")
        assert (result.num_segments, result.num_documents) == (3, 9)
        assert check(registry) == ()
        actions = [event.action for event in registry.queries.events(domain="law")]
    with Registry.open(tmp_path / "k") as opened:
        assert [event.action for event in opened.queries.events(domain="law")] == actions
        assert [row.domain for row in opened.queries.domains() if row.is_live] == ["medicine"]


@needs_server
def test_one_database_holds_one_store_and_nothing_else(url, tmp_path):
    new_store(tmp_path / "one", database_url=url).close()
    with pytest.raises(StateError, match=r"holds tables .* choose an empty one"):
        new_store(tmp_path / "two", database_url=url)
    Registry.open(tmp_path / "one").close()


HOLDS = """
import sys
from stores import Registry
with Registry.open(sys.argv[1]) as registry, registry.writing("carla"):
    registry.start_run("ingest", "law", "carla")
    print("in", flush=True)
    sys.stdin.read()
"""


@needs_server
def test_one_writer_at_a_time_and_its_end_frees_the_lock(url, tmp_path):
    with new_store(tmp_path / "k", database_url=url) as registry:
        child = start(HOLDS, registry)
        assert child.stdout.readline() == b"in\n"
        with (
            pytest.raises(StoreLockedError, match=r"written by another process; .*peer-cl runs"),
            registry.writing("ann", timeout_seconds=0),
        ):
            pass
        child.kill()
        child.communicate()
        with registry.writing("ann"), registry.writing("ann"):
            grow(registry, "law")
        with pytest.raises(ChangedError, match="changed meanwhile"):
            registry.check_growth("law", None)


def new_score(number):
    return NewScore(subject="base", document_key=f"{number:064x}", log_probs=np.array([-1.0]))


@needs_server
def test_evaluations_may_end_at_once(url, tmp_path):
    new_store(tmp_path / "k", database_url=url).close()
    failed = []

    def evaluate(order):
        try:
            with Registry.open(tmp_path / "k") as registry:
                for _ in range(5):
                    registry.put_scores([new_score(key) for key in order])
                    registry.put_evaluation(1, {"figure": 1})
        except Exception as error:
            failed.append(error)

    orders = (range(300), range(299, -1, -1))
    threads = [threading.Thread(target=evaluate, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Registry.open(tmp_path / "k") as registry:
        assert len(registry.queries.scores("base", [f"{key:064x}" for key in range(300)])) == 300

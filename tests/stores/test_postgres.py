"""The same registry in PostgreSQL, by URL. Runs where PEER_CL_TEST_POSTGRES names a server."""

import dataclasses
import os
import re
import struct
import threading
import time
import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url, text

from peer_cl.errors import InputError, StateError, StoreLockedError, UnknownError
from stores import NewScore, Registry
from stores.database import url_database
from stores.layout import _write_first_rows
from stores.places import check_database_url
from stores.schema import Base
from stores.trusted import trust_database
from stores.upgrades import upgrade

SERVER = os.environ.get("PEER_CL_TEST_POSTGRES")
needs_server = pytest.mark.skipif(
    not SERVER, reason="PEER_CL_TEST_POSTGRES (the URL of a PostgreSQL server) is not set"
)


@pytest.fixture
def url(monkeypatch, tmp_path):
    """A new, empty database, dropped afterwards; the user's list of databases is a new one."""
    config = str(tmp_path / "config")
    monkeypatch.setattr("stores.trusted.platformdirs.user_config_dir", lambda _: config)
    server = make_url(SERVER).set(drivername="postgresql+psycopg")
    name = f"peer_cl_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite:///x", "not a url", ""])
def test_other_databases_are_refused(url):
    with pytest.raises(InputError):
        url_database(url)


def check_unspoken(url, monkeypatch):
    """Check a database as `init` does; its password is left to the environment."""
    parsed = make_url(url)
    if parsed.password is not None:
        monkeypatch.setenv("PGPASSWORD", str(parsed.password))
    check_database_url(parsed._replace(password=None).render_as_string())


@needs_server
def test_a_database_of_others_is_refused(url, monkeypatch):
    check_unspoken(url, monkeypatch)
    database = url_database(url)
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id integer)"))
    database.close()
    with pytest.raises(StateError, match=r"holds other tables .orders."):
        check_unspoken(url, monkeypatch)


@pytest.fixture
def of_another(url):
    """The database's URL for a user who may log in, and nothing else; dropped before it."""
    user = f"reader_{uuid.uuid4().hex[:8]}"
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE USER {user} PASSWORD 'one'"))
    yield make_url(url).set(username=user, password="one").render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {user}"))
        connection.execute(text(f"DROP USER {user}"))
    engine.dispose()


@needs_server
def test_a_user_who_may_make_no_tables_is_told_before_anything_is_read(of_another, monkeypatch):
    with pytest.raises(StateError, match=r"make no tables.*grant CREATE on the schema"):
        check_unspoken(of_another, monkeypatch)


@needs_server
def test_a_user_who_may_only_read_is_told_which_rights_are_wanted(
    url, of_another, make, tmp_path, monkeypatch
):
    with make.store(tmp_path / "k", database_url=url):
        pass
    user, database = make_url(of_another).username, url_database(url)
    with database.engine.begin() as connection:
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}"))
    database.close()
    reader = url_database(of_another)
    with reader.reading() as session:
        assert session.execute(text("SELECT count(*) FROM lease")).scalar_one() == 1
    with (
        pytest.raises(StateError, match=r"permission denied for table.*grant your user SELECT"),
        reader.writing() as session,
    ):
        session.execute(text("UPDATE lease SET who='ann'"))
    reader.close()
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for what in ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES", "USAGE ON ALL SEQUENCES"):
            connection.execute(text(f"GRANT {what} IN SCHEMA public TO {user}"))
    engine.dispose()
    with monkeypatch.context() as patched:
        patched.setenv("PGPASSWORD", "one")
        config = (tmp_path / "k" / "store.toml").read_text()
        theirs = make_url(of_another)._replace(password=None).render_as_string()
        toml = re.sub(r'database_url = ".*"', f'database_url = "{theirs}"', config)
        (tmp_path / "k" / "store.toml").write_text(toml)
        trust_database(theirs)
        with Registry.open(tmp_path / "k") as registry:
            make.grow(registry, "law")
            with registry.writing("ann"):
                assert registry.freeze("law", "ann").state("law").is_frozen


@needs_server
def test_the_migrations_make_the_schema(url):
    database = url_database(url)
    assert upgrade(database, None) is True
    assert upgrade(database, None) is False
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


@needs_server
def test_a_domains_whole_life(url, make, tmp_path):
    with make.store(tmp_path / "k", database_url=url) as registry:
        assert not registry.layout.database.exists()
        first = make.grow(registry, "law")
        make.grow(registry, "law", salt="2")
        make.grow(registry, "medicine")
    with Registry.open(tmp_path / "k") as registry, registry.writing("ann"):
        assert len(registry.known_documents("law")) == 6
        registry.freeze("law", "ann")
        assert registry.roll_back_domain("law", "v1", "ann").state("law").label == "v1"
        registry.roll_back_domain("medicine", None, "ann")
        assert registry.purge("medicine", "ann").num_documents == 3
        assert registry.roll_back(first.id, "ann").domains == first.domains
        restore = registry.history()[0]
        assert restore.domain is None
        assert registry.history(domain="law")[0] == restore
        assert restore not in registry.history(domain="medicine")
        (law,) = [one for one in registry.domains() if one.domain == "law"]
        assert law.changed_at == restore.at
        with pytest.raises(UnknownError, match="Did you mean 'medicine'"):
            registry.domain("medcine")
        assert [event.action for event in registry.history()][-1] == "create"
        assert {found.kind for found in registry.doctor()} <= {
            "index missing",
            "object unreferenced",
        }
        score = NewScore(
            subject="base",
            document_key="0" * 64,
            values=struct.pack("<d", -1.0),
            num_tokens=1,
        )
        registry.put_scores([score])
        registry.put_scores([score])
        assert registry.scores("base", ["0" * 64]) == {"0" * 64: score.values}
        (document, *_) = registry.documents("law", split="test")
        own = {"document_id": document.document_id, "document_key": "1" * 64}
        registry.put_scores([dataclasses.replace(score, **own)])
        assert registry.rename_scores({document.document_id: {"1" * 64: "2" * 64}}) == 1
        assert set(registry.scores("base", ["1" * 64, "2" * 64])) == {"2" * 64}
        registry.roll_back_domain("law", None, "ann")
        assert registry.purge("law", "ann").num_scores == 2
        assert registry.scores("base", ["0" * 64, "2" * 64]) == {}
        registry.put_evaluation(1, {"loss": [1.5]})
        assert registry.evaluation(1) == {"loss": [1.5]}


@needs_server
def test_one_database_holds_one_store(url, make, tmp_path, monkeypatch):
    make.store(tmp_path / "a", database_url=url).close()
    with pytest.raises(StateError, match="holds the registry of store"):
        make.store(tmp_path / "b", database_url=url)
    with pytest.raises(StateError, match="holds a store's registry"):
        check_unspoken(url, monkeypatch)
    assert not (tmp_path / "b" / "store.toml").exists()


@needs_server
def test_of_two_that_make_a_store_in_one_database_at_once_the_second_is_told(url, make, tmp_path):
    """Both find it empty; PostgreSQL lets the second wait, and refuses its rows."""
    first, raised = url_database(url), []

    def make_another():
        try:
            make.store(tmp_path / "b", database_url=url)
        except Exception as error:
            raised.append(error)

    upgrade(first, None)
    second = threading.Thread(target=make_another)
    with first.engine.connect() as watching, first.writing() as session:
        _write_first_rows(session, first, make.config(database_url=url), "ann")
        session.flush()
        second.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while second.is_alive() and not watching.execute(text(waits)).scalar_one():
            time.sleep(0.01)
    second.join()
    first.close()
    assert [type(error) for error in raised] == [StateError]
    assert re.fullmatch(r"another process has just made a store in postgresql.*", str(raised[0]))
    assert not (tmp_path / "b" / "store.toml").exists()


@needs_server
def test_one_writer_at_a_time(url, make, tmp_path):
    make.store(tmp_path / "k", database_url=url).close()
    outcomes = []

    def compete(number):
        with Registry.open(tmp_path / "k") as mine:
            try:
                with mine.writing(f"writer {number}"):
                    make.grow(mine, f"domain-{number}")
                    outcomes.append("won")
            except StoreLockedError:
                outcomes.append("locked")

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Registry.open(tmp_path / "k") as registry:
        assert outcomes.count("won") == len(registry.live().domains) >= 1
    assert len(outcomes) == 4


def at_once(folder, *acts):
    """Do each act on a registry of its own, all at the same moment; return what was raised."""
    start, raised = threading.Barrier(len(acts)), []

    def do(act):
        with Registry.open(folder) as mine:
            start.wait()
            try:
                act(mine)
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=do, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@needs_server
def test_two_evaluations_of_a_snapshot_may_end_at_once(url, make, tmp_path):
    folder = tmp_path / "k"
    with make.store(folder, database_url=url) as registry:
        for _ in range(10):
            snapshot = make.grow(registry, "law", salt=uuid.uuid4().hex)

            def put(mine, snapshot_id=snapshot.id):
                mine.put_evaluation(snapshot_id, {"loss": [1.5]})

            assert at_once(folder, put, put) == []
            assert registry.evaluation(snapshot.id) == {"loss": [1.5]}


@needs_server
def test_the_same_scores_may_be_written_at_once_in_any_order(url, make, tmp_path):
    folder = tmp_path / "k"
    make.store(folder, database_url=url).close()
    for number in range(10):
        keys = [make.sha(f"{number} {one}") for one in range(100)]
        scores = [
            NewScore(subject="base", document_key=key, values=struct.pack("<d", -1.0), num_tokens=1)
            for key in keys
        ]
        written = at_once(
            folder,
            lambda mine, scores=scores: mine.put_scores(scores),
            lambda mine, scores=scores: mine.put_scores(scores[::-1]),
        )
        assert written == []


@needs_server
def test_a_deadlock_is_told_as_one_that_may_be_tried_again(url):
    database = url_database(url)
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE pair (id integer primary key)"))
        connection.execute(text("INSERT INTO pair VALUES (1), (2)"))
    first_locked, raised = threading.Barrier(2), []

    def lock(mine, other):
        try:
            with database.writing() as session:
                query = text("SELECT id FROM pair WHERE id = :id FOR UPDATE")
                session.execute(query, {"id": mine})
                first_locked.wait()
                session.execute(query, {"id": other})
        except StoreLockedError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=lock, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert len(raised) == 1
    assert raised[0].endswith("and the server stopped this one; try again")


@needs_server
def test_a_received_store_is_opened_where_the_user_names_its_database(
    url, make, tmp_path, monkeypatch
):
    make.store(tmp_path / "k", database_url=url).close()
    Registry.open(tmp_path / "k").close()
    (tmp_path / "config" / "databases.txt").write_text("")
    with pytest.raises(StateError, match="which your user has not named"):
        Registry.open(tmp_path / "k")
    monkeypatch.setenv("PEER_CL_TRUST_DATABASE", f"db.example,{make_url(url).host}")
    Registry.open(tmp_path / "k").close()

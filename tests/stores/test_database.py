"""Schema, migration, config and the pages made from them."""

import tomllib

import pytest
import tomli_w
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from filled_store import filled_store, new_config, new_store
from sqlalchemy import text

from peer_cl.errors import DamageError, InputError, StoreFormatError
from stores import Registry, StoreConfig
from stores.database import HEAD, sqlite_database
from stores.schema import Base


def test_the_migrations_make_exactly_the_schema(tmp_path):
    migrated = sqlite_database(tmp_path / "migrated.sqlite")
    migrated.upgrade()
    with migrated.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    migrated.close()


def test_a_registry_of_a_newer_version_is_refused(tmp_path):
    with new_store(tmp_path / "k") as registry, registry.database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(StoreFormatError, match=f"newer than revision {HEAD}, .*0999"):
        Registry.open(tmp_path / "k")


def test_a_registry_that_is_none_is_damaged(tmp_path):
    new_store(tmp_path / "k").close()
    (tmp_path / "k" / "registry.sqlite").write_bytes(b"no database at all, whatever its name says")
    with pytest.raises(DamageError, match=r"registry.sqlite is damaged"):
        Registry.open(tmp_path / "k")


def test_readers_see_one_state_while_others_write(tmp_path):
    with filled_store(tmp_path / "k") as registry, registry.database.reading() as session:
        count = text("SELECT count(*) FROM events")
        before = session.scalar(count)
        registry.switch("freeze", "law", "ann")
        assert session.scalar(count) == before
    with registry.database.reading() as session:
        assert session.scalar(count) == before + 1


# store.toml


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"budget": 0.0}, "budget must lie"),
        ({"capacity": 0}, "capacity must be at least 1"),
        ({"host_layers": (2, 0)}, "ascending and not empty"),
        ({"state_layer": -1}, "within the base's 4 layers"),
        ({"database_url": "postgresql://ann:secret@host/k"}, "PGPASSFILE"),
    ],
)
def test_values_out_of_range_are_refused(change, why):
    with pytest.raises(InputError, match=why):
        new_config(**change)


@pytest.mark.parametrize(
    ("change", "error", "why"),
    [
        ({"format_version": 3}, StoreFormatError, "store format 3, and this version reads 8 only"),
        ({"unheard_of": 1}, DamageError, "damaged"),
        ({"budget": 2.0}, DamageError, "damaged"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, error, why):
    new_config().write(tmp_path)
    values = tomllib.loads((tmp_path / "store.toml").read_text()) | change
    kept = {name: value for name, value in values.items() if value is not None}
    (tmp_path / "store.toml").write_text(tomli_w.dumps(kept))
    with pytest.raises(error, match=why):
        StoreConfig.read(tmp_path)
    (tmp_path / "store.toml").write_bytes(b"\xff = 1")
    with pytest.raises(DamageError, match="restore it from a copy"):
        StoreConfig.read(tmp_path)

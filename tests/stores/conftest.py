import os
import shutil

import pytest
from filled_store import filled_store, new_store

from stores import Registry, database


@pytest.fixture(scope="session", autouse=True)
def not_durable():
    """No test cuts the power, so none waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(database, "_COMPACT_SECONDS", 0)
        patch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, "synchronous = OFF"))
        yield


@pytest.fixture(scope="session")
def folders(not_durable, tmp_path_factory):
    """An empty store and a filled one, to be copied."""
    place = tmp_path_factory.mktemp("stores")
    new_store(place / "empty").close()
    filled_store(place / "filled").close()
    return place


@pytest.fixture
def empty(folders, tmp_path):
    with Registry.open(shutil.copytree(folders / "empty", tmp_path / "knowledge")) as opened:
        yield opened


@pytest.fixture
def registry(folders, tmp_path):
    """Law at v2 (a fact, a question), medicine at v1."""
    with Registry.open(shutil.copytree(folders / "filled", tmp_path / "knowledge")) as opened:
        yield opened

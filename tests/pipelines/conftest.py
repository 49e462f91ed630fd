"""What tests of a store on the tiny base share; each module makes its own store, `made`."""

from __future__ import annotations

import pytest
from tiny_base import copy_store

from pipelines import open_store


@pytest.fixture
def store(made, tmp_path):
    """A copy of the module's store, open; what a test does to it reaches no other."""
    with open_store(copy_store(made, tmp_path), who="ann") as opened:
        yield opened

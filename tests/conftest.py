"""What all tests share. Property tests: new cases at every run by hand, the same ones in CI.

The stores are made once a run; a test that changes one gets a copy.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that meet in tiny products cost the most

import pytest
import torch
from hypothesis import settings
from measured_store import open_measured
from tiny_store import copy_store, make_tiny_store

from peer_cl.devices import pick_device
from peer_cl.errors import CorpusError
from pipelines import init, open_store
from pipelines.packages import fetch

# A busy machine is no failure, so no case has a deadline.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_report_header():
    """Say on which devices tests run: contracts/test_devices.py adds one that is not there."""
    return f"device: {pick_device()}, torch {torch.__version__}"


@pytest.fixture(autouse=True, scope="session")
def own_statistics(tmp_path_factory):
    """Keep the background statistics of tests out of the user's cache."""
    folder = tmp_path_factory.mktemp("statistics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(init, "statistics_cache", lambda: folder)
        yield


@pytest.fixture(scope="session")
def tiny_store(own_statistics, tmp_path_factory):
    """The folder of a store that learned law and medicine; read it only."""
    return make_tiny_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def store(tiny_store, tmp_path):
    """A copy of it, open."""
    with open_store(copy_store(tiny_store, tmp_path), author="ann") as opened:
        yield opened


@pytest.fixture(scope="session")
def measured(tiny_store, tmp_path_factory):
    """A store of three domains, open, and its evaluation's report; read them only."""
    store, report = open_measured(copy_store(tiny_store, tmp_path_factory.mktemp("measured")))
    with store:
        yield store, report


@pytest.fixture
def fetched():
    """Bring packages into the user's cache once; without a package index the test is skipped."""

    def bring(*wanted):
        for package in wanted:
            try:
                fetch(package)
            except CorpusError as error:
                pytest.skip(str(error))

    return bring

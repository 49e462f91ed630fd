"""Where FAISS was left out, it is said before minutes are spent."""

import sys

import pytest
from tiny_base import background, make_tiny_store, tiny_settings

from peer_cl.errors import UnsupportedError
from pipelines import ingest, init, init_store, loading, retraining

TOLD = r'FAISS is not installed, .*`pip install "peer-cl\[cpu\]"`'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"), domains=("law",))


@pytest.fixture
def no_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for module in (init, loading, ingest, retraining):
        loader = "load_base" if module in (init, loading) else "load_store_base"
        monkeypatch.setattr(module, loader, None)  # whatever gets so far fails in another way


@pytest.mark.usefixtures("no_faiss")
def test_no_store_is_made(tmp_path):
    with pytest.raises(UnsupportedError, match=TOLD):
        init_store(tmp_path / "k", base="none", background=background())
    assert not (tmp_path / "k").exists()


@pytest.mark.usefixtures("no_faiss")
def test_a_store_can_be_read_but_neither_loaded_nor_taught(store, tmp_path):
    document = store.registry.documents("law")[0].document_id
    for act in (
        store.load,
        lambda: store.ingest("law", tmp_path / "none.txt", settings=tiny_settings()),
        lambda: store.erase_exact("law", [document]),
    ):
        with pytest.raises(UnsupportedError, match=TOLD):
            act()

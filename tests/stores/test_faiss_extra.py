"""What is said where FAISS was left out."""

import importlib
import sys

import pytest

from peer_cl.errors import UnsupportedError
from stores.faiss_extra import check_faiss, import_faiss

TOLD = r'pip install "peer-cl\[cpu\]"` \(or `peer-cl\[gpu\]`'


def test_it_is_there_in_this_environment():
    check_faiss()
    assert import_faiss().IndexFlatL2(3).ntotal == 0


@pytest.mark.parametrize("module", ["stores.vector_index", "stores.row_index"])
def test_without_it_the_indexes_name_the_extras(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "faiss", None)  # None there: importing it fails
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UnsupportedError, match=TOLD):
        importlib.import_module(module)
    with pytest.raises(UnsupportedError, match=TOLD):
        check_faiss()

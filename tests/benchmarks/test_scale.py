"""Questions to a large store: the whole benchmark in small, in today's shape of a pool."""

import functools

import numpy as np
import pytest
from tiny_base import background, make_tiny_base

from benchmarks import scale
from peer_cl.layer import PoolShape
from pipelines import init_store, open_store


def test_it_fills_a_store_in_the_default_shape_and_times_every_question(tmp_path, monkeypatch):
    base = str(make_tiny_base(tmp_path / "base"))
    monkeypatch.setattr(
        scale, "init_store", functools.partial(init_store, base=base, background=background())
    )
    folder = tmp_path / "store"
    told = ["--segments", "2", "--documents", "12", "--folder", str(folder)]
    found = {one.figure: one.value for one in scale.measure(told)}
    assert len(found) == 12
    assert all(value > 0 for value in found.values())
    with open_store(folder) as store:
        state = store.registry.live().domains[0]
        (document, *others) = store.registry.documents(state.domain)
        assert len(others) == 5
        uses = store.registry.document_uses(document.document_id, [state.version])
    num_rows = PoolShape().num_experts
    assert {len(use.rows) for use in uses} == {round(scale.SHARE_OF_ROWS * num_rows)}


@pytest.mark.parametrize("num_rows", [1, 16, 64, 196, 1024])
def test_a_document_uses_its_share_of_the_rows_of_any_shape(num_rows):
    use = scale._use(np.random.default_rng(0), 3, 2, num_rows)
    each = np.split(use.rows, 2)
    assert all(len(set(rows)) == len(rows) <= num_rows for rows in each)
    assert 0.8 <= len(each[0]) / num_rows < 0.8 + 1 / num_rows
    assert use.documents.tolist() == [0] * len(each[0]) + [1] * len(each[1])

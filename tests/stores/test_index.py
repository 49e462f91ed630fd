"""The index gives exact answers."""

import numpy as np
import pytest
import torch

from peer_cl.errors import InputError, ShapeError
from peer_cl.router import nearest_distances
from stores.index import VectorIndex, kmeans


def vectors(num, width=24, seed=0):
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


@pytest.fixture
def sets():
    return {name: vectors(num, seed=num) for name, num in (("law", 5), ("art", 1), ("med", 40))}


def test_distances_have_the_same_bits_without_an_index(sets):
    queries = np.concatenate([vectors(50, seed=9), sets["med"]])
    index = VectorIndex(sets)
    assert index.names == ["art", "law", "med"]
    by_hand = nearest_distances(
        torch.from_numpy(queries), [torch.from_numpy(sets[name]) for name in index.names]
    )
    assert np.array_equal(index.distances(queries), by_hand.numpy())
    assert (index.distances(queries)[50:, 2] == 0).all()


def test_no_set_and_no_batch_changes_a_distance(sets):
    queries = vectors(33, seed=9)
    together = VectorIndex(sets).distances(queries)
    for column, name in enumerate(sorted(sets)):
        alone = VectorIndex({name: sets[name]})
        one_by_one = np.concatenate([alone.distances(query[None]) for query in queries])
        assert np.array_equal(one_by_one[:, 0], together[:, column])
    assert VectorIndex(sets).distances(vectors(0)).shape == (0, 3)
    assert VectorIndex().distances(queries).shape == (33, 0)


def test_vectors_that_do_not_fit_are_refused(sets):
    with pytest.raises(ShapeError, match="'wide' have width 3, those of 'art' 24"):
        VectorIndex(sets).add("wide", vectors(2, 3))
    with pytest.raises(InputError, match="not finite"):
        VectorIndex({"law": np.full((1, 2), np.nan, np.float32)})
    with pytest.raises(ShapeError, match="at least 1 rows"):
        VectorIndex({"law": vectors(0)})


def test_kmeans_gives_the_same_bits_and_few_vectors_themselves():
    found = kmeans(vectors(300), 7, seed=1)
    assert found.shape == (7, 24)
    assert np.array_equal(found, kmeans(vectors(300), 7, seed=1))
    few = vectors(3)
    assert np.array_equal(kmeans(np.concatenate([few, few]), 4, 0), np.unique(few, axis=0))

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer_cl.errors import InputError, ShapeError
from stores import vector_index
from stores.index_files import SIGNATURES, load_index, save_index
from stores.vector_index import SignatureIndex, kmeans

TAG = "a" * 64


def vectors(seed, count, width=8):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def brute_force(queries, pools):
    columns = []
    for name in sorted(pools):
        gaps = queries[:, None].astype(np.float64) - pools[name]
        columns.append(np.square(gaps).sum(-1).min(-1))
    return np.stack(columns, 1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    num_queries=st.integers(1, 50),
)
def test_nearest_equals_brute_force(seed, sizes, num_queries):
    pools = {f"p{number}": vectors(seed + number, size) for number, size in enumerate(sizes)}
    queries = vectors(seed + 99, num_queries)
    found = SignatureIndex.build(pools).nearest(queries)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute_force(queries, pools), rtol=1e-5, atol=1e-6)


def test_a_pools_distances_do_not_depend_on_other_pools_or_other_queries():
    pools = {name: vectors(number, 64) for number, name in enumerate("cab")}
    queries = vectors(50, 200)
    together = SignatureIndex.build(pools)
    assert together.names == ("a", "b", "c")
    whole = together.nearest(queries)
    for column, name in enumerate("abc"):
        alone = SignatureIndex.build({name: pools[name]})
        assert np.array_equal(alone.nearest(queries)[:, 0], whole[:, column])
    for rows in (slice(0, 1), slice(5, 24), slice(0, 19)):
        assert np.array_equal(together.nearest(queries[rows]), whole[rows])


def test_a_query_at_a_centroid_is_at_distance_zero_however_far_out():
    far = vectors(1, 30) + 1000
    assert SignatureIndex.build({"a": far}).nearest(far).max() == 0


def test_no_queries_and_no_pools_are_no_error():
    assert SignatureIndex.build({"a": vectors(1, 3)}).nearest(vectors(2, 0)).shape == (0, 1)
    assert SignatureIndex.build({}).nearest(vectors(2, 4)).shape == (4, 0)


def test_a_saved_index_equals_the_live_one(tmp_path):
    index = SignatureIndex.build({"b.1": vectors(1, 9), "a": vectors(2, 5)})
    index.save(tmp_path / "index", TAG)
    loaded = SignatureIndex.load(tmp_path / "index", TAG)
    queries = vectors(3, 40)
    assert loaded.names == index.names
    assert np.array_equal(loaded.nearest(queries), index.nearest(queries))


def test_missing_stale_damaged_and_half_written_give_none(tmp_path):
    assert SignatureIndex.load(tmp_path, TAG) is None
    index = SignatureIndex.build({"a": vectors(1, 9)})
    index.save(tmp_path, TAG)
    assert SignatureIndex.load(tmp_path, "b" * 64) is None
    data, side = tmp_path / "signatures.faiss", tmp_path / "signatures.json"
    good, good_side = data.read_bytes(), side.read_bytes()
    half_side = json.dumps({"tag": TAG}).encode()
    for bad, bad_side in [
        (b"", good_side),
        (good[:-1], good_side),
        (good[:60] + bytes([good[60] ^ 1]) + good[61:], good_side),
        (good, b""),
        (good, b"[]"),
        (good, half_side),
        (good, b"\xff\xfe"),
    ]:
        data.write_bytes(bad)
        side.write_bytes(bad_side)
        assert SignatureIndex.load(tmp_path, TAG) is None
    index.save(tmp_path, TAG)
    assert SignatureIndex.load(tmp_path, TAG) is not None
    side.unlink()
    assert SignatureIndex.load(tmp_path, TAG) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good, details: (b"x" * len(good), details),
        lambda good, details: (b"IwFl" + good[4:], details),  # another kind of index
        lambda good, details: (good[:8] + (2**40).to_bytes(8, "little") + good[16:], details),
        lambda good, details: (
            good[:4] + (-3).to_bytes(4, "little", signed=True) + good[8:],
            details,
        ),
        lambda good, details: (  # each fits, and both together would fill the memory
            good[:4] + (200).to_bytes(4, "little") + (200).to_bytes(8, "little") + good[16:],
            details,
        ),
        lambda good, details: (good, None),
        lambda good, details: (good, [["a"]]),
        lambda good, details: (good, [["a", "many"]]),
        lambda good, details: (good[:10], [["a", 10]]),
    ],
)
def test_of_another_hand_nothing_but_flat_vectors_is_read(tmp_path, spoil):
    """Its hash stands beside it, so a hash that fits proves nothing."""
    SignatureIndex.build({"a": vectors(1, 9)}).save(tmp_path, TAG)
    data, details = load_index(tmp_path, SIGNATURES, TAG)
    assert SignatureIndex.load(tmp_path, TAG) is not None
    data, details = spoil(data, details)
    save_index(tmp_path, SIGNATURES, tag=TAG, data=data, details=details)
    assert SignatureIndex.load(tmp_path, TAG) is None


def test_an_index_knows_whose_vectors_it_holds():
    mine, other = vectors(1, 9), vectors(2, 9)
    index = SignatureIndex.build({"a": mine})
    assert index.holds({"a": mine.copy()})
    for pools in ({"a": other}, {"a": mine[:8]}, {"b": mine}, {"a": mine, "b": mine}, {}):
        assert not index.holds(pools)


FULL_DISK = """
import resource, sys
import numpy as np
from stores.vector_index import SignatureIndex
index = SignatureIndex.build({"a": np.ones((500, 64), dtype=np.float32)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    index.save(sys.argv[1], "b" * 64)
except OSError:
    sys.exit(0)
sys.exit(4)
"""


def test_a_save_that_fails_keeps_the_good_one(tmp_path):
    SignatureIndex.build({"a": vectors(1, 9)}).save(tmp_path, TAG)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], check=False)
    assert done.returncode == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert SignatureIndex.load(tmp_path, TAG) is not None


def test_bad_vectors_are_refused():
    with pytest.raises(ShapeError, match="differ in width"):
        SignatureIndex.build({"a": vectors(1, 3, 4), "b": vectors(1, 3, 5)})
    with pytest.raises(ShapeError, match="pool 'a' must be a matrix of at least 1 rows"):
        SignatureIndex.build({"a": vectors(1, 0)})
    with pytest.raises(ShapeError, match="width 5, pool 'a' has 4"):
        SignatureIndex.build({"a": vectors(1, 3, 4)}).nearest(vectors(1, 3, 5))
    with pytest.raises(InputError, match="not finite"):
        SignatureIndex.build({"a": np.full((2, 2), np.nan, dtype=np.float32)})
    with pytest.raises(InputError, match="k must be at least 1"):
        kmeans(vectors(1, 3), 0, 0)


def test_kmeans_gives_the_same_bits_each_time():
    points = vectors(7, 600, 16)
    first = kmeans(points, 64, seed=3)
    assert first.shape == (64, 16)
    assert first.dtype == np.float32
    assert np.array_equal(first, kmeans(points, 64, seed=3))
    assert not np.array_equal(first, kmeans(points, 64, seed=4))


def test_kmeans_of_many_points_that_are_alike(monkeypatch):
    monkeypatch.setattr(vector_index, "_COMPARED", 7)
    distinct = np.unique(vectors(5, 9, 3), axis=0)
    points = np.tile(distinct, (20, 1))
    assert np.array_equal(kmeans(points, 9, seed=0), distinct)
    assert kmeans(points, 4, seed=0).shape == (4, 3)


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_beats_as_many_of_the_points_themselves(seed):
    points = vectors(9, 500, 4)
    found = brute_force(points, {"found": kmeans(points, 16, seed=seed)}).sum()
    assert found < 0.8 * brute_force(points, {"chosen": points[:16]}).sum()


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 12), k=st.integers(1, 20), copies=st.integers(1, 3))
def test_kmeans_with_fewer_distinct_points_than_k_returns_them(count, k, copies):
    distinct = np.unique(vectors(count, count, 3), axis=0)
    found = kmeans(np.repeat(distinct, copies, axis=0), k, seed=0)
    assert len(found) == min(k, len(distinct))
    if k >= len(distinct):
        assert np.array_equal(found, distinct)


def test_importing_stores_loads_no_faiss_and_no_torch():
    code = (
        "import sys, stores\n"
        "sys.exit(any(name in sys.modules for name in ('faiss', 'torch', 'alembic', 'fsspec')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

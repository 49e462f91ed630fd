"""Pieces side by side: the same scores, from pools that lie in parts of a store."""

import functools
import math
from dataclasses import replace

import pytest
from tiny_stream import tiny_workshop

from benchmarks.stream import pools
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.options import parser
from benchmarks.stream.pieces import Place, learn_pool, pool_stores, tune_pool
from benchmarks.stream.plan import Piece, plan
from benchmarks.stream.raw import RawFolder, sums
from peer_cl.errors import StateError
from pipelines.general import ReaderScorer

PLANNED = functools.partial(plan, seeds=[0], methods=["peer", "lora"], with_tuning=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = tiny_workshop(tmp_path_factory.mktemp("jobs"), most_foreign=2)
    do_missing(shop, PLANNED, math.inf, jobs=2)
    return shop


def test_two_processes_do_every_piece_and_say_what_one_says(shop, tmp_path):
    names = [piece.name for piece in PLANNED(shop)]
    assert all(map(shop.raw.has, names))
    alone = tiny_workshop(tmp_path, most_foreign=2)
    do_missing(alone, functools.partial(PLANNED, methods=["peer"]), math.inf)
    for name in ("peer/s0/0-law", "peer/s0/1-minerals"):
        one, other = (made.raw.read(name)["nats"] for made in (alone, shop))
        assert one.keys() == other.keys()
        for group, nats in one.items():  # threads sum in another order
            assert other[group] == pytest.approx(nats, rel=0.02)


def test_each_process_writes_to_a_part_and_the_mixture_reads_all(shop):
    folders = shop.parts("peer-s0")
    assert folders
    assert all("-part" in folder.name for folder in folders)
    with shop.stores("peer-s0") as stores:
        branches, shortlist = pools.load(stores, shop.names)
    assert tuple(branches.names) == shop.names
    assert set(shortlist.signatures) == set(shop.names)


def test_a_domain_of_two_parts_was_learned_with_the_same_settings(shop):
    with shop.stores("peer-s0") as stores:
        pools.load([*stores, *stores], shop.names)
        other = replace(shop, part="-other")
        settings = replace(shop.settings, row_learning_rate=0.5)
        with other.store("peer-s0") as differing:
            pools.ingest(differing, other.domain("law"), settings, other.progress)
            with pytest.raises(StateError, match=r" and .* learned law with different settings"):
                pools.load([*stores, differing], shop.names)


def test_what_another_process_tuned_is_not_learned_again(tmp_path):
    shop = tiny_workshop(tmp_path, most_foreign=2)
    one, other = (replace(shop, part=f"-part{number}") for number in (1, 2))
    tuned = tune_pool(one, "peer", 0.006, ["law"])
    learned = learn_pool(other, Place("peer", 0, 0, "law"), 0.006)
    with shop.stores("peer-s0") as own, shop.stores(*pool_stores(0, 0.006)) as stores:
        assert [store.registry.live().domains for store in own] == [()]
        branches, _ = pools.load(stores, ["law"])
        assert branches.names == ("law",)
        with pytest.raises(StateError, match="has no law"):
            pools.load(own, ["law"])
    assert learned["learning_rate"] == tuned["learning_rate"] == 0.006


@pytest.mark.parametrize("way", ["learn", "tune"])
def test_what_a_killed_piece_learned_is_not_learned_again(tmp_path, way):
    shop = tiny_workshop(tmp_path, most_foreign=2)
    one, other = (replace(shop, part=f"-part{number}") for number in (1, 2))

    def done(shop):
        if way == "tune":
            return tune_pool(shop, "peer", 0.006, ["law"])
        return learn_pool(shop, Place("peer", 0, 0, "law"), 0.006)["nats"]

    first = done(one)  # and no raw file is written
    assert done(other) == first
    name = pool_stores(0, 0.006)[way == "tune"]
    with other.store(name) as store:
        assert store.registry.live().domains == ()


def test_what_is_scored_is_what_is_mixed_where_two_parts_have_a_domain(tmp_path):
    shop = tiny_workshop(tmp_path, most_foreign=2)
    one, other = (replace(shop, part=f"-part{number}") for number in (1, 2))
    (name, *tuned), law = pool_stores(0, 0.006), shop.domain("law")
    for part, domain in ((other, law), (one, replace(law, documents=law.documents[:20]))):
        with part.store(name) as store:
            pools.ingest(store, domain, shop.settings, shop.progress)
    scored = learn_pool(other, Place("peer", 0, 0, "law"), 0.006)["nats"]
    with shop.stores(name, *tuned) as stores:
        branches, _ = pools.load(stores, ["law"])
        reader = ReaderScorer(functools.partial(branches.branch, "law"))
        mixed = {group: sums(reader.log_probs(rows)) for group, rows in shop.texts.items()}
    assert scored == mixed


def test_a_store_half_copied_is_no_store(tmp_path):
    shop = replace(tiny_workshop(tmp_path), part="-part1")
    half = shop.work / "making-peer-s0-part1"
    half.mkdir(parents=True)
    (half / "store.toml").touch()
    assert shop.parts("peer-s0") == []
    shop.store("peer-s0").close()
    assert shop.parts("peer-s0") == [shop.work / "peer-s0-part1"]
    assert not half.exists()


def test_a_store_that_is_not_there_is_told(shop):
    with shop.stores("peer-s7") as none, pytest.raises(StateError, match="no store with pools"):
        pools.load(none, shop.names)


def _failing(shop):
    def fail(shop):
        raise StateError("the disk is full")

    return [Piece("base", lambda shop: {}), Piece("peer/s0/0-law", fail)]


def test_what_fails_in_a_process_is_told_and_the_rest_is_kept(shop, tmp_path):
    own = tiny_workshop(tmp_path, most_foreign=2)
    own.raw = RawFolder(tmp_path / "other")
    with pytest.raises(StateError, match="the disk is full"):
        do_missing(own, _failing, math.inf, jobs=2)
    assert own.raw.has("base")


def test_no_learning_begins_before_all_is_tuned(shop, tmp_path):
    own = tiny_workshop(tmp_path, most_foreign=2)
    with_tuning = functools.partial(PLANNED, with_tuning=True)
    do_missing(own, with_tuning, 0.0, jobs=2)
    assert own.raw.paths() == []


@pytest.mark.parametrize("said", ["0", "-1", "two"])
def test_a_number_of_processes_is_one_or_more(said, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--jobs", said])
    assert f"'{said}' is no number of processes, 1 or more" in capsys.readouterr().err

"""The stream's pieces of general ability, on a tiny base and sets of a few items."""

import json
from dataclasses import replace

import pytest
from tiny_base import sentences
from tiny_stream import tiny_workshop

from benchmarks.stream import pools, prose
from benchmarks.stream.ability_pieces import (
    items_of,
    read_base_ability,
    read_mixture_ability,
    read_named_ability,
)
from benchmarks.stream.pieces import store_name
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.workshop import Workshop
from peer_cl.errors import InputError
from peer_cl.names import Names
from pipelines.general_tasks import FILES
from pipelines.progress import no_progress


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ability")
    data = folder / "data"
    data.mkdir()
    drawn = [*sentences("law", 6, seed=31), *sentences("prose", 6, seed=31)]
    rows = [{"query": text, "choices": ["rent.", "rain."], "gold": 0} for text in drawn]
    (data / FILES["PIQA"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [" ".join(sentences(subject, 12, seed=32)) for subject in ("law", "prose")]
    rows = [{"context": text, "continuation": " rain"} for text in drawn]
    (data / FILES["LAMBADA"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / FILES["WikiText"]).write_text("\n".join(texts))
    return tiny_workshop(folder, names=("law",), data=data)


def test_the_base_and_our_pools_are_read_item_by_item(shop):
    with shop.store("peer") as store:
        pools.ingest(store, shop.domain("law"), shop.settings, no_progress)
        for task, num in (("PIQA", 12), ("WikiText", 2)):
            before = read_base_ability(shop, task)
            shop.raw.write(f"ability/base/{task}", before)
            after = read_mixture_ability(shop, *pools.load([store], shop.names), task)
            assert 0 < after["num_asked"] < num
            pairs = list(zip(before["items"], after["items"], strict=True))
            assert len(pairs) == num
            assert all(one["key"] == other["key"] for one, other in pairs)
            changed = sum(one["log_probs"] != other["log_probs"] for one, other in pairs)
            assert changed <= after["num_asked"]


def test_where_names_count_only_items_that_name_a_domain_are_read_again(shop):
    with shop.store("peer") as store:
        pools.ingest(store, shop.domain("law"), shop.settings, no_progress)
        branches, shortlist = pools.load([store], shop.names)
        before = read_base_ability(shop, "LAMBADA")
        shop.raw.write("ability/base/LAMBADA", before)
        assert read_named_ability(shop, branches, shortlist, "LAMBADA")["items"] == []
        items = items_of(shop, "LAMBADA")
        # One item's own words as a name of the domain.
        named = items[3]
        names = Names.of([named.context[1:6]])
        told = {"law": replace(shortlist.signatures["law"], names=names)}
        after = read_named_ability(shop, branches, replace(shortlist, signatures=told), "LAMBADA")
    assert [one["key"] for one in after["items"]] == [named.key]
    assert 0 <= after["num_asked"] <= 1


def test_a_stream_may_read_few_items_of_every_public_set(shop):
    few = replace(shop, most_items=3)
    assert items_of(few, "LAMBADA") == items_of(shop, "LAMBADA")[:3]
    assert items_of(few, "LAMBADA", 2) == items_of(shop, "LAMBADA", 2)
    assert items_of(few, "LAMBADA", 5) == items_of(few, "LAMBADA")
    (rows, *_), (wanted, *_) = prose.prose(few).values(), prose.prose(shop).values()
    assert rows == wanted[:3]


def test_prose_by_length_tells_who_is_asked_and_what_it_costs(shop, monkeypatch):
    monkeypatch.setattr(prose, "LONG", (32,))
    monkeypatch.setattr(prose, "MOST", {128: 10, 32: 4})
    monkeypatch.setattr(prose, "SCORED", {128: 3, 32: 2})
    with shop.store(store_name(0)) as store:
        pools.ingest(store, shop.domain("law"), shop.settings, no_progress)
        raw = prose.read_prose(shop, 0, *pools.load([store], shop.names))
    found = {one.name: one for one in prose.prose_figures(raw, shop.names)}
    assert {"128", "32"} == raw["lengths"].keys()
    assert len(raw["lengths"]["128"]["asked"]["law"]) == 10
    silent = found["ask no pool, 10 documents, prose of 128 tokens, 1 pool (share)"]
    assert 0 < silent.value < 1, "passages on rain ask nobody, those on law their pool"
    for length, num in (("128", 3), ("32", 2)):
        worst = found[
            f"worst added loss of {num} documents, prose of {length} tokens, 1 pool (nats)"
        ]
        assert worst.value <= worst.at_most + 2e-4


def test_without_a_folder_of_sets_it_says_what_is_missing(tmp_path):
    shop = Workshop(raw=RawFolder(tmp_path), work=tmp_path, names=())
    with pytest.raises(InputError, match="name their folder with --data"):
        items_of(shop, "PIQA")
    with pytest.raises(InputError, match="name their folder, --data"):
        prose.prose(shop)

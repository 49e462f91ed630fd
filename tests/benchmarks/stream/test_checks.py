"""A run refuses what does not fit together, and its figures are those of whole seeds."""

import dataclasses
import json

import pytest
import torch
from tiny_base import without_words
from tiny_stream import SETTINGS, tiny_workshop

from benchmarks.stream import checks, corpora, jobs, pools, run, workshop
from benchmarks.stream.ability_figures import abilities
from benchmarks.stream.keeping import put_adapter, save_tensors
from benchmarks.stream.matrices import per_token
from benchmarks.stream.methods.dense import WEIGHTS, Lora
from benchmarks.stream.mixing import gated
from benchmarks.stream.plan import plan
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import Line, averaged
from benchmarks.stream.seeds import Measured, over_seeds
from peer_cl.errors import DamageError, StateError
from pipelines import fact_rows
from pipelines.general_tasks import FILES
from pipelines.progress import no_progress


def no_foreign(tokenizer, names, most):
    return {}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    settings = dataclasses.replace(SETTINGS, text_passes=1.0)
    return tiny_workshop(tmp_path_factory.mktemp("checks"), foreign=no_foreign, settings=settings)


@pytest.fixture
def shop(made, tmp_path):
    """The same stream with nothing done yet."""
    return dataclasses.replace(made, raw=RawFolder(tmp_path / "raw"), work=tmp_path / "work")


def test_a_live_domain_must_have_been_learned_as_is_wanted(made):
    with made.store("peer") as store:
        seconds = pools.ingest(store, made.domain("law"), made.settings, no_progress)
        again = pools.ingest(store, made.domain("law"), made.settings, no_progress)
        assert 0 < again <= seconds
        other = dataclasses.replace(made.settings, row_learning_rate=0.5)
        wanted = r"law was learned with row_learning_rate 0.006, not 0.5: remove .*peer "
        with pytest.raises(StateError, match=wanted):
            pools.ingest(store, made.domain("law"), other, no_progress)
        other = dataclasses.replace(made.settings, hold_out_percent=50)
        with pytest.raises(StateError, match=r"with hold_out_percent 23\.0, not 50"):
            pools.ingest(store, made.domain("law"), other, no_progress)
        with pytest.raises(StateError, match="has no minerals"):
            pools.load([store], made.names)


def test_a_store_of_other_host_layers_is_refused_by_name(shop):
    shop.store("peer").close()
    other = dataclasses.replace(shop, host_layers=(1, 3))
    wanted = r"peer has host layers \[0, 1, 2, 3\], not \[1, 3\]: remove it and .*empty-16-1-3"
    with pytest.raises(StateError, match=wanted):
        other.store("peer")


def test_a_store_of_before_words_counted_is_refused_by_name(shop):
    shop.store("peer").close()
    without_words(shop.work / "peer", only_marks=True)
    with pytest.raises(StateError, match=r"before tokens without a letter were no words: remove"):
        shop.store("peer")
    without_words(shop.work / "peer")
    with pytest.raises(StateError, match=r"peer was made before words counted: remove it and"):
        shop.store("peer")


def test_raw_files_of_something_else_are_refused_by_name(shop):
    shop.raw.write("base", {"made_of": shop.made_of("base")})
    checks.check_made_of(shop)
    seeded = shop.with_seed(5)
    assert seeded.made_of("peer/s0/0-law") == shop.made_of("peer.s0.0-law")
    shop.raw.write("lora/s0/0-law", {"learning_rate": 1e-3})
    with pytest.raises(StateError, match=r"lora\.s0\.0-law\.json was made of other"):
        jobs.do_missing(shop, lambda shop: [], 1.0)
    with pytest.raises(StateError, match="was made of other"):
        run._told(shop, is_kept=False)
    settings = dataclasses.replace(shop.settings, text_passes=3.0)
    for other in ({"settings": settings}, {"names": ("law",)}):
        for piece in ("base", "peer/s0/0-law", "tune/lora/0.001/law+minerals"):
            assert dataclasses.replace(shop, **other).made_of(piece) != shop.made_of(piece)


def test_changed_wordings_are_part_of_what_a_piece_is_made_of(shop, monkeypatch):
    before = shop.made_of("lora/s0/0-law")
    assert any(row.kind == fact_rows.VARIED for row in shop.prepared["law"].rows)
    frames = tuple(f"{frame} so" for frame in fact_rows.FRAMES)
    monkeypatch.setattr(fact_rows, "FRAMES", frames)
    other = dataclasses.replace(shop)
    assert other.made_of("lora/s0/0-law") != before
    assert other.with_seed(5).made_of("lora/s0/0-law") == other.made_of("lora/s0/0-law")


def test_what_pools_alone_are_told_leaves_the_others_as_they_are(shop):
    settings = dataclasses.replace(shop.settings, kl_weight=0.5)
    other = dataclasses.replace(shop, settings=settings)
    for piece in (
        "base",
        "lora/s0/0-law",
        "tune/lora/0.001/law+minerals",
        "lora-mixture/s0/mixture",
    ):
        assert other.made_of(piece) == shop.made_of(piece)
    for piece in (
        *("peer/s0/0-law", "tune/peer/0.006/law", "peer.s0.mixture", "prose.peer.s0"),
        "lora-mixture-sparing/s0/0-law",
    ):
        assert other.made_of(piece) != shop.made_of(piece)


def test_what_makes_a_rival_is_part_of_what_its_pieces_are_made_of(shop, monkeypatch):
    pieces = ("lora", "lora-mixture", "osf", "lora-replay", "joint", "sparse")
    before = {name: shop.made_of(f"{name}/s0/0-law") for name in pieces}
    assert before["lora"] == before["lora-mixture"]
    assert len(set(before.values())) == len(pieces) - 1
    own = {name: {"changed": 1} for name in workshop.OWN}
    monkeypatch.setattr(workshop, "OWN", own)
    after = {name: shop.made_of(f"{name}/s0/0-law") for name in pieces}
    assert {name for name in pieces if after[name] != before[name]} == own.keys()


def test_pieces_of_one_method_are_of_one_precision(shop):
    told = {"method": "lora", "seed": 0, "precision": "bf16"}
    shop.raw.write("lora/s0/0-law", told)
    shop.raw.write("lora/s1/0-law", told | {"seed": 1, "precision": "fp32"})
    shop.raw.write("osf/s0/0-law", told | {"method": "osf", "precision": "fp32"})
    shop.raw.write("base", {})
    checks.check_precision(shop)
    shop.raw.write("lora/s0/1-minerals", told | {"precision": "fp32"})
    with pytest.raises(
        StateError, match=r"lora of seed 0 was learned partly in bf16 and fp32: rem"
    ):
        checks.check_precision(shop)


def test_the_fewest_steps_count_only_where_a_run_would_have_fewer(shop):
    def made_of(**changes):
        settings = dataclasses.replace(shop.settings, **changes)
        return dataclasses.replace(shop, settings=settings).made_of("peer/s0/0-law")

    assert made_of(least_steps=2) == made_of(least_steps=1)
    assert len({made_of(least_steps=most) for most in (1, 500, 600)}) == 3


def test_a_mixture_whose_parts_are_gone_is_refused_before_training(shop):
    pieces = plan(shop, [0], ["lora-mixture", "peer"], with_tuning=False)
    checks.check_work(shop, pieces)
    shop.raw.write("peer/s0/0-law", {})
    with pytest.raises(StateError, match=r"peer-s0 is gone.*remove .*peer\.s0\."):
        checks.check_work(shop, pieces)
    (shop.work / "peer-s0").mkdir(parents=True)
    (shop.work / "peer-s0" / "store.toml").touch()
    with pytest.raises(StateError, match=r"are gone from .*: remove .*peer\.s0\.0-law\.json"):
        checks.check_work(shop, pieces)


def test_an_adapter_that_is_gone_is_told_before_training(shop):
    pieces = plan(shop, [0], ["lora-mixture"], with_tuning=False)
    shop.raw.write("lora-mixture/s0/1-minerals", {})
    with pytest.raises(StateError, match=r"adapters .* are gone .*remove .*s0\.1-minerals\.json"):
        checks.check_work(shop, pieces)


def test_the_ability_of_a_model_that_is_gone_is_left_out_and_said(shop, capsys):
    with_data = dataclasses.replace(shop, data=shop.work)
    pieces = plan(with_data, [0], ["lora"], with_tuning=False)
    assert checks.within_reach(shop, pieces) == pieces  # it is to be learned first
    (last,) = (one.name for one in pieces if one.name.startswith(f"lora/s0/{len(shop.names) - 1}"))
    shop.raw.write(last, {})
    reached = checks.within_reach(shop, pieces)
    left_out = [piece for piece in pieces if piece not in reached]
    assert [piece.name for piece in left_out] == [f"ability/lora/s0/{task}" for task in FILES]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "lora had learned with seed 0 is gone" in said
    assert "lora.s0.*.json" in said
    (shop.work / "states" / "lora-s0" / str(len(shop.names) - 1)).mkdir(parents=True)
    assert checks.within_reach(shop, pieces) == pieces


def test_a_rate_that_is_taken_is_not_tuned(shop):
    names = [piece.name for piece in plan(shop, [0], ["joint", "lora-replay", "rag"])]
    assert not any(name.startswith("tune/") for name in names)
    names = [piece.name for piece in plan(shop, [0], ["lora", "joint"])]
    assert sum(name.startswith("tune/") for name in names) == 3
    assert "tune/lora/0.001/law+minerals" in names  # a chain: both domains in a row
    names = [piece.name for piece in plan(shop, [0], ["peer"])]
    assert sum(name.startswith("tune/") for name in names) == 3 * 2  # pools begin anew in each


def test_rates_are_looked_at_before_each_piece_that_learns(shop, monkeypatch):
    looked = []
    monkeypatch.setattr(jobs, "check_rates", lambda *_, **__: looked.append(1))
    monkeypatch.setattr(jobs, "check_work", lambda shop, pieces: None)
    pieces = plan(shop, [0], ["lora"])
    quick = [dataclasses.replace(piece, do=lambda shop: {}) for piece in pieces]
    jobs.do_missing(shop, lambda shop: quick, 1.0)
    assert len(looked) == 1 + sum(not piece.tunes for piece in pieces) == 1 + 3
    kept = json.loads(shop.raw.path("lora/s0/0-law").read_text())
    assert kept == {"made_of": shop.made_of("lora/s0/0-law")}


def test_a_quick_run_looks_for_its_own_corpora_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(corpora, "fetch", asked.append)
    monkeypatch.setattr(corpora, "fetch_deb", asked.append)
    assert corpora.missing(("minerals",)) == {}
    assert tuple(asked) == corpora.PACKAGES["minerals"]


def test_seeds_begin_differently_and_damaged_adapters_are_told(made, tmp_path):
    same = [Lora(made.base(), seed=3).parameters()[0].clone() for _ in range(2)]
    assert torch.equal(*same)
    other = Lora(made.base(), seed=4)
    assert not torch.equal(same[0], other.parameters()[0])
    other.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    put_adapter(other.model, tmp_path / WEIGHTS)
    save_tensors({"base_model.model.odd.lora_A.weight": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(DamageError, match="weights are missing or unknown"):
        other.load(tmp_path)


def test_a_gate_without_branches_is_the_base():
    assert gated(torch.tensor([[[-3.0, -2.0]]]), 0.0).tolist() == [-3.0, -2.0]


def test_losses_and_lengths_go_together():
    with pytest.raises(ValueError, match="shorter"):
        per_token([1.0, 2.0], [3])


def test_seeds_are_averaged_and_a_bound_is_held_by_the_worst():
    losses, sizes = [[4.0], [2.0]], (10, 10)
    line = Line("lora", "LoRA", losses, 1.0, 0.5, None, None, 0.4, 0.0, 0.1, 1.0, sizes, 2.0)
    other = dataclasses.replace(line, losses=[[4.0], [3.0]], reworded_after=0.6, worst_added=3.0)
    both = averaged([line, other])
    assert both.losses == [[4.0], [2.5]]
    assert (both.worst_added, both.reworded) == (3.0, None)
    assert both.reworded_after == pytest.approx(0.5)
    found = over_seeds(
        [Measured("worst (nats)", value, at_most=0.02, is_worst=True)] for value in (0.01, 0.03)
    )
    assert [figure.figure for figure in found] == ["worst (nats) (worst of 2 seeds, 0.01-0.03)"]
    assert found[0].holds is False


def test_ability_is_compared_on_the_items_that_were_read(tmp_path):
    raw = RawFolder(tmp_path)
    assert list(abilities(raw, "lora", 0)) == []
    for task in FILES:
        if task == "WikiText":
            base = [
                {"task": task, "key": key, "log_probs": [-4.0], "num_tokens": 2} for key in "ab"
            ]
            after = [{**base[0], "log_probs": [-6.0]}]
        else:
            base = [{"task": task, "key": key, "choice": 0, "is_right": True} for key in "abc"]
            after = [{**base[0], "choice": 1, "is_right": False}, base[1]]
        raw.write(f"ability/base/{task}", {"items": base})
        raw.write(f"ability/lora/s0/{task}", {"items": after})
    found = {one.name.partition(": ")[2]: one.value for one in abilities(raw, "lora", 0)}
    assert found["WikiText, added loss (nats a token)"] == 1.0
    assert found["PIQA, change of accuracy (share)"] == -0.5
    assert found["general ability, items with a verdict"] == 8
    assert found["general ability, items whose verdict or choice changed"] == 4
    low, high = (
        found[f"general ability, the same, {end} end of 95 % (share)"] for end in ("low", "high")
    )
    assert low < -0.5 < high


def test_where_names_count_only_what_names_a_domain_differs(tmp_path):
    raw = RawFolder(tmp_path)
    for task in FILES:
        if task == "WikiText":
            items = [{"task": task, "key": "a", "log_probs": [-4.0], "num_tokens": 2}]
        else:
            items = [{"task": task, "key": key, "choice": 0, "is_right": True} for key in "abc"]
        raw.write(f"ability/base/{task}", {"items": items})
        raw.write(f"ability/peer/s0/{task}", {"items": items, "num_asked": 2})
    assert not any("names count" in one.name for one in abilities(raw, "peer", 0))
    wrong = {"task": "PIQA", "key": "c", "choice": 1, "is_right": False}
    raw.write("ability/peer/s0/PIQA-named", {"items": [wrong], "num_asked": 1})
    found = {one.name: one.value for one in abilities(raw, "peer", 0)}
    said = "ours, names count: general ability, every item, "
    own = {name.removeprefix(said): value for name, value in found.items() if said in name}
    assert own["change of accuracy, all tasks (share)"] == pytest.approx(-1 / 12)
    assert own["items whose verdict or choice changed"] == 1
    assert own["that names a domain"] == own["that names a domain and asks any pool"] == 1
    assert found["ours: general ability, every item, items whose verdict or choice changed"] == 0

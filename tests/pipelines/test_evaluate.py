"""What an evaluation says, against the model itself: two ways to the same figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_base import (
    copy_store,
    make_tiny_store,
    sentences,
    tiny_settings,
    write_corpus,
)

from peer_cl import PoolShape
from peer_cl.errors import InputError
from peer_cl.metrics import kept
from pipelines import TrainingSettings, open_store, tokenise
from pipelines.background import BackgroundSource
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.loading import load_store_base

SETTINGS = TrainingSettings(
    shape=PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16),
    text_passes=3.0,
    fact_passes=40.0,
)
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]
FOREIGN = [
    BackgroundSource("letters", "prose", sentences("prose", 6, seed=3)),
    BackgroundSource("verdicts", "look-alike", sentences("law", 6, seed=4)),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with three domains, one of which was taught facts."""
    folder = tmp_path_factory.mktemp("evaluated")
    with open_store(copy_store(make_tiny_store(folder), tmp_path_factory.mktemp("own"))) as opened:
        corpus = write_corpus(folder / "minerals.jsonl", "minerals")
        opened.ingest("minerals", corpus, facts=FACTS, settings=SETTINGS)
        yield opened


@pytest.fixture(scope="module")
def report(store):
    return store.evaluate(background=FOREIGN)


@pytest.fixture(scope="module")
def loaded(store):
    model, tokenizer = store.load()
    yield model, tokenizer
    model.detach()


def held_out(store, tokenizer, domain):
    documents = store.registry.documents(domain, split="test", kind="text")
    return tokenise(tokenizer, [store.registry.document_text(d) for d in documents])


@torch.no_grad()
def scored(model, rows, **how):
    return [model.score(torch.tensor([row]), **how) for row in rows]


def nats(scores, start=0):
    """Return (base, mixture) losses in nats a token, from a token on."""
    counted = sum(int(s.evidence_BT[:, start:].sum()) for s in scores)
    return (
        -sum(float(s.base_BT[:, start:].sum()) for s in scores) / counted,
        -sum(float(s.mixture_BT[:, start:].sum()) for s in scores) / counted,
    )


def test_identical_is_the_share_that_asks_no_pool(store, report, loaded):
    model, tokenizer = loaded
    for source, row in zip(FOREIGN, report["background"], strict=True):
        scores = scored(model, tokenise(tokenizer, source.documents), ask="context")
        silent = [not bool(s.entries_PBU.any()) for s in scores]
        assert row["identical"] == sum(silent) / len(silent)
    shares = [row["identical"] for row in report["background"]]
    assert shares[0] > shares[1], "the law's own words ask its pool, and prose does not"


def test_of_background_so_many_documents_are_read_so_far(store, report):
    few = store.evaluate(
        background=FOREIGN, with_recall=False, max_documents=2, max_background_tokens=5
    )
    assert [row["documents"] for row in report["background"]] == [6, 6]
    assert [row["cut_documents"] for row in report["background"]] == [0, 0]
    assert [row["documents"] for row in few["background"]] == [2, 2]
    assert [row["cut_documents"] for row in few["background"]] == [2, 2]
    assert few["mixture"] == report["mixture"], "a domain's own documents are all read, and whole"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"max_documents": 0}, "max_documents must be at least 1, not 0"),
        ({"max_background_tokens": 1}, "max_background_tokens must be at least 2, not 1"),
        (
            {"background": [BackgroundSource("letters", "prose", [])]},
            "background source 'letters' has no document: leave it out",
        ),
    ],
)
def test_background_without_a_document_is_refused_before_anything_is_scored(store, how, told):
    with pytest.raises(InputError, match=told):
        store.evaluate(**{"background": FOREIGN} | how)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_losses_and_kept_are_those_of_the_model_with_every_pool_asked(store, report, loaded, place):
    model, tokenizer = loaded
    row = report["mixture"][place]
    scores = scored(model, held_out(store, tokenizer, row["domain"]), ask="all")
    base, mixture = nats(scores)
    assert row["documents"] == len(scores)
    assert row["base_loss_nats"] == pytest.approx(base, rel=1e-6)
    assert row["loss_nats"] == pytest.approx(mixture, rel=1e-6)
    worst = max(float(s.added_nats_B) for s in scores)
    assert row["max_added_nats"] == pytest.approx(worst, abs=1e-5)
    assert row["kept"] == pytest.approx(kept(base, row["forced_loss_nats"], mixture), rel=1e-4)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_asked_and_kept_continuation_are_those_of_the_models_own_shortlist(
    store, report, loaded, place
):
    model, tokenizer = loaded
    row = report["mixture"][place]
    rows = held_out(store, tokenizer, row["domain"])
    own = model.active_pools.index(row["domain"])
    whole = scored(model, rows, ask="context")
    asked = sum(bool(s.entries_PBU[own].any()) for s in whole) / len(rows)
    assert row["asked"] == asked
    base = forced = mixture = 0.0
    for ids in rows:
        half = 1 + (len(ids) - 1) // 2
        given = torch.tensor([half])
        (found,) = scored(model, [ids], ask="context", context_lengths=given)
        base += float(found.base_BT[:, half:].sum())
        mixture += float(found.mixture_BT[:, half:].sum())
        (alone,) = scored(model, [ids], domains=[row["domain"]])
        forced += float(alone.log_probs_QBT[1, :, half:].sum())
    assert row["kept_continuation"] == pytest.approx(kept(-base, -forced, -mixture), rel=1e-4)


def lost(model, rows, name, counts):
    """Return the summed losses of the base and of a pool alone, on the tokens that count."""
    base = alone = 0.0
    for ids, found in zip(rows, scored(model, rows, domains=[name]), strict=True):
        chosen = torch.tensor([counts(token) for token in ids]) & found.evidence_BT[0]
        base -= float(found.log_probs_QBT[0, 0, chosen].sum())
        alone -= float(found.log_probs_QBT[1, 0, chosen].sum())
    return base, alone


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_a_pool_takes_off_the_loss_is_held_against_other_pools_and_stock_words(
    store, report, loaded, place
):
    model, tokenizer = loaded
    row = report["mixture"][place]
    own, rows = row["domain"], held_out(store, tokenizer, row["domain"])
    texts = store.registry.documents(own, split="train", kind="text")
    learned = tokenise(tokenizer, [store.registry.document_text(d) for d in texts])
    stock = {
        token
        for token in range(len(tokenizer))
        if sum(token in ids for ids in learned) > 0.2 * len(learned)
    }
    reductions = {}
    for name in model.active_pools:
        base, alone = lost(model, rows, name, lambda _: True)
        reductions[name] = pytest.approx(1 - alone / base, abs=1e-6)
    assert row["reduction"] == reductions.pop(own)
    assert row["reduction_by_other_pools"] == reductions
    base, alone = lost(model, rows, own, lambda token: token not in stock)
    assert row["reduction_without_stock_words"] == pytest.approx(1 - alone / base, abs=1e-6)


@pytest.mark.parametrize("wording", ["seen", "reworded"])
def test_recall_is_what_greedy_decoding_writes(report, loaded, wording):
    model, tokenizer = loaded
    counts = {"base": 0, "forced": 0, "mixture": 0}
    for fact in FACTS:
        prompt = fact.seen_prompt if wording == "seen" else fact.reworded_prompts[0]
        (ids,) = tokenise(tokenizer, [prompt])
        (whole,) = tokenise(tokenizer, [f"{prompt} {fact.answer}"])
        calls = {
            "base": {"domains": []},
            "forced": {"domains": ["minerals"], "force": True},
            "mixture": {},
        }
        for name, options in calls.items():
            written = model.generate(
                torch.tensor([ids]),
                max_new_tokens=len(whole) - len(ids),
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                **options,
            )
            counts[name] += written[0].tolist() == whole
    (row,) = [row for row in report["recall"] if row["wording"] == wording]
    assert {name: row[name] for name in counts} == {
        name: count / len(FACTS) for name, count in counts.items()
    }
    if wording == "seen":
        assert row["forced"] > row["base"]


@pytest.mark.parametrize("is_purged", [True, False])
def test_earlier_versions_of_a_domain_are_asked_in_no_row(tmp_path, is_purged):
    with open_store(make_tiny_store(tmp_path), who="ann") as store:
        first, *_ = store.registry.documents("law", split="train", kind="text")
        store.erase_exact("law", [first.document_id])
        if is_purged:
            store.purge("law", retired=True)  # with the version that was live when medicine came
        report = store.evaluate(background=False, with_recall=False)
        model, tokenizer = store.load()
        expected = []
        for domains in (["medicine"], ["law", "medicine"]):
            rows = [held_out(store, tokenizer, domain) for domain in report["domains"]]
            expected.append([nats(scored(model, own, domains=domains))[1] for own in rows])
        model.detach()
    assert report["domains"] == ["medicine", "law"], "the law that is live came last"
    base, *rows = report["matrix"]["loss_nats"]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-6)
    # What law gained is no merit of medicine's, which came while an earlier law was on.
    assert report["metrics"]["fwt"] == pytest.approx(base[1] - rows[0][1], rel=1e-6)


def test_what_people_switched_is_no_domains_doing(tmp_path):
    """A later version that was taken back, and a domain that was off when another came."""
    place = make_tiny_store(tmp_path)
    minerals = write_corpus(tmp_path / "minerals.jsonl", "minerals")
    more = write_corpus(tmp_path / "more.jsonl", "law", num=16, seed=5)
    (tmp_path / "again").mkdir()
    reports = []
    for folder in (copy_store(place, tmp_path / "again"), place):
        with open_store(folder, who="ann") as store:
            is_switched = folder == place
            if is_switched:
                store.ingest("law", more, settings=tiny_settings())
                store.disable("medicine")
            store.ingest("minerals", minerals, settings=tiny_settings())
            if is_switched:
                store.enable("medicine")
                store.roll_back("law")
            reports.append(store.evaluate(background=False, with_recall=False))
    plain, switched = reports
    assert switched["domains"] == plain["domains"] == ["law", "medicine", "minerals"]
    for name, rows in plain["matrix"].items():
        assert np.allclose(switched["matrix"][name], rows, rtol=1e-9), name
    assert switched["metrics"] == pytest.approx(plain["metrics"], rel=1e-9)


def test_the_newest_domain_is_told_as_it_came_where_it_is_off_now(tmp_path):
    with open_store(make_tiny_store(tmp_path), who="ann") as store:
        whole = store.evaluate(background=False, with_recall=False)
        store.disable("medicine")
        off = store.evaluate(background=False, with_recall=False)
    base, _, last = off["matrix"]["loss_nats"]
    assert last[1] == pytest.approx(base[1], rel=1e-2), "all of its gain is off"
    figures = "learning_accuracy", "bwt", "fwt"
    assert [off["metrics"][n] for n in figures] == pytest.approx(
        [whole["metrics"][n] for n in figures], abs=1e-3
    )
    assert off["metrics"]["acc"] < whole["metrics"]["acc"]
    assert off["metrics"]["retention"] < 0.9 < whole["metrics"]["retention"]


def test_a_domain_before_which_an_unmeasured_one_came_is_not_charged_with_it(tmp_path):
    place = make_tiny_store(tmp_path, domains=("law",))
    with open_store(place, who="ann") as store:
        unmeasured = replace(tiny_settings(), hold_out_percent=0.0)
        store.ingest("copy", write_corpus(tmp_path / "c.jsonl", "law", seed=9), settings=unmeasured)
        store.ingest(
            "minerals", write_corpus(tmp_path / "m.jsonl", "minerals"), settings=tiny_settings()
        )
        report = store.evaluate(background=False, with_recall=False)
        model, tokenizer = store.load()
        rows = [held_out(store, tokenizer, domain) for domain in report["domains"]]
        wanted = [nats(scored(model, own, domains=["law", "copy"]))[1] for own in rows]
        model.detach()
    assert (report["domains"], report["unmeasured"]) == (["law", "minerals"], ["copy"])
    assert report["matrix"]["before_nats"][1] == pytest.approx(wanted, rel=1e-6)
    assert report["matrix"]["loss_nats"][1] != pytest.approx(wanted, rel=1e-6)


def test_a_document_that_another_domain_learned_is_measured_no_more(tmp_path):
    place = make_tiny_store(tmp_path)
    everything = replace(tiny_settings(), hold_out_percent=0.0)
    with open_store(place, who="ann") as store:
        before = store.evaluate(background=False, with_recall=False)
        held = store.registry.documents("law", split="test", kind="text")
        (first, *others) = [store.registry.document_text(document) for document in held]
        store.ingest("copy", [SourceDocument(first, "Copy", "copy")], settings=everything)
        some = store.evaluate(background=False, with_recall=False)
        again = [SourceDocument(text, "Copy", "copy") for text in others]
        store.ingest("copies", again, settings=everything)
        none = store.evaluate(background=False, with_recall=False)
        store.roll_back("copies", out=True)
        back = store.evaluate(background=False, with_recall=False)
    count = {row["domain"]: row["documents"] for row in before["mixture"]}["law"]
    assert count == len(held) > 1
    assert {row["domain"]: row["documents"] for row in some["mixture"]}["law"] == count - 1
    assert (none["domains"], none["unmeasured"]) == (["medicine"], ["law", "copy", "copies"])
    assert back["mixture"][0]["documents"] == count - 1


def test_a_domain_that_is_off_is_out_of_the_last_row_and_not_of_what_it_cost(tmp_path):
    with open_store(make_tiny_store(tmp_path), who="ann") as store:
        live = store.registry.live()
        store.disable("medicine")
        report = store.evaluate(background=False, with_recall=False)
        model, tokenizer = store.load(live.id)
        rows = [held_out(store, tokenizer, domain) for domain in report["domains"]]
        alone, both = (
            [nats(scored(model, own, domains=domains))[1] for own in rows]
            for domains in (["law"], ["law", "medicine"])
        )
        model.detach()
    assert report["domains"] == ["law", "medicine"]
    assert report["matrix"]["loss_nats"][2] == pytest.approx(alone, rel=1e-6)
    assert report["matrix"]["coming_nats"] == pytest.approx(both, rel=1e-6)


def test_of_a_domain_that_is_off_no_fact_is_asked(tmp_path):
    few = replace(tiny_settings(), text_passes=1.0, fact_passes=1.0)
    with open_store(make_tiny_store(tmp_path, ()), who="ann") as store:
        for name in ("law", "medicine"):
            corpus = write_corpus(tmp_path / f"{name}.jsonl", name, num=20)
            store.ingest(name, corpus, facts=FACTS, settings=few)
        store.disable("law")
        report = store.evaluate(background=False)
    assert report["domains"] == ["law", "medicine"]
    assert {row["domain"] for row in report["recall"]} == {"medicine"}


def test_an_evaluation_that_is_stopped_gives_the_base_back(store, monkeypatch):
    bases = []

    def load(registry):
        bases.append(load_store_base(registry))
        return bases[-1]

    def progress(what, *_):
        if what == "asking facts":
            raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.evaluate.load_store_base", load)
    with pytest.raises(KeyboardInterrupt):
        store.evaluate(progress, background=False)
    (base,) = bases
    assert not any(module._forward_hooks for module in base.model.modules())

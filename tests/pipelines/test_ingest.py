"""From a corpus to a snapshot that knows it, and back, on a tiny base."""

import dataclasses
import logging

import pytest
import torch
from tiny_base import (
    background,
    copy_store,
    make_tiny_base,
    make_tiny_store,
    sentences,
    store_logits,
    tiny_settings,
    write_corpus,
)

from peer_cl.errors import (
    BaseMismatchError,
    CorpusError,
    DamageError,
    FrozenError,
    InputError,
    StateError,
    StoreFormatError,
)
from pipelines import callbacks, init_store, open_store, settings
from pipelines.background import BackgroundSource
from pipelines.batches import tokenise
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.progress import no_progress
from pipelines.writing import write
from stores.vector_index import SignatureIndex

SETTINGS = tiny_settings()
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"))


def bits(store, snapshot_id=None):
    return store_logits(store, "The court held that the fever", snapshot_id)


def test_a_domain_is_learned_and_its_documents_are_kept(store, tmp_path):
    report = store.ingest(
        "minerals", write_corpus(tmp_path / "m.jsonl", "minerals"), facts=FACTS, settings=SETTINGS
    )
    assert report.num_documents["train"] > report.num_documents["test"] > 0
    assert report.label == "v1"
    found = store.registry.documents("minerals", kind="text")
    assert {d.split for d in found} == {"train", "validation", "test"}
    assert len(store.registry.documents("minerals", kind="probe")) == len(FACTS)
    text = store.registry.document_text(found[0])
    assert text.endswith(".")


def test_an_ingest_leaves_the_process_as_it_was(store, tmp_path):
    """Random numbers that the caller draws next, and what Lightning says elsewhere, are as ever."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    before = [logger.level for logger in loggers]
    drawn = torch.random.get_rng_state()
    try:
        for logger in loggers:
            logger.setLevel(logging.INFO)
        corpus = write_corpus(tmp_path / "m.jsonl", "minerals")
        store.ingest("law", corpus, settings=SETTINGS)  # which is loaded: it has a version
        store.load()[0].detach()
        assert [logger.level for logger in loggers] == [logging.INFO, logging.INFO]
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_rolling_back_gives_the_bits_of_the_snapshot_before(store):
    with_both = bits(store)
    past = store.registry.ancestry(store.registry.live().id)
    before = next(s for s in past if s.state("law") and not s.state("medicine"))
    alone = bits(store, before.id)
    store.roll_back("medicine", out=True)
    assert torch.equal(bits(store), alone)
    assert not torch.equal(alone, with_both)
    store.restore(past[-1].id)
    assert torch.equal(bits(store), with_both)


def test_removal_in_any_order_equals_never_ingested(store, made, tmp_path):
    store.roll_back("law", out=True)
    folder = tmp_path / "other"
    folder.mkdir()
    with init_store(
        folder / "knowledge",
        base=str(store.registry.folder.parent / "base"),
        capacity=4,
        background=background(),
    ) as never:
        never.ingest(
            "medicine",
            write_corpus(folder / "medicine.jsonl", "medicine"),
            settings=SETTINGS,
        )
        assert torch.equal(bits(store), bits(never))
        ours = store.registry.chain(store.registry.live().state("medicine").version)
        theirs = never.registry.chain(never.registry.live().state("medicine").version)
        assert [s.pool_object for s in ours] == [s.pool_object for s in theirs]
        assert [s.signature_object for s in ours] == [s.signature_object for s in theirs]


@torch.no_grad()
def scored_by_signature(store, texts):
    """Return what FAISS, asked through the store's model, lets each pool say of each text."""
    model, tokenizer = store.load()
    found = [
        model.score(torch.tensor([ids]), ask="signature") for ids in tokenise(tokenizer, texts)
    ]
    model.detach()
    return found


def test_a_domain_enters_and_speaks_the_same_with_and_without_another(store):
    texts = [*sentences("law", 3, seed=5), *sentences("medicine", 3, seed=5)]
    both = scored_by_signature(store, texts)
    store.roll_back("medicine", out=True)
    alone = scored_by_signature(store, texts)
    assert any(one.entries_PBU.any() for one in alone), "no text asks: nothing is compared"
    for with_it, without in zip(both, alone, strict=True):
        law = with_it.pools.index("law")
        assert without.pools == ("law",)
        assert torch.equal(with_it.entries_PBU[law] > 0, without.entries_PBU[0] > 0)
        assert torch.equal(with_it.log_probs_QBT[1 + law], without.log_probs_QBT[1])
        assert torch.equal(with_it.log_probs_QBT[0], without.log_probs_QBT[0])


def test_no_score_knows_a_later_token_when_faiss_decides_who_is_asked(store):
    model, tokenizer = store.load()
    (ids,) = tokenise(tokenizer, [" ".join(sentences("law", 2, seed=6))])
    row = torch.tensor([ids])
    with torch.no_grad():
        whole = model.score(row, ask="signature")
        assert whole.entries_PBU.any()
        for cut in range(4, len(ids) - 1, 5):
            other = row.clone()
            other[:, cut:] = (other[:, cut:] + 7) % 300
            changed = model.score(other, ask="signature")
            assert torch.equal(changed.mixture_BT[:, :cut], whole.mixture_BT[:, :cut])
    model.detach()


def test_disabling_takes_a_domain_out_and_enabling_brings_it_back(store):
    both = bits(store)
    store.disable("medicine")
    assert not torch.equal(bits(store), both)
    store.enable("medicine")
    assert torch.equal(bits(store), both)


def test_a_domain_that_is_ingested_again_grows_a_segment(store, tmp_path):
    first = store.registry.live().state("law").version
    before = bits(store)
    corpus = write_corpus(tmp_path / "more.jsonl", "law", seed=9)
    report = store.ingest("law", corpus, settings=SETTINGS)
    chain = store.registry.chain(report.version)
    assert chain[0].id == first
    assert len(chain) == 2
    assert not torch.equal(bits(store), before)
    store.roll_back("law", first)
    assert torch.equal(bits(store), before)


def test_documents_are_skipped_in_their_domain_and_learned_in_another(store, tmp_path):
    corpus = write_corpus(tmp_path / "law.jsonl", "law")
    with pytest.raises(CorpusError, match="nothing new for 'law'"):
        store.ingest("law", corpus, settings=SETTINGS)
    report = store.ingest("minerals", corpus, settings=SETTINGS)
    assert report.num_duplicates == 0
    assert report.num_elsewhere == sum(report.num_documents.values())


@pytest.mark.parametrize("ask", ["signature", "context"])
def test_a_loaded_model_is_called_outside_no_grad_too(store, ask):
    model, tokenizer = store.load()
    ids = torch.tensor(tokenise(tokenizer, ["The court held that the tenant owed no rent"]))
    with torch.no_grad():
        expected = model(ids, ask=ask).logits
    assert torch.allclose(model(ids, ask=ask).logits, expected)
    model.detach()


def test_a_fact_that_is_given_twice_and_as_a_document_is_one_fact(store):
    facts = [OWNER.fact(f"house {n}", "rent") for n in range(12)]
    texts = [*sentences("minerals", 4), *(fact.statement for fact in facts)]
    documents = [SourceDocument(text, "a title", "a source") for text in texts]
    report = store.ingest("minerals", documents, facts=[*facts, *facts], settings=SETTINGS)
    assert report.num_duplicates == 2 * len(facts)
    found = store.registry.documents("minerals")
    known = [d for d in found if d.kind == "fact"]
    assert [d.document_id for d in known] == [fact.document("").document_id for fact in facts]
    assert {d.split for d in known} == {"train"}
    assert len([d for d in found if d.kind == "probe"]) == len(facts)


class Killed(BaseException):
    """Raised in the middle of an ingest, as a kill would end it."""


def test_a_killed_ingest_goes_on_from_its_checkpoint_to_the_same_bits(
    store, made, tmp_path, monkeypatch
):
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 5)
    corpus = write_corpus(tmp_path / "m.jsonl", "minerals")

    def learn(where, progress=no_progress):
        report = where.ingest("minerals", corpus, settings=SETTINGS, progress=progress)
        (segment,) = where.registry.chain(report.version)
        return report, segment

    (tmp_path / "whole").mkdir()
    with open_store(copy_store(made, tmp_path / "whole")) as whole:
        expected, expected_segment = learn(whole)
    assert expected.num_steps > 8

    def die(what, done, total, note):
        if (what, done) == ("training", 8):
            raise Killed

    live = store.registry.live()
    with pytest.raises(Killed):
        learn(store, die)
    assert store.registry.live() == live
    staging = store.registry.layout.staging
    assert [path.suffix for path in staging.iterdir()] == [".safetensors"], "states were left"

    steps = []
    found, segment = learn(
        store, lambda what, done, total, note: steps.append(done) if what == "training" else None
    )
    assert steps[0] == 6
    assert found.num_steps == expected.num_steps
    assert found.num_tokens == expected.num_tokens
    assert segment.pool_object == expected_segment.pool_object
    assert segment.signature_object == expected_segment.signature_object
    assert not list(staging.iterdir())


def test_a_checkpoint_of_an_older_recipe_is_not_gone_on_from(store, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "CHECKPOINT_EVERY", 5)
    corpus = write_corpus(tmp_path / "m.jsonl", "minerals")
    steps = []

    def die(what, done, total, note):
        if what == "training":
            steps.append(done)
            if done == 8:
                raise Killed

    for recipe in (settings.RECIPE, settings.RECIPE + 1):
        monkeypatch.setattr(settings, "RECIPE", recipe)
        with pytest.raises(Killed):
            store.ingest("minerals", corpus, settings=SETTINGS, progress=die)
    assert steps == [*range(1, 9), *range(1, 9)]


def test_a_frozen_domain_learns_nothing(store, tmp_path):
    store.freeze("law")
    live = store.registry.live()
    with pytest.raises(FrozenError, match="law"):
        store.ingest("law", write_corpus(tmp_path / "x.jsonl", "law", seed=5), settings=SETTINGS)
    assert store.registry.live() == live


def test_another_base_is_refused_with_both_hashes(store):
    base = store.registry.folder.parent / "base"
    make_tiny_base(base, seed=1)
    with pytest.raises(BaseMismatchError, match=r"weights hash to [0-9a-f]{16}.*[0-9a-f]{16}"):
        store.load()


def test_a_base_that_is_gone_is_told_with_what_to_do(store):
    base = store.registry.folder.parent / "base"
    base.rename(base.with_name("elsewhere"))
    with pytest.raises(StateError, match=rf"stands on {base}, .*put the same model there again"):
        store.load()
    base.symlink_to(base.with_name("elsewhere"))
    store.load()


def test_a_damaged_pool_is_named(store):
    segment = store.registry.chain(store.registry.live().state("law").version)[0]
    path = store.registry.objects.path(segment.pool_object)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(DamageError, match="domain law, version v1"):
        store.load()


@pytest.mark.parametrize("harm", ["missing", "damaged", "stale"])
def test_an_unfit_index_is_rebuilt_and_nothing_else_changes(store, harm):
    expected = bits(store)
    folder, tag = store.registry.layout.index, store.registry.live().index_tag
    assert SignatureIndex.load(folder, tag) is not None
    if harm == "stale":
        SignatureIndex.build({}).save(folder, "another tag")
    for path in folder.iterdir():
        if harm == "missing":
            path.unlink()
        elif harm == "damaged" and path.suffix != ".json":
            path.write_bytes(b"x" + path.read_bytes()[1:])
    assert torch.equal(bits(store), expected)
    assert SignatureIndex.load(folder, tag) is not None


def test_a_load_leaves_no_index_of_what_was_purged_meanwhile(store, monkeypatch):
    for path in store.registry.layout.index.iterdir():
        path.unlink()
    save = SignatureIndex.save

    def purged_meanwhile(index, folder, tag):
        store.roll_back("law", out=True)
        store.purge("law")
        save(index, folder, tag)

    monkeypatch.setattr(SignatureIndex, "save", purged_meanwhile)
    store.load()
    assert store.registry.live().state("law") is None
    assert list(store.registry.layout.index.iterdir()) == []


def test_an_old_snapshot_takes_the_live_ones_index_from_nobody(store):
    before_last = store.registry.live().id
    store.roll_back("law", out=True)
    folder = store.registry.layout.index
    store.load()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert before
    store.load(before_last)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_store_is_not_made_twice(store):
    with pytest.raises(StoreFormatError, match="already"):
        init_store(store.registry.folder)


def test_the_report_holds_what_the_command_promises(store, tmp_path):
    store.ingest(
        "minerals", write_corpus(tmp_path / "m.jsonl", "minerals"), facts=FACTS, settings=SETTINGS
    )
    foreign = [BackgroundSource("letters", "prose", sentences("prose", 12, seed=3))]
    report = store.evaluate(background=foreign)
    domains = ["law", "medicine", "minerals"]
    assert report["domains"] == domains
    losses = report["matrix"]["loss_nats"]
    assert [len(row) for row in losses] == [3] * 4
    assert set(report["metrics"]) == {
        "acc",
        "learning_accuracy",
        "bwt",
        "fwt",
        "forgetting",
        "retention",
    }
    for number in range(3):  # learning a domain lowers its loss
        assert losses[number + 1][number] < losses[number][number]
    bound = report["bound_nats"]
    for row in [*report["mixture"], *report["background"]]:
        assert row["max_added_nats"] <= bound + 1e-9
        assert row["documents"] > 0
    for row in report["mixture"]:
        assert row["forced_loss_nats"] < row["base_loss_nats"]
        assert 0.0 <= row["asked"] <= 1.0
        assert row["loss_nats"] < row["base_loss_nats"]
    assert [row["identical"] for row in report["background"]] == [1.0]
    assert {(r["domain"], r["wording"]) for r in report["recall"]} == {
        ("minerals", "seen"),
        ("minerals", "reworded"),
    }
    assert store.registry.evaluation(report["snapshot"]) == report


def test_an_evaluation_is_derived_from_stored_scores(store, monkeypatch):
    first = store.evaluate(background=False)
    from pipelines import token_scores

    def refuse(*_, **__):
        raise DamageError("a forward was run again")

    monkeypatch.setattr(token_scores, "run_base", refuse)
    assert store.evaluate(background=False) == first


def test_as_evidence_of_one_domain_does_not_depend_on_another(store, made, tmp_path):
    forced = {}
    (tmp_path / "apart").mkdir()
    with open_store(copy_store(made, tmp_path / "apart")) as apart:  # it has scored nothing yet
        apart.roll_back("law", out=True)
        for name, opened in (("both", store), ("alone", apart)):
            report = opened.evaluate(background=False)
            forced[name] = {row["domain"]: row["forced_loss_nats"] for row in report["mixture"]}
    assert set(forced["both"]) == {"law", "medicine"}
    assert forced["alone"] == {"medicine": forced["both"]["medicine"]}


def test_a_domain_without_held_out_texts_is_named_and_does_not_stop_an_evaluation(store):
    few = [SourceDocument(text, "t", "s") for text in sentences("minerals", 2)]
    store.ingest("minerals", few, settings=dataclasses.replace(SETTINGS, text_passes=1.0))
    assert not store.registry.documents("minerals", split="test")
    report = store.evaluate(background=False)
    assert report["domains"] == ["law", "medicine"]
    assert report["unmeasured"] == ["minerals"]
    assert set(report["mixture"][0]["reduction_by_other_pools"]) == {"medicine", "minerals"}
    for domain in report["domains"]:
        store.roll_back(domain, out=True)
    with pytest.raises(StateError, match="no text of minerals is held out"):
        store.evaluate(background=False)


def test_an_evaluation_is_of_the_snapshot_it_began_with(store):
    live = store.registry.live().id

    def meddle(what, done, total, extra):
        if store.registry.live().id == live:
            store.disable("law")

    report = store.evaluate(meddle, background=False)
    assert store.registry.live().id != live
    assert report["snapshot"] == live
    assert store.registry.evaluation(live)["matrix"] == report["matrix"]
    assert store.registry.evaluation(store.registry.live().id) is None
    store.enable("law")
    again = store.evaluate(background=False)
    assert {**again, "snapshot": live} == report


def test_a_copy_of_a_held_out_text_is_held_out_when_a_domain_grows(store):
    registry = store.registry
    held = registry.documents("law", split="test", kind="text")
    copies = [
        SourceDocument(f"{registry.document_text(document)} Indeed.", "copy", "s")
        for document in held
    ]
    trained = [SourceDocument(text, "t", "s") for text in sentences("minerals", 20)]
    store.ingest("law", [*copies, *trained], settings=SETTINGS)
    split = {d.document_id: d.split for d in registry.documents("law")}
    near = {copy.document_id for copy in copies} & set(split)
    assert near
    assert {split[document_id] for document_id in near} == {"test"}


def test_nothing_is_read_past_the_context_of_the_base(tmp_path):
    base = make_tiny_base(tmp_path / "base", context=32)
    long = {
        subject: [" ".join(sentences(subject, 5, seed=n)) for n in range(30)]
        for subject in ("prose", "law")
    }
    documents = [SourceDocument(text, f"t{n}", "s") for n, text in enumerate(long["law"])]
    with init_store(tmp_path / "k", base=str(base), background=long["prose"]) as store:
        store.ingest("law", documents, facts=FACTS, settings=SETTINGS)
        (run,) = store.registry.domain("law").runs
        assert run.config["max_tokens"] == 32
        (tmp_path / "general.txt").write_text(long["prose"][0])
        report = store.evaluate(
            background=[BackgroundSource("letters", "prose", long["prose"][:3])],
            general=tmp_path / "general.txt",
        )
        held = store.registry.documents("law", split="test", kind="text")
        assert report["scored_tokens"] == 32
        assert report["mixture"][0]["cut_documents"] == len(held) > 0
        assert report["background"][0]["cut_documents"] == 3
        trained = store.registry.documents("law", split="train", kind="text")
        store.erase_masked("law", [trained[0].document_id])
        model, tokenizer = store.load()
    prompt = "The court held that"
    num = len(tokenise(tokenizer, [prompt])[0])
    told = f"has {num} tokens and up to 32 new ones are wanted, but the base's context is 32"
    with pytest.raises(InputError, match=told):
        write(model, tokenizer, prompt, domains=["law"], max_new_tokens=32)
    write(model, tokenizer, prompt, domains=["law"], max_new_tokens=32 - num)
    model.detach()


def test_documents_given_as_objects_and_texts_not_kept(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    with init_store(
        tmp_path / "k", base=str(base), background=background(), keep_text=False
    ) as store:
        documents = [SourceDocument(text, "t", "s") for text in sentences("law", 30)]
        store.ingest("law", documents, settings=dataclasses.replace(SETTINGS, text_passes=1.0))
        found = store.registry.documents("law")
        assert found
        assert all(document.text_object is None for document in found)

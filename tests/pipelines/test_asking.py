"""From a text to rows and documents, and back, on a tiny base."""

import dataclasses
import gc
import inspect
import itertools
import json
import math
import statistics
import unicodedata
import weakref

import pytest
import torch
from tiny_base import SUBJECTS, make_tiny_store, tiny_settings, write_corpus

from peer_cl import ExpertPool
from peer_cl.branches import read_states
from peer_cl.errors import InputError, ShapeError, StateError, UnknownError
from peer_cl.names import Names
from peer_cl.shortlist import nearest_distances, token_evidence
from pipelines.batches import tokenise
from pipelines.evaluate import evaluate
from pipelines.experts import DomainExperts, parse_row
from pipelines.holders import document_rows
from pipelines.loading import move
from pipelines.masks import Mask
from pipelines.searching import search
from pipelines.store import Store
from pipelines.tracing import trace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"))


TEXT = SUBJECTS["law"]


def test_a_trace_agrees_with_the_model_s_own_score(store):
    model, tokenizer = store.load()
    found = store.trace(TEXT, model=model, tokenizer=tokenizer, ask="all")
    ids = torch.tensor(tokenise(tokenizer, [TEXT]))
    scores = model.score(ids, ask="all")
    assert found.asked == list(scores.pools) == ["law", "medicine"]
    assert [t.base_log_prob for t in found.tokens] == scores.log_probs_QBT[0, 0, 1:].tolist()
    mixture = torch.tensor([t.log_prob for t in found.tokens], dtype=torch.float64)
    torch.testing.assert_close(mixture, scores.mixture_BT[0, 1:], rtol=1e-9, atol=1e-9)
    weights = scores.weights_QBU[:, 0]
    for place, token in enumerate(found.tokens, start=1):
        assert token.base_weight == pytest.approx(float(weights[0, place]))
        for number, name in enumerate(found.asked, start=1):
            assert token.weights[name] == pytest.approx(float(weights[number, place]))
            evidence = scores.log_probs_QBT[number, 0, place] - scores.log_probs_QBT[0, 0, place]
            assert token.evidence[name] == pytest.approx(float(evidence))
    with torch.no_grad():
        injected = model(ids, ask="all").logits[0, -1].softmax(-1)
    best = injected.topk(5)
    assert [n.probability for n in found.next_injected] == pytest.approx(
        best.values.tolist(), rel=1e-4
    )
    assert found.next_injected[0].text == tokenizer.decode([int(best.indices[0])])
    model.detach()


def test_a_row_s_strength_is_the_length_of_what_it_adds(store):
    """With every other row silent, the layer's output is what the one row adds."""
    model, tokenizer = store.load()
    found = store.trace(TEXT, model=model, tokenizer=tokenizer, domains=["law"])
    (row, *_) = found.tokens[3].rows["law"]
    (segment,) = model.pool("law").chain()
    layer = segment.layer(row.host_layer)
    read = {}

    def watch(_, number, inputs_TD, *__):
        read[number] = inputs_TD

    ids = torch.tensor(tokenise(tokenizer, [TEXT]))
    from peer_cl.branches import default_position_ids, run_base

    with torch.no_grad():
        base = run_base(model.attachment, input_ids=ids, use_cache=False)
        positions = default_position_ids(ids.shape[1], 0, ids.device)
        one = torch.tensor([0])
        model.branch_logits("law", base.tap_BTD, one, ids, None, positions, watch=watch)
        others = torch.arange(len(layer.experts.up_ND)) != row.row
        kept = layer.experts.up_ND.detach().clone()
        layer.experts.up_ND[others] = 0.0
        added = layer(read[row.host_layer])[3]
        layer.experts.up_ND.copy_(kept)
    assert row.strength == pytest.approx(float(added.norm()), rel=1e-4)
    model.detach()


def test_the_shortlist_decides_whom_a_trace_asks(store):
    assert store.trace(SUBJECTS["law"]).asked == ["law"]
    silent = store.trace(SUBJECTS["prose"])
    assert (silent.asked, silent.base_weight, silent.documents) == ([], 1.0, [])
    assert silent.next_base == silent.next_injected


def test_a_learned_document_is_found_first_among_those_its_rows_hold(store):
    model, tokenizer = store.load()
    learned = store.registry.documents("law", split="train")
    first = sum(
        store.trace(
            store.registry.document_text(document),
            model=model,
            tokenizer=tokenizer,
            domains=["law"],
        )
        .documents[0]
        .document_id
        == document.document_id
        for document in learned
    )
    assert first >= 0.9 * len(learned)
    model.detach()


def test_a_document_s_score_has_the_median_of_its_domain_beside_it(store, tmp_path):
    def check():
        model, tokenizer = store.load()
        options = {"model": model, "tokenizer": tokenizer, "domains": ["law"]}
        every = store.search(TEXT, num_documents=9999, **options).documents
        chain = store.registry.domain("law").chain
        num = sum(store.registry.num_learned(segment.id) for segment in chain)
        scores = [one.score for one in every] + [0.0] * (num - len(every))
        assert {one.median for one in every} == {statistics.median(scores)}
        assert store.search(TEXT, num_documents=3, **options).documents == every[:3]
        model.detach()

    check()
    corpus = write_corpus(tmp_path / "more.jsonl", "law", num=20, seed=9)
    store.ingest("law", corpus, settings=tiny_settings())
    check()


@pytest.mark.parametrize("ask", ["trace", "search"])
def test_a_text_that_was_learned_alone_is_found(store, tmp_path, ask):
    (tmp_path / "note.txt").write_text(f"A note on its own. {SUBJECTS['medicine']}")
    store.ingest("law", tmp_path / "note.txt", settings=tiny_settings())
    note = store.registry.documents("law")[-1]
    found = getattr(store, ask)(store.registry.document_text(note), domains="law")
    assert note.document_id in [one.document_id for one in found.documents]
    version = store.registry.live().state("law").version
    weights = [row.weight for row in document_rows(store.registry, note.document_id, [version])]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > weights[-1]


@pytest.mark.parametrize("ask", ["trace", "search"])
def test_a_text_with_accents_taken_apart_is_read_as_texts_are(store, ask):
    apart, composed = (unicodedata.normalize(form, f"{TEXT} café") for form in ("NFD", "NFC"))
    found, expected = (getattr(store, ask)(text, domains="law") for text in (apart, composed))
    assert found.documents == expected.documents
    assert found.rows == expected.rows


def test_a_search_finds_the_rows_that_fire_at_the_tap(store):
    """At the tap base and branch read the same; above it what the pool says moves what is read."""
    model, tokenizer = store.load()
    options = {"model": model, "tokenizer": tokenizer, "domains": ["law"], "num_rows": 9999}
    tap = store.registry.config.host_layers[0]
    found = {r.row: r.weight for r in store.search(TEXT, **options).rows if r.host_layer == tap}
    fired = {
        r.row: r.weight for r in store.trace(TEXT, **options).rows["law"] if r.host_layer == tap
    }
    assert found == pytest.approx(fired, rel=1e-4)
    model.detach()


def test_a_pool_that_was_deleted_leaves_no_place_for_another_ones_centroids(store):
    """Were its tensor gone, the next one might be taken for it: they are told apart by identity."""
    model, _ = store.load()
    gone = weakref.ref(model.pool("medicine").signature.centroids_CD)
    model.delete_pool("medicine")
    gc.collect()
    assert gone() is not None
    vectors_TD = torch.randn(5, gone().shape[1])
    other = model.pool("law").signature.centroids_CD.clone()
    found, expected = model.search(vectors_TD, [other]), nearest_distances(vectors_TD, [other])
    assert torch.equal(found, expected)
    model.detach()


def test_a_pool_that_comes_by_hand_changes_no_other_ones_evidence(store):
    """All were measured in fp32 then, and off the index by some 1e-5: enough at a threshold."""
    model, tokenizer = store.load()
    indexed = [model.pool(name).signature.centroids_CD for name in ("law", "medicine")]
    by_hand = [indexed[0].clone(), torch.randn(7, indexed[0].shape[1])]
    vectors_TD = torch.cat([torch.randn(90, indexed[0].shape[1]), *indexed, 40 + indexed[1]])
    alone = {id(one): model.search(vectors_TD, [one]) for one in (*indexed, *by_hand)}
    for sets in itertools.permutations([*indexed, *by_hand]):
        expected = torch.cat([alone[id(one)] for one in sets], -1)
        assert torch.equal(model.search(vectors_TD, sets), expected)
    assert torch.equal(alone[id(indexed[0])], alone[id(by_hand[0])])
    assert torch.equal(nearest_distances(vectors_TD, indexed), model.search(vectors_TD, indexed))
    before = store.search(TEXT, model=model, tokenizer=tokenizer)
    ids = torch.tensor(tokenise(tokenizer, [TEXT]))
    weights = model.score(ids, ask="signature").weights_QBU[1]
    signature = dataclasses.replace(
        model.pool("law").signature, centroids_CD=by_hand[1], threshold=9e9, words=()
    )
    model.add_pool("hand", ExpertPool("hand", [model.new_segment()], signature))
    states = read_states(model.attachment, ids, torch.ones_like(ids))[1]
    signatures = [model.pool(name).signature for name in ("law", "medicine", "hand")]
    told = [
        token_evidence(
            states,
            ids,
            torch.ones_like(ids).bool(),
            background=model.background,
            signatures=some,
            search=model.search,
        ).log_odds_BTP[..., :2]
        for some in (signatures[:2], signatures)
    ]
    assert torch.equal(*told)
    assert torch.equal(model.score(ids, ask="signature").weights_QBU[2], weights)
    model.delete_pool("hand")
    assert store.search(TEXT, model=model, tokenizer=tokenizer).log_odds == before.log_odds
    model.detach()


@pytest.mark.parametrize("verb", ["trace", "search"])
def test_a_model_may_come_without_its_tokenizer(store, verb):
    model, tokenizer = store.load()
    ask = getattr(store, verb)
    assert ask(TEXT, model=model) == ask(TEXT, model=model, tokenizer=tokenizer)
    model.detach()


def test_a_search_tells_of_a_signature_of_another_width(store):
    model, _ = store.load()
    pool = model.pool("law")
    narrow = pool.signature.centroids_CD[:, :9].clone()
    pool.signature = dataclasses.replace(pool.signature, centroids_CD=narrow)
    for ask in (store.trace, store.search):
        with pytest.raises(ShapeError, match=r"pool 'law' has a signature .*, 9\), .* width 32"):
            ask(TEXT, model=model)
    model.detach()


def test_a_search_puts_the_likeliest_domain_first(store):
    model, tokenizer = store.load()
    for domain in ("law", "medicine"):
        found = store.search(SUBJECTS[domain], model=model, tokenizer=tokenizer)
        assert next(iter(found.log_odds)) == found.documents[0].domain == domain
        assert {item.domain for item in found.documents} == {"law", "medicine"}
    model.detach()


@pytest.mark.parametrize("subject", ["law", "medicine", "prose"])
def test_a_search_tells_how_much_is_missing_until_a_domain_is_asked(store, subject):
    model, tokenizer = store.load()
    found = store.search(SUBJECTS[subject], model=model, tokenizer=tokenizer)
    traced = store.trace(SUBJECTS[subject], model=model, tokenizer=tokenizer)
    assert (found.asked, found.named) == (traced.asked, [])
    for domain, odds in found.log_odds.items():
        assert (odds >= found.needed[domain]) is (domain in traced.asked)
        assert found.needed[domain] >= model.pool(domain).signature.threshold
    model.detach()


def test_a_domain_without_a_signature_or_a_text_of_one_token_needs_what_no_text_has(store):
    model, tokenizer = store.load()
    short = store.search("a", model=model, tokenizer=tokenizer)
    assert (set(short.needed.values()), short.asked) == ({None}, [])
    model.pool("law").signature = None
    found = store.search(TEXT, model=model, tokenizer=tokenizer)
    assert (found.log_odds["law"], found.needed["law"]) == (-math.inf, None)
    model.detach()


def test_a_domain_that_nothing_but_its_name_asks_is_told_apart(store):
    model, tokenizer = store.load()
    model.name_odds = 1.0
    pool = model.pool("law")
    names = Names.of([tokenise(tokenizer, [" quartz"])[0][1:]])
    words = [dataclasses.replace(one, threshold=1e9) for one in pool.signature.words]
    pool.signature = dataclasses.replace(pool.signature, names=names, words=tuple(words))
    found = store.search("hard quartz", model=model, tokenizer=tokenizer)
    assert (found.asked, found.named) == ([], ["law"])
    assert found.needed["law"] == pytest.approx(1e9)
    model.detach()


def test_one_domain_alone_may_be_named_without_a_list(store):
    model, tokenizer = store.load()
    options = {"model": model, "tokenizer": tokenizer}
    found = store.search(TEXT, domains="law", **options)
    assert found == store.search(TEXT, domains=["law"], **options)
    assert set(found.log_odds) == {"law"}
    with pytest.raises(UnknownError, match="no domain 'lav'"):
        store.search(TEXT, domains="lav", **options)
    model.detach()


def test_a_search_changes_nothing(store):
    model, tokenizer = store.load()
    ids = torch.tensor(tokenise(tokenizer, [TEXT]))
    with torch.no_grad():
        before = model(ids).logits
    store.search(TEXT, model=model, tokenizer=tokenizer)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    model.detach()


def test_the_report_on_experts_adds_up(store):
    report = store.experts("law").report(num=4)
    assert {item.host_layer for item in report.layers} == set(store.registry.config.host_layers)
    for item in report.layers:
        assert item.usage == pytest.approx(1 - item.num_dead / item.num_rows)
        assert item.unevenness >= 0
        assert 1 <= item.effective_documents <= item.num_documents
    shares = [expert.weight_share for expert in report.busiest]
    assert shares == sorted(shares, reverse=True)
    numbers = [expert.effective_documents for expert in report.most_specific]
    assert numbers == sorted(numbers)
    for expert in report.busiest:
        assert len(expert.promotes) == 5
        assert {near.domain for near in expert.near} == {"medicine"}
    json.dumps(dataclasses.asdict(report))


def test_what_a_row_promotes_is_its_up_row_through_the_unembedding(store):
    found = store.experts("law")
    expert = found.report(num=1).busiest[0]
    (segment,) = [found._pool(segment) for segment in found.chain]
    up_D = segment.layer(expert.host_layer).experts.up_ND[expert.row]
    best = (found.model.base.lm_head.weight @ up_D).topk(5).indices
    assert expert.promotes == [found.tokenizer.decode([token]) for token in best.tolist()]


def test_a_row_that_is_off_promotes_nothing(store):
    learned = [one for one in store.registry.documents("law") if one.split == "train"]
    version = store.erase_masked("law", [learned[0].document_id]).version
    mask = Mask.from_bytes(
        store.registry.objects.read(store.registry.chain(version)[-1].pool_object)
    )
    (_, layer), (row, *_) = next(iter(mask.rows.items()))
    experts = store.experts("law")
    off, other = (
        experts.row(layer, number, "v1").expert
        for number in (
            row,
            next(n for n in range(64) if n not in mask.rows[learned[0].segment_id, layer]),
        )
    )
    assert (off.is_silent, off.promotes) == (True, [])
    assert (other.is_silent, len(other.promotes)) == (False, 5)


def test_a_row_and_its_documents_point_at_each_other(store):
    document = store.registry.documents("law", split="train")[0]
    rows = document_rows(store.registry, document.document_id, [document.segment_id])
    assert rows == sorted(rows, key=lambda r: -r.specificity)
    detail = store.experts("law").row(rows[0].host_layer, rows[0].row)
    shares = {
        d.document_id: s for d, s in zip(detail.held.documents, detail.held.shares, strict=True)
    }
    assert shares[document.document_id] == pytest.approx(rows[0].share, rel=5e-3)
    assert detail.expert.num_documents == rows[0].num_documents


def test_bad_questions_are_told_plainly(store):
    with pytest.raises(InputError, match="the text is empty"):
        store.trace(" ")
    with pytest.raises(InputError, match="the text is empty"):
        store.search(" ")
    with pytest.raises(InputError, match=r"has \d+ tokens and the base's context is 512"):
        store.trace("rent " * 600)
    with pytest.raises(InputError, match=r"has \d+ tokens and the base's context is 512"):
        store.search("rent " * 600)
    with pytest.raises(UnknownError, match="no domain 'lwa'"):
        store.trace(TEXT, domains=["lwa"])
    with pytest.raises(UnknownError, match="has no rows at layer 99"):
        store.experts("law").report(host_layer=99)
    with pytest.raises(UnknownError, match="no row 64 at layer"):
        store.experts("law").row(store.registry.config.host_layers[0], 64)
    with pytest.raises(UnknownError, match="no live version 'v9'"):
        store.experts("law").row(store.registry.config.host_layers[0], 1, "v9")
    with pytest.raises(UnknownError, match="LAYER:ROW"):
        parse_row("nine")


def test_a_domain_that_may_not_be_asked_is_told_why(store):
    store.disable("law")
    for ask in (
        lambda: store.trace(TEXT, domains=["law"]),
        lambda: store.search(TEXT, domains=["law"]),
        lambda: store.experts("law"),
    ):
        with pytest.raises(StateError, match="is disabled and not asked; `peer-cl enable law`"):
            ask()
    store.roll_back("law", out=True)
    with pytest.raises(StateError, match="it was taken out; `peer-cl bring-back law`"):
        store.experts("law")
    with store.registry.writing("ann"):
        store.registry.purge("law", "ann")
    with pytest.raises(StateError, match="it was purged"):
        store.trace(TEXT, domains=["law"])
    assert store.search(TEXT).documents[0].domain == "medicine"


def test_a_model_of_before_is_asked_of_the_snapshot_that_it_was_loaded_from(store, tmp_path):
    model, tokenizer = store.load()
    then = store.registry.live()
    told = {"model": model, "tokenizer": tokenizer}
    traced = store.trace(TEXT, domains="law", **told)
    searched = store.search(TEXT, **told)
    store.roll_back("law", out=True)
    corpus = write_corpus(tmp_path / "other.jsonl", "minerals", num=6)
    store.ingest("law", corpus, settings=tiny_settings())  # other documents under the name
    again = store.trace(TEXT, domains="law", **told)
    assert (again.snapshot, again.documents) == (then.id, traced.documents)
    found = store.search(TEXT, **told)
    assert (found.snapshot, found.documents) == (then.id, searched.documents)
    assert store.experts("law", **told).snapshot == then

    live = {**told, "snapshot": store.registry.live()}
    mismatch = rf"the model holds version .* as 'law', snapshot {live['snapshot'].id} has "
    for ask in (store.trace, store.search, lambda _, **told: store.experts("law", **told)):
        with pytest.raises(StateError, match=mismatch):
            ask(TEXT, **live)
    move(model, store.registry, then, live["snapshot"])
    assert store.trace(TEXT, domains="law", **told).snapshot == live["snapshot"].id
    model.delete_pool("law")
    model.add_pool("law")
    with pytest.raises(StateError, match="the model holds no version of a store as 'law'"):
        store.search(TEXT, **told)
    model.detach()


@pytest.mark.parametrize(
    ("facade", "verb", "own"),
    [
        (Store.trace, trace, {"store"}),
        (Store.search, search, {"store"}),
        (Store.experts, DomainExperts.__init__, {"store"}),
        (Store.evaluate, evaluate, {"store"}),
    ],
)
def test_a_store_names_the_options_of_its_verbs(facade, verb, own):
    shown, meant = (inspect.signature(one).parameters for one in (facade, verb))
    assert shown.keys() - {"self"} == meant.keys() - {"self"} - own
    for name in shown.keys() - {"self", "max_background_tokens"}:
        assert shown[name].default == meant[name].default

"""Masked and exact erasure on a tiny base: bits, effect, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_base import (
    background,
    make_tiny_base,
    make_tiny_store,
    sentences,
    store_logits,
    tiny_settings,
    write_corpus,
)

from peer_cl import PoolShape
from peer_cl.errors import FrozenError, InputError, StateError, UnknownError, UnsupportedError
from pipelines import TrainingSettings, erasure, erasure_effect, init_store, open_store, tokenise
from pipelines.attribution import row_costs
from pipelines.documents import SourceDocument
from pipelines.erasure_targets import find_targets
from pipelines.facts import Relation
from pipelines.jobs import start_erasure
from pipelines.loading import load_chain, store_identity
from pipelines.masks import Mask
from pipelines.progress import no_progress
from pipelines.verify import verify
from stores.schema import RunRow

SETTINGS = TrainingSettings(
    shape=PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16), text_passes=2.0
)
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]


def texts(subject, num, seed):
    return [SourceDocument(t, f"{subject} {seed}", "s") for t in sentences(subject, num, seed=seed)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store whose law has two segments."""
    place = make_tiny_store(tmp_path_factory.mktemp("erasure"))
    with open_store(place, who="ann") as store:
        store.ingest("law", texts("law", 16, 5), facts=FACTS, settings=SETTINGS)
    return place


def bits(store):
    return store_logits(store, "The court held that the tenant owed no rent")


def chain(store, domain="law"):
    return store.registry.chain(store.registry.live().state(domain).version)


def learned(store, segment=0, kind="text"):
    """Return the ids of the trained documents of one segment of law."""
    wanted = chain(store)[segment].id
    found = store.registry.documents("law", split="train", kind=kind)
    return [document.document_id for document in found if document.segment_id == wanted]


def weights(store, domain="law"):
    registry = store.registry
    loaded = load_chain(registry, domain, chain(store, domain), store_identity(registry))
    return [segment.state_dict() for segment in loaded]


@torch.no_grad()
def forced_loss(store, document_id):
    """Return a document's loss with law's pool alone, nats a token, by the model's own scores."""
    (document,) = [d for d in store.registry.documents("law") if d.document_id == document_id]
    model, tokenizer = store.load()
    ids = torch.tensor(tokenise(tokenizer, [store.registry.document_text(document)]))
    scores = model.score(ids, ask="all")
    law = scores.log_probs_QBT[1 + scores.pools.index("law"), 0, 1:]
    model.detach()
    return -float(law.mean())


# --- which rows -----------------------------------------------------------------------------------


def off(store, version):
    """Return the rows of a version's mask, as (host layer, row)."""
    (mask,) = [s for s in store.registry.chain(version) if s.kind == "mask"]
    rows = Mask.from_bytes(store.registry.objects.read(mask.pool_object)).rows
    return {(layer, row) for (_, layer), found in rows.items() for row in found}


@torch.no_grad()
def test_the_rows_that_go_are_those_that_it_needs_most_to_first_order(store):
    target = learned(store)[0]
    model, tokenizer = store.load()
    (place,) = store.registry.document_places(target)
    ids = torch.tensor(tokenise(tokenizer, [store.registry.document_text(place.document)]))
    first, second = model.pool("law").chain()
    costs = row_costs(model, {"first": first, "second": second}, ids[0].tolist())

    def loss():
        scores = model.score(ids, ask="all")
        return -float(scores.log_probs_QBT[1 + scores.pools.index("law"), 0, 1:].sum())

    def slope(up_ND, row, step):
        kept = up_ND[row].clone()
        up_ND[row] = (1 - step) * kept
        less = loss()
        up_ND[row] = (1 + step) * kept
        more = loss()
        up_ND[row] = kept
        return (less - more) / (2 * step)

    ranked = sorted(
        (
            (float(cost), layer, row)
            for (name, layer), found in costs.items()
            if name == "first"
            for row, cost in enumerate(found)
        ),
        reverse=True,
    )
    smooth = 0
    for cost, layer, row in ranked[:20]:
        up_ND = first.layer(layer).experts.up_ND.data
        slopes = [slope(up_ND, row, step) for step in (0.01, 0.005, 0.0025)]
        # Three that agree: no later layer chooses other rows between, as two jumps can make two.
        if slopes == pytest.approx(slopes[:1] * 3, rel=0.1):
            smooth += 1
            assert slopes == pytest.approx([float(cost)] * 3, rel=0.1)
    assert smooth >= 8
    model.detach()
    report = store.erase_masked("law", [target], num_rows=9)
    assert off(store, report.version) == {(layer, row) for _, layer, row in ranked[:9]}


def test_a_mask_of_the_same_document_again_takes_further_rows(store):
    target = learned(store)[0]
    first = store.erase_masked("law", [target], num_rows=9)
    second = store.erase_masked("law", [target], num_rows=9)
    masks = [s for s in store.registry.chain(second.version) if s.kind == "mask"]
    found = [Mask.from_bytes(store.registry.objects.read(s.pool_object)) for s in masks]
    assert [mask.num_rows for mask in found] == [first.num_rows, second.num_rows] == [9, 9]
    assert found[0].without(found[1].rows) == found[0]
    assert second.effect.documents[0].before_nats == pytest.approx(
        first.effect.documents[0].after_nats
    )


def test_without_texts_the_rows_that_go_are_those_used_much_by_it_and_by_few(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    with init_store(
        tmp_path / "k", base=str(base), background=background(), keep_text=False
    ) as store:
        store.ingest("law", texts("law", 16, 1), settings=SETTINGS)
        target = learned(store)[0]
        version = store.registry.live().state("law").version
        report = store.erase_masked("law", [target], num_rows=9)
        learned_num = store.registry.num_learned(version)
        sharing = {
            (use.host_layer, use.row): use.num_documents
            for use in store.registry.expert_uses([version])
        }
        scores = {
            (use.host_layer, row): weight * math.log(learned_num / sharing[use.host_layer, row])
            for use in store.registry.document_uses(target, [version])
            for row, weight in zip(use.rows.tolist(), use.weights.tolist(), strict=True)
        }
        best = sorted(scores, key=lambda place: -scores[place])[:9]
        assert off(store, report.version) == set(best)


# --- masked ---------------------------------------------------------------------------------------


def test_a_mask_takes_rows_off_and_a_rollback_gives_the_old_bits(store):
    before, old = bits(store), weights(store)
    kept = set(store.registry.objects.ids())
    target = learned(store)[0]
    report = store.erase_masked("law", [target], num_rows=12, why="asked to")
    assert 0 < report.num_rows <= 12
    assert not torch.equal(bits(store), before)
    num_off = 0
    for now, was in zip(weights(store), old, strict=True):
        for name, tensor in now.items():
            changed = (tensor != was[name]).reshape(len(tensor), -1).any(1)
            assert not changed.any() or name.endswith("up_ND")
            assert not tensor[changed].any()
            num_off += int(changed.sum())
    assert 0 < num_off <= report.num_rows, "a row that was zero cannot change"
    event = store.registry.history(1)[0]
    assert (event.action, event.domain, event.why) == ("erase", "law", "asked to")
    mask = chain(store)[-1]
    assert (mask.kind, mask.num_experts, mask.signature_object) == (
        "mask",
        0,
        chain(store)[-2].signature_object,
    )
    assert set(store.registry.objects.ids()) == kept | {mask.pool_object}
    assert store.registry.domain("law").runs[-1].config == {
        "erases": [target],
        "rows": report.num_rows,
        "rows_each": 12,
    }
    assert verify(store).is_good
    place = store.registry.document_places(target)[0]
    assert place.is_live
    store.roll_back("law", mask.parent_id)
    assert torch.equal(bits(store), before)


def test_one_document_may_be_named_without_a_list(store):
    target = learned(store)[0]
    report = store.erase_masked("law", target, num_rows=10)
    assert report.document_ids == (target,)
    (found,) = find_targets(store.registry, document_ids=target[:8])
    assert [document.document_id for document in found.documents] == [target]
    with pytest.raises(UnknownError, match="holds no document 0000"):
        store.erase_exact("law", "0" * 64)
    with pytest.raises(UnknownError, match="no document '000000'"):
        start_erasure(store, "law", "000000")


def test_the_effect_is_measured_on_it_and_on_others(store):
    target = learned(store)[0]
    report = store.erase_masked("law", [target], num_rows=40)
    (own,) = report.effect.documents
    assert own.before_nats < own.base_nats
    assert own.after_nats > own.before_nats
    assert own.removed == pytest.approx(
        (own.after_nats - own.before_nats) / (own.base_nats - own.before_nats)
    )
    assert own.after_nats == pytest.approx(forced_loss(store, target), abs=1e-5)
    effect = report.effect
    assert effect.num_others == 20
    others = sorted(d.document_id for d in store.registry.documents("law", split="train"))
    others = [other for other in others if other != target][:20]
    after = [forced_loss(store, other) for other in others]
    store.roll_back("law", chain(store)[-2].id)
    before = [forced_loss(store, other) for other in others]
    assert own.before_nats == pytest.approx(forced_loss(store, target), abs=1e-5)
    change = np.mean(after) - np.mean(before)
    assert effect.others_change_nats == pytest.approx(change, abs=1e-5)


def test_all_of_a_long_document_is_looked_at_in_pieces(store, monkeypatch):
    read = []
    monkeypatch.setattr(
        erasure, "row_costs", lambda m, s, ids: read.append(ids) or row_costs(m, s, ids)
    )
    for module in (erasure, erasure_effect):
        monkeypatch.setattr(module, "MAX_TOKENS", 6)
    target = learned(store)[0]
    report = store.erase_masked("law", [target], num_rows=40)
    (document,) = [d for d in store.registry.documents("law") if d.document_id == target]
    model, tokenizer = store.load()
    (ids,) = tokenise(tokenizer, [store.registry.document_text(document)])
    assert len(read) > 1
    assert [token for piece in read for token in piece[1:]] == ids[1:]
    (own,) = report.effect.documents
    rows = [torch.tensor([piece]) for piece in read]
    nats = [-float(model.score(row, ask="all").log_probs_QBT[0, 0, 1:].sum()) for row in rows]
    assert own.base_nats == pytest.approx(sum(nats) / (len(ids) - 1), abs=1e-5)
    model.detach()


def test_a_domain_learns_on_top_of_a_mask_and_is_evaluated(store):
    store.erase_masked("law", learned(store)[:2])
    report = store.ingest("law", texts("law", 12, 8), settings=SETTINGS)
    assert [row.kind for row in chain(store)] == ["rows", "rows", "mask", "rows"]
    assert len(weights(store)) == 3
    summary = store.registry.domain("law").summary
    assert summary.num_segments == 3
    assert store.evaluate(background=False, with_recall=False)["domains"]
    assert report.label == "v4"
    assert {f.kind for f in store.registry.doctor() if f.severity == "error"} == set()


def until_none_is_left(store, target):
    for _ in range(1000):
        store.erase_masked("law", [target], num_rows=1000)


def test_what_cannot_be_masked_is_refused_and_changes_nothing(store):
    registry = store.registry
    (held_out, *_) = registry.documents("law", split="test", kind="text")
    (probe, *_) = registry.documents("law", kind="probe")
    target = learned(store)[0]
    live = registry.live()
    for document_id, error, told in (
        (held_out.document_id, StateError, "held out of training .test."),
        (
            probe.document_id,
            InputError,
            "facts asked in other words for 'house 0', which go with it",
        ),
        ("0" * 64, UnknownError, "holds no document 000"),
    ):
        with pytest.raises(error, match=told):
            store.erase_masked("law", [document_id])
    with pytest.raises(InputError, match="at least 1 row of each document, not 0"):
        store.erase_masked("law", [target], num_rows=0)
    with pytest.raises(InputError, match="nothing to erase"):
        store.erase_masked("law", [])
    assert registry.live() == live
    store.freeze("law")
    for act in (store.erase_masked, store.erase_exact):
        with pytest.raises(FrozenError, match="'law' is frozen"):
            act("law", [target])
    store.unfreeze("law")
    store.disable("law")
    with pytest.raises(StateError, match="'law' is disabled"):
        store.erase_masked("law", [target])
    store.enable("law")
    with pytest.raises(StateError, match="has no row of its own that is on"):
        until_none_is_left(store, target)


def test_without_texts_a_mask_holds_but_is_not_measured_and_exact_is_refused(tmp_path):
    base = make_tiny_base(tmp_path / "base")
    with init_store(
        tmp_path / "k", base=str(base), background=background(), keep_text=False
    ) as store:
        store.ingest("law", texts("law", 16, 1), settings=SETTINGS)
        target = learned(store)[0]
        live = store.registry.live()
        with pytest.raises(UnsupportedError, match=r"keeps no texts .--no-keep-text."):
            store.erase_exact("law", [target])
        assert store.registry.live() == live
        report = store.erase_masked("law", [target])
        assert report.num_rows > 0
        assert report.effect is None
        with pytest.raises(StateError, match=r"already; `peer-cl rollback law` takes back all"):
            store.erase_masked("law", [target], num_rows=10_000)


def test_what_reads_rows_goes_on_under_a_mask(store):
    target = learned(store)[0]
    (document,) = store.registry.document_places(target)
    text = store.registry.document_text(document.document)
    before = store.trace(text, domains=["law"])
    store.erase_masked("law", [target])
    after = store.trace(text, domains=["law"])
    assert after.evidence["law"] != before.evidence["law"]
    assert store.search(text, domains=["law"]).documents
    assert store.experts("law").report(1).busiest


# --- exact ----------------------------------------------------------------------------------------


def test_only_the_segment_and_later_ones_are_made_anew(store):
    first, second = chain(store)
    medicine = chain(store, "medicine")
    target = learned(store, segment=1)[0]
    report = store.erase_exact("law", [target])
    assert (report.num_kept, report.num_retrained, report.num_dropped) == (1, 1, 0)
    new = chain(store)
    assert new[0] == first
    assert new[1].parent_id == first.id
    assert new[1].pool_object != second.pool_object
    assert chain(store, "medicine") == medicine
    assert target not in {d.document_id for d in store.registry.documents("law")}
    assert not list(store.registry.layout.staging.iterdir())
    for document in store.registry.documents("law"):
        assert store.registry.document_places(document.document_id)


def test_a_fact_takes_its_questions_along(store):
    fact = FACTS[1].document("").document_id
    report = store.erase_exact("law", [fact])
    assert len(report.document_ids) == 2
    probes = store.registry.documents("law", kind="probe")
    assert len(probes) == len(FACTS) - 1
    assert not any("court" in store.registry.document_text(probe) for probe in probes)


def test_masks_are_chosen_again_as_if_the_document_had_never_come(store, tmp_path):
    early, late, gone = learned(store, 0)[0], *learned(store, 1)[:2]
    store.erase_masked("law", [early, late], num_rows=10)
    report = store.erase_exact("law", [gone])
    assert [row.kind for row in chain(store)] == ["rows", "rows", "mask"]
    assert (report.num_retrained, report.unmasked_ids) == (1, ())
    run = store.registry.domain("law").runs[-1]
    assert (run.config["erases"], run.config["rows_each"]) == ([early, late], 10)
    assert chain(store)[-1].signature_object == chain(store)[1].signature_object
    assert verify(store).is_good
    for document in store.registry.documents("law"):
        store.registry.document_places(document.document_id)

    base = store.registry.config.base_id
    with init_store(tmp_path / "never", base=base, capacity=4, background=background()) as never:
        never.ingest("law", write_corpus(tmp_path / "law.jsonl", "law"), settings=tiny_settings())
        rest = [text for text in texts("law", 16, 5) if text.document_id != gone]
        never.ingest("law", rest, facts=FACTS, settings=SETTINGS)
        never.erase_masked("law", [early, late], num_rows=10)
        for ours, theirs in zip(weights(store), weights(never), strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_mask_of_an_older_version_is_dropped_and_told(store):
    early, late, gone = learned(store, 0)[0], *learned(store, 1)[:2]
    store.erase_masked("law", [early, late], num_rows=10)
    with store.registry._database.writing() as session:
        run = session.get(RunRow, store.registry.domain("law").runs[-1].run_id)
        run.config = {"erases": run.config["erases"], "rows": run.config["rows"]}
    report = store.erase_exact("law", [gone])
    assert [row.kind for row in chain(store)] == ["rows", "rows"]
    assert report.unmasked_ids == tuple(sorted([early, late]))


def test_a_segment_of_which_nothing_is_left_drops_out(store):
    (first, _) = chain(store)
    everything = [
        d.document_id
        for d in store.registry.documents("law")
        if d.segment_id != first.id and d.kind != "probe"
    ]
    report = store.erase_exact("law", everything)
    assert (report.num_kept, report.num_retrained, report.num_dropped) == (1, 0, 1)
    assert [row.id for row in chain(store)] == [first.id]
    result = store.purge("law", retired=True)
    assert result.num_segments == 1
    assert result.num_documents >= len(everything)


def test_a_domain_of_which_nothing_is_left_is_refused(store):
    everything = [d.document_id for d in store.registry.documents("medicine")]
    live = store.registry.live()
    with pytest.raises(StateError, match="peer-cl rollback medicine --out"):
        store.erase_exact("medicine", everything)
    assert store.registry.live() == live


class Killed(BaseException):
    """Raised in the middle of an erasure, as a kill would end it."""


def test_a_killed_erasure_leaves_the_old_snapshot_and_can_be_repeated(store):
    registry = store.registry
    live, before = registry.live(), bits(store)
    target = learned(store, 0)[0]

    def die(what, done, total, note):
        if what == "recording use" and done:
            raise Killed

    with pytest.raises(Killed):
        store.erase_exact("law", [target], die)
    assert registry.live() == live
    assert torch.equal(bits(store), before)
    report = store.erase_exact("law", [target], no_progress)
    assert report.num_retrained == 2
    assert registry.live().id == live.id + 1, "one act, one snapshot"
    store.restore(live.id, with_erased=True)
    assert torch.equal(bits(store), before)


def test_settings_are_those_of_the_run(store, tmp_path):
    settings = dataclasses.replace(SETTINGS, seed=7, text_passes=1.0)
    store.ingest("minerals", texts("minerals", 12, 1), settings=settings)
    (target, *_) = store.registry.documents("minerals", split="train")
    store.erase_exact("minerals", [target.document_id])
    runs = store.registry.domain("minerals").runs
    assert runs[0].config == runs[1].config
    assert runs[1].config["seed"] == 7


@pytest.mark.parametrize("name", ["recipe", "kl_weight"])
def test_a_run_recorded_by_an_older_version_is_refused(store, name):
    with store.registry._database.writing() as session:
        run = session.get(RunRow, store.registry.domain("law").runs[-1].run_id)
        run.config = {key: value for key, value in run.config.items() if key != name}
    live = store.registry.live()
    with pytest.raises(StateError, match=r"law v2 was trained with cannot be read .*take the"):
        store.erase_exact("law", [learned(store, 1)[0]])
    assert store.registry.live() == live


def test_a_domain_is_trained_again_in_the_precision_of_its_run(store, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    settings = dataclasses.replace(SETTINGS, precision="auto", text_passes=1.0)
    store.ingest("minerals", texts("minerals", 12, 1), settings=settings)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # of another machine
    target, *_ = store.registry.documents("minerals", split="train")
    store.erase_exact("minerals", [target.document_id])
    runs = store.registry.domain("minerals").runs
    assert [run.config["precision"] for run in runs] == ["bf16", "bf16"]

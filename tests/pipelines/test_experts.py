"""What items own is read from their experts, and use of shared ones from the recorded weights."""

from itertools import pairwise

import pytest
import torch
from tiny_store import FACTS

from peer_cl.errors import StateError, UnknownError
from peer_cl.own import joined
from pipelines.experts import owned_experts, parse_expert
from pipelines.usage import read_use


@pytest.fixture(scope="module")
def loaded(measured):
    return measured[0].load()


@pytest.fixture(scope="module")
def law(measured, loaded):
    return measured[0].experts("law", model=loaded[0], tokenizer=loaded[1])


@pytest.fixture(scope="module")
def minerals(measured, loaded):
    return measured[0].experts("minerals", model=loaded[0], tokenizer=loaded[1])


def _by_kind(model, domain):
    """Return a pool's own experts, facts' and passages', each as one list."""
    lists = model.pool(domain).own_experts()
    kinds = [[own for own in lists if bool(own.texts) == is_text] for is_text in (False, True)]
    return [joined(own) for own in kinds if own]


def test_an_item_is_shown_with_what_it_owns(measured, minerals):
    registry, lists = measured[0].registry, _by_kind(minerals.model, "minerals")
    learned = registry.queries.documents("minerals", split="train")
    report = minerals.report(num=2)
    assert (report.num_items, len(report.items)) == (len(learned), 2)
    shown = minerals.report(num=99).items
    assert [one.document_id for one in shown] == [i.item_id for own in lists for i in own.items]
    assert {one.statement for one in shown} == {"", *(fact.statement for fact in FACTS)}
    for one in shown:
        own = lists[0 if one.statement else 1]
        assert one.owned.num_experts == len(own.host_layers) * own.num_experts
        assert one.owned.num_host_layers == len(own.host_layers)
        assert owned_experts(registry, registry.queries.places(one.document_id)) == [one.owned]
    (segment,) = registry.queries.domain("minerals").chain
    sizes = registry.objects.sizes()
    stored = [key for kind in ("facts", "passages") for key in segment.objects_of(kind).values()]
    size = sum(sizes[key] for key in stored)
    headers = size - sum(one.owned.size_bytes for one in shown)
    assert 0 < headers < 2048 * len(stored)


def test_an_item_promotes_what_it_writes_and_names_the_most_similar_other(minerals):
    model, left = minerals.model, minerals.report(num=99).items
    for own in _by_kind(model, "minerals"):
        shown, left = left[: len(own.items)], left[len(own.items) :]
        up_ILRD = own.up_ILRD.float()
        added = up_ILRD.sum(2).flatten(1)
        alike = torch.cosine_similarity(added[:, None], added[None], dim=-1)
        alike.fill_diagonal_(-2)
        for place, one in enumerate(shown):
            raised_V = model.base.get_output_embeddings().weight @ up_ILRD[place, -1].sum(0)
            best = raised_V.topk(5).indices.tolist()
            assert one.promotes == [minerals.tokenizer.decode([token]) for token in best]
            nearest = int(alike[place].argmax())
            assert one.nearest.document_id == shown[nearest].document_id
            assert one.nearest.title == shown[nearest].title
            assert one.nearest.similarity == pytest.approx(float(alike[place, nearest]), abs=1e-5)


def test_what_is_held_out_owns_nothing(measured):
    registry = measured[0].registry
    for document in registry.queries.documents("law"):
        owned = owned_experts(registry, registry.queries.places(document.document_id))
        assert bool(owned) == (document.split == "train")


def test_use_by_layer_counts_every_shared_expert(measured, law):
    report = law.report(num=3)
    assert [layer.host_layer for layer in report.layers] == list(law.shared[0].host_layers)
    read = measured[0].registry.objects.read
    shards = [read_use(read(one)) for one in law.shared[0].objects_of("use").values()]
    for layer in report.layers:
        assert layer.num_experts == 2 * 64
        assert layer.num_dead == sum(int((one[layer.host_layer] == 0).sum()) for one in shards)
        assert layer.usage == pytest.approx(1 - layer.num_dead / 128)
    assert [layer.host_layer for layer in law.report(host_layer=2).layers] == [2]


def test_the_busiest_have_the_most_weight(law):
    busiest = law.report(num=5).busiest
    assert all(a.weight_share >= b.weight_share for a, b in pairwise(busiest))
    one = busiest[0]
    assert law.expert(one.host_layer, one.expert) == one
    shares = [law.expert(one.host_layer, expert).weight_share for expert in range(128)]
    assert sum(shares) == pytest.approx(1.0)
    assert max(shares) == one.weight_share


def test_a_shared_expert_promotes_what_it_writes(law):
    expert = law.report(num=1).busiest[0]
    model = law.model
    shard, number = divmod(expert.expert, 64)
    up_D = model.pool("law").chain()[shard].layer(expert.host_layer).experts.up_ND[number]
    raised_V = model.base.get_output_embeddings().weight @ up_D
    best = raised_V.topk(5).indices.tolist()
    assert expert.promotes == [law.tokenizer.decode([token]) for token in best]


def test_an_expert_that_adds_nothing_promotes_nothing(store):
    law = store.experts("law")
    law._loaded[law.chain[0].id][1].layer(1).experts.up_ND[5] = torch.zeros(32)
    assert law.expert(1, 64 + 5).promotes == []
    assert law.expert(1, 5).promotes


def test_mistakes_are_refused(store, law):
    with pytest.raises(UnknownError, match="no shared experts at layer 9; its host layers are 0, "):
        law.report(host_layer=9)
    with pytest.raises(UnknownError, match="no expert 128 at layer 1 of law; it has 0 to 127"):
        law.expert(1, 128)
    with pytest.raises(UnknownError, match="no live version 'v7' with shared experts; it has v1"):
        law.expert(1, 1, "v7")
    with pytest.raises(UnknownError, match="LAYER:EXPERT"):
        parse_expert("9/4")
    store.disable("law")
    with pytest.raises(StateError, match="disabled"):
        store.experts("law")

"""What is recorded of a segment's use equals what a plain loop over the documents finds."""

import pytest
import torch

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.own import joined
from peer_cl.read import token_log_probs
from pipelines.batches import tokenise
from pipelines.growing import shard_of
from pipelines.loading import load_owns, load_shards, load_store_base
from pipelines.usage import read_use


@pytest.fixture(scope="module")
def learned(tiny_store):
    """A store, its base with hooks, and law's segment, shards and training documents."""
    from pipelines import open_store

    with open_store(tiny_store, author="ann") as store:
        registry = store.registry
        base = load_store_base(registry)
        (row,) = registry.queries.domain("law").chain
        (shards,) = load_shards(registry, "law", [row], base.identity)
        found = registry.queries.documents("law", split="train", kind="text")
        yield registry, base, Hooks(base.model), row, shards, found


class Hits:
    """Every (layer, expert, weight) of the shard that one document taught, token by token."""

    def __init__(self, base, hooks, shards, shard, own, ids):
        self.found, self.taught = [], shards[shard]
        ids_1T = torch.tensor([ids])
        items_1T = torch.zeros_like(ids_1T)
        with torch.no_grad():
            base_logits = base.model(input_ids=ids_1T).logits
            with hooks.branch([*shards.values()], self.watch, own=[own], items_BT=items_1T):
                logits = base.model(input_ids=ids_1T).logits
        self.base_nats = -float(token_log_probs(base_logits, ids_1T).sum()) / (len(ids) - 1)
        self.nats = -float(token_log_probs(logits, ids_1T).sum()) / (len(ids) - 1)

    def watch(self, segment, number, inputs_TD, weights_THK, ids_THK):
        if segment is not self.taught:
            return
        for token in range(len(ids_THK) - 1):  # the last one predicts no word of the text
            ids, weights = ids_THK[token].flatten(), weights_THK[token].flatten()
            for expert, weight in zip(ids.tolist(), weights.tolist(), strict=True):
                self.found.append((number, expert, weight))


@pytest.fixture(scope="module")
def hits(learned):
    registry, base, hooks, row, shards, found = learned
    own = joined(load_owns(registry, row, base.identity))
    place_of = {item.item_id: place for place, item in enumerate(own.items)}
    hits = {}
    for one in found:
        (ids,) = tokenise(base.tokenizer, [registry.queries.document_text(one)])
        alone, shard = own.at([place_of[one.document_id]]), shard_of(one.document_id, len(shards))
        hits[one.document_id] = Hits(base, hooks, shards, shard, alone, ids)
    return hits


def test_an_experts_weight_is_that_of_reading_every_document_alone(learned, hits):
    registry, _, _, row, shards, _ = learned
    assert row.objects_of("use").keys() == shards.keys() == {0, 1}
    for shard, use_object in row.objects_of("use").items():
        stored = read_use(registry.objects.read(use_object))
        segment = shards[shard]
        expected = {n: torch.zeros(segment.shape.num_experts) for n in segment.host_layers}
        for one in hits.values():
            if one.taught is segment:
                for layer, expert, weight in one.found:
                    expected[layer][expert] += weight
        assert stored.keys() == expected.keys()
        for layer, weights_N in expected.items():
            torch.testing.assert_close(stored[layer], weights_N, rtol=1e-3, atol=1e-6)


def test_a_documents_losses_are_those_of_reading_it_alone(learned, hits):
    for document in learned[-1]:
        alone = hits[document.document_id]
        assert document.base_nats == pytest.approx(alone.base_nats, rel=1e-5)
        assert document.nats == pytest.approx(alone.nats, rel=1e-5)


def test_other_bytes_are_damage():
    with pytest.raises(DamageError, match="no experts' use"):
        read_use(b"something else")

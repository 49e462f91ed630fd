"""What is recorded of a segment's use equals what a plain loop over the documents finds."""

import numpy as np
import pytest
import torch

from peer_cl.errors import DamageError
from peer_cl.hooks import Hooks
from peer_cl.read import token_log_probs
from pipelines.batches import tokenise
from pipelines.loading import load_pool, load_store_base
from pipelines.usage import read_inputs


@pytest.fixture(scope="module")
def learned(tiny_store):
    """A store, its base with hooks, and the segment of law with its training documents."""
    from pipelines import open_store

    with open_store(tiny_store, author="ann") as store:
        registry = store.registry
        base = load_store_base(registry)
        version = registry.queries.live().state("law").version
        pool = load_pool(registry, "law", version)
        found = registry.queries.documents("law", split="train", kind="text")
        yield registry, base, Hooks(base.model), pool.chain()[0], found


class Hits:
    """Every (layer, expert, weight, input) of one document, one token at a time."""

    def __init__(self, base, hooks, segment, ids):
        self.found = []
        ids_1T = torch.tensor([ids])
        with torch.no_grad():
            base_logits = base.model(input_ids=ids_1T).logits
            with hooks.branch([segment], watch=self.watch):
                logits = base.model(input_ids=ids_1T).logits
        self.base_nats = -float(token_log_probs(base_logits, ids_1T).sum()) / (len(ids) - 1)
        self.nats = -float(token_log_probs(logits, ids_1T).sum()) / (len(ids) - 1)

    def watch(self, segment, number, inputs_TD, weights_THK, ids_THK):
        for token in range(len(inputs_TD) - 1):  # the last one predicts no word of the text
            ids, weights = ids_THK[token].flatten(), weights_THK[token].flatten()
            for expert, weight in zip(ids.tolist(), weights.tolist(), strict=True):
                self.found.append((number, expert, weight, inputs_TD[token]))


@pytest.fixture(scope="module")
def hits(learned):
    registry, base, hooks, segment, found = learned
    return {
        one.document_id: Hits(
            base, hooks, segment, tokenise(base.tokenizer, [registry.queries.document_text(one)])[0]
        )
        for one in found
    }


def test_a_documents_experts_are_those_that_fire_when_it_is_read_alone(learned, hits):
    registry, found = learned[0], learned[-1]
    version = registry.queries.live().state("law").version
    for document in found[:4]:
        expected = {}
        for layer, expert, weight, _ in hits[document.document_id].found:
            expected[layer, expert] = expected.get((layer, expert), 0.0) + weight
        stored = {
            (use.host_layer, expert): weight
            for use in registry.uses.document_uses(document.document_id, [version])
            for expert, weight in zip(use.experts.tolist(), use.weights.tolist(), strict=True)
        }
        assert stored.keys() == {pair for pair, weight in expected.items() if weight > 0}
        for pair, weight in stored.items():
            assert weight == pytest.approx(expected[pair], rel=1e-3)


def test_an_experts_vector_is_the_mean_of_what_it_read(learned, hits):
    registry, _, _, segment, _ = learned
    row = registry.queries.chain(registry.queries.live().state("law").version)[-1]
    inputs = read_inputs(registry.objects.read(row.use_object))
    sums = {}
    for one in hits.values():
        for layer, expert, weight, input_D in one.found:
            total, weights = sums.get((layer, expert), (0.0, 0.0))
            sums[layer, expert] = (total + weight * input_D.double(), weights + weight)
    for layer in segment.host_layers:
        for expert in range(segment.shape.num_experts):
            total, weights = sums.get((layer, expert), (torch.zeros(32), 1.0))
            found = torch.from_numpy(inputs[layer][expert])
            assert torch.allclose(found, (total / weights).float(), atol=2e-3)


def test_a_documents_losses_are_those_of_reading_it_alone(learned, hits):
    for document in learned[-1]:
        alone = hits[document.document_id]
        assert document.base_nats == pytest.approx(alone.base_nats, rel=1e-5)
        assert document.nats == pytest.approx(alone.nats, rel=1e-5)


def test_inputs_that_half_precision_cannot_hold_stay_whole(learned):
    from pipelines.usage import RecordedUse

    large = torch.tensor([[70000.0, 1.0]])
    found = read_inputs(RecordedUse([], {3: large, 4: large / 2}, {}).to_bytes())
    assert np.array_equal(found[3], large.numpy())
    assert found[4].dtype == np.float32
    with pytest.raises(DamageError, match="no experts' inputs"):
        read_inputs(b"something else")

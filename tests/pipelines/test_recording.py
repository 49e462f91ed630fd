"""What is recorded of a segment's use equals what a plain loop over the documents finds."""

import io
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load
from tiny_base import make_tiny_store, sentences, tiny_settings, write_corpus

from peer_cl.branches import default_position_ids, run_base, run_branch, token_log_probs
from pipelines import open_store
from pipelines.batches import Row, tokenise
from pipelines.facts import Relation
from pipelines.features import Features
from pipelines.loading import add_version
from pipelines.recording import RecordedUse, record_use


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"), ("law",))


class Hits:
    """Every (layer, row, weight, input) of one document, one token at a time."""

    def __init__(self, model, segment, ids):
        self.found, self.segment = [], segment
        ids_1T = torch.tensor([ids])
        with torch.no_grad():
            base = run_base(model.attachment, input_ids=ids_1T, use_cache=False)
            logits = run_branch(
                model.attachment,
                [segment],
                base.tap_BTD,
                input_ids=ids_1T,
                attention_mask=None,
                position_ids=default_position_ids(len(ids), 0, ids_1T.device),
                watch=self.watch,
            )
        self.base_nats = -float(token_log_probs(base.logits_BTV, ids_1T).sum()) / (len(ids) - 1)
        self.nats = -float(token_log_probs(logits, ids_1T).sum()) / (len(ids) - 1)

    def watch(self, segment, number, inputs_TD, weights_THK, ids_THK):
        for token in range(len(inputs_TD) - 1):  # the last one predicts no word of the text
            for row, weight in zip(
                ids_THK[token].flatten().tolist(),
                weights_THK[token].flatten().tolist(),
                strict=True,
            ):
                self.found.append((number, row, weight, inputs_TD[token]))


@pytest.fixture
def looked(store):
    """The segment, its training documents, and what each shows when it is read alone."""
    version = store.registry.live().state("law").version
    documents = store.registry.documents("law", split="train")
    model, tokenizer = store.load()
    model.delete_pool("law")
    (segment,) = add_version(model, store.registry, "law", version).chain()
    hits = {}
    for document in documents:
        (ids,) = tokenise(tokenizer, [store.registry.document_text(document)])
        hits[document.document_id] = Hits(model, segment, ids)
    model.detach()
    return version, documents, hits


def test_a_document_s_rows_are_those_that_fire_when_it_is_read_alone(store, looked):
    version, documents, hits = looked
    for document in documents:
        expected = {}
        for layer, row, weight, _ in hits[document.document_id].found:
            expected[layer, row] = expected.get((layer, row), 0.0) + weight
        found = {
            (use.host_layer, row): weight
            for use in store.registry.document_uses(document.document_id, [version])
            for row, weight in zip(use.rows.tolist(), use.weights.tolist(), strict=True)
        }
        assert found.keys() == expected.keys()
        for key, weight in expected.items():
            assert found[key] == pytest.approx(weight, rel=2e-3, abs=1e-3)


def test_a_row_s_numbers_add_up_over_its_documents(store, looked):
    version, documents, hits = looked
    ids = [document.document_id for document in documents]
    table = {}
    for document_id in ids:
        for layer, row, weight, _ in hits[document_id].found:
            table.setdefault((layer, row), {}).setdefault(document_id, 0.0)
            table[layer, row][document_id] += weight
    uses = store.registry.expert_uses([version])
    assert {(use.host_layer, use.row) for use in uses} == table.keys()
    for use in uses:
        weights = np.array(list(table[use.host_layer, use.row].values()))
        shares = weights / weights.sum()
        assert use.weight == pytest.approx(weights.sum(), rel=1e-4)
        assert use.num_documents == len(weights)
        effective = np.exp(-(shares * np.log(shares)).sum())
        assert use.effective_documents == pytest.approx(effective, rel=1e-3)


def test_a_row_s_vector_is_the_weighted_mean_of_what_it_read(store, looked):
    version, _, hits = looked
    (segment,) = store.registry.chain(version)
    inputs = load(store.registry.objects.read(segment.use_object))
    sums, totals = {}, {}
    for document in hits.values():
        for layer, row, weight, read in document.found:
            sums[layer, row] = sums.get((layer, row), 0.0) + weight * read.double()
            totals[layer, row] = totals.get((layer, row), 0.0) + weight
    for (layer, row), total in totals.items():
        mean = (sums[layer, row] / total).float()
        torch.testing.assert_close(
            inputs[f"layers.{layer}"][row].float(), mean, rtol=2e-3, atol=2e-3
        )
    for layer in segment.host_layers:
        silent = [n for n in range(64) if (layer, n) not in totals]
        assert not inputs[f"layers.{layer}"][silent].any()


def test_the_losses_before_and_after_are_those_of_the_document_scored_alone(store, looked):
    _, documents, hits = looked
    for document in documents:
        alone = hits[document.document_id]
        assert document.base_nats == pytest.approx(alone.base_nats, rel=1e-4)
        assert document.nats == pytest.approx(alone.nats, rel=1e-4)
        assert document.nats < document.base_nats
    for document in store.registry.documents("law", split="test"):
        assert (document.base_nats, document.nats) == (None, None)


def test_equal_uses_give_equal_bytes(store):
    version = store.registry.live().state("law").version
    (segment,) = store.registry.chain(version)
    file = io.BytesIO(store.registry.objects.read(segment.use_object))
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert list(header["__metadata__"]) == ["inputs"]  # several entries come in any order
    assert json.loads(header["__metadata__"]["inputs"]) == {"format": "peer-cl-inputs-1"}


def test_inputs_for_which_half_precision_has_no_room_are_kept_whole():
    inputs = {3: torch.tensor([[1.0, 70_000.0]]), 9: torch.tensor([[0.5, 2.0]])}
    kept = load(RecordedUse([], inputs, {}).to_bytes())
    assert kept["layers.3"].tolist() == [[1.0, 70_000.0]]
    assert (kept["layers.9"].dtype, kept["layers.9"].tolist()) == (torch.float16, [[0.5, 2.0]])


def test_a_row_that_no_text_uses_is_recorded_under_the_document_whose_wordings_use_it(
    store, looked
):
    version, documents, _ = looked
    model, tokenizer = store.load()
    model.delete_pool("law")
    (segment,) = add_version(model, store.registry, "law", version).chain()
    texts = [store.registry.document_text(document) for document in documents]
    rows = [
        Row(document.document_id, "text", ids)
        for document, ids in zip(documents, tokenise(tokenizer, texts), strict=True)
    ]
    first, second = rows[3].document_id, rows[5].document_id
    wordings = {first: sentences("minerals", 3), second: sentences("prose", 2)}
    others = [
        Row(document_id, "varied", ids)
        for document_id, some in wordings.items()
        for ids in tokenise(tokenizer, some)
    ]
    said, used = [], {}
    positions = {row.document_id: number for number, row in enumerate(rows)}
    for wanted in ([], others):
        recorded = record_use(
            model.attachment,
            segment,
            older=[],
            rows=rows,
            others=wanted,
            positions=positions,
            features=Features((), (), None, (0.0,) * len(rows)),
            tokens_per_step=256,
            end_id=0,
            progress=lambda done, total: said.append((done, total)),
        )
        used[len(wanted)] = {
            (use.host_layer, row, list(positions)[document]): weight
            for use in recorded.uses
            for row, document, weight in zip(
                use.rows.tolist(), use.documents.tolist(), use.weights.tolist(), strict=True
            )
        }
    assert said[-1] == (len(rows) + len(others), len(rows) + len(others))
    own, both = used[0], used[len(others)]
    by_texts = {(layer, row) for layer, row, _ in own}
    expected = {}
    for document_id, ids in ((row.document_id, row.ids) for row in others):
        for layer, row, weight, _ in Hits(model, segment, ids).found:
            if (layer, row) not in by_texts:
                key = layer, row, document_id
                expected[key] = expected.get(key, 0.0) + weight
    assert {document_id for *_, document_id in expected} == {first, second}
    assert both.items() >= own.items()
    added = {key: weight for key, weight in both.items() if key not in own}
    assert added.keys() == expected.keys()
    for key, weight in expected.items():
        assert added[key] == pytest.approx(weight, rel=2e-3, abs=1e-3)
    for layer, row, _ in expected:
        assert recorded.inputs[layer][row].any()
    model.detach()


def test_where_texts_use_every_row_nothing_else_is_read(store):
    documents = store.registry.documents("law", split="train")
    model, tokenizer = store.load()
    shape = replace(tiny_settings().shape, num_experts=4, top_k=2)
    said = []
    texts = [store.registry.document_text(document) for document in documents]
    rows = [
        Row(document.document_id, "text", ids)
        for document, ids in zip(documents, tokenise(tokenizer, texts), strict=True)
    ]
    options = {
        "older": [],
        "rows": rows,
        "positions": {row.document_id: number for number, row in enumerate(rows)},
        "features": Features((), (), None, (0.0,) * len(rows)),
        "tokens_per_step": 256,
        "end_id": 0,
        "progress": lambda done, total: said.append((done, total)),
    }
    unread = replace(rows[0], document_id="of no document that is learned")
    recorded = record_use(model.attachment, model.new_segment(shape), others=[unread], **options)
    assert {use.host_layer: set(use.rows.tolist()) for use in recorded.uses} == {
        layer: {0, 1, 2, 3} for layer in model.host_layers
    }
    assert said[-1] == (len(rows) + 1, len(rows) + 1)
    with pytest.raises(KeyError):
        record_use(
            model.attachment,
            model.new_segment(tiny_settings().shape),
            **options | {"others": [unread], "rows": rows[:1]},
        )
    model.detach()


def test_an_ingest_records_the_wordings_of_what_it_learned(tmp_path):
    """A row that fires on anything that was read is recorded, whichever way it was said."""
    place = make_tiny_store(tmp_path, ())
    owner = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
    with open_store(place) as store:
        report = store.ingest(
            "law",
            write_corpus(tmp_path / "law.jsonl", "law"),
            facts=[owner.fact(f"house {n}", f"tenant {n}") for n in range(12)],
            settings=replace(tiny_settings(), fact_passes=6.0),
        )
        registry = store.registry
        recorded = {(use.host_layer, use.row) for use in registry.expert_uses([report.version])}
        documents = registry.documents("law", split="train")
        model, tokenizer = store.load()
        model.delete_pool("law")
        (segment,) = add_version(model, registry, "law", report.version).chain()
        by_texts = {
            (layer, row)
            for document in documents
            for layer, row, *_ in Hits(
                model, segment, tokenise(tokenizer, [registry.document_text(document)])[0]
            ).found
        }
        model.detach()
    assert by_texts < recorded

"""Every method reads what `ingest` reads: the same rows, the same steps, the same loss."""

import pytest
import torch
from tiny import make_trainer
from tiny_base import make_tiny_base
from tiny_stream import SETTINGS, stream_domain

from benchmarks.stream.data import joined, prepare_domain
from benchmarks.stream.texts import blocks
from peer_cl import PeerModel
from peer_cl.bases import load_base
from pipelines.batches import next_weights, weighted_loss


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base"))))


def test_a_domain_is_divided_as_ingest_divides_it_and_asked_in_both_wordings(tiny_base):
    data = prepare_domain(stream_domain("law"), tiny_base, SETTINGS)
    assert {row.kind for row in data.rows} == {"text", "fact", "varied"}
    trained = {row.document_id for row in data.rows}
    assert trained.isdisjoint(item.document_id for item in data.test)
    assert [q.wording for q in data.questions].count("seen") == 4
    read = [number for step in data.steps for number in step]
    facts = [number for number in read if data.rows[number].kind == "fact"]
    assert len(facts) == 4 * (4 - 2)  # half of the four readings are varied
    assert data.num_tokens == sum(len(data.rows[number].ids) - 1 for number in read)


def test_the_loss_is_that_of_ingest(tiny_base):
    data = prepare_domain(stream_domain("law"), tiny_base, SETTINGS)
    model = PeerModel(tiny_base.model, host_layers=(1, 3))
    segment = model.new_segment(SETTINGS.shape)  # as new, it is a no-op
    trainer = make_trainer(model, segment, SETTINGS)
    for step in data.steps[:6]:
        batch = data.batch(step, SETTINGS, pad_id=0)
        logits = tiny_base.model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT).logits
        ours = trainer.loss(batch, None)
        theirs = weighted_loss(logits[next_weights(batch) > 0], batch)
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    model.detach()


def test_joined_domains_read_every_step_of_each_once(tiny_base):
    domains = [prepare_domain(stream_domain(s), tiny_base, SETTINGS) for s in ("law", "minerals")]
    together = joined(domains, seed=0)
    expected = sorted(
        tuple(one.rows[number].ids for number in step) for one in domains for step in one.steps
    )
    found = sorted(tuple(together.rows[number].ids for number in step) for step in together.steps)
    assert found == expected


def test_blocks_are_the_unseen_text_in_one_length(tiny_base):
    data = prepare_domain(stream_domain("law"), tiny_base, SETTINGS)
    rows = blocks([data], tiny_base.tokenizer, length=16)["blocks16/law"]
    assert rows
    assert {len(row) for row in rows} == {17}
    whole = data.test[0].ids
    assert rows[0] == whole[:17] or len(whole) < 17

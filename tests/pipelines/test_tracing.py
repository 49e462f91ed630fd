"""A trace of a pool that overflows: it is left out, as the model's own score leaves it out."""

import dataclasses
import json

import pytest
import torch
from tiny_base import SUBJECTS, make_tiny_store

from pipelines.batches import tokenise

TEXT = SUBJECTS["law"]
TOP = 3
"""The highest host layer: what rows add there is read by no later token."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"))


def harm(model, name, rows=slice(None)):
    """Make what some rows of a pool's highest layer add too large for a number, or all."""
    experts = model.pool(name).chain()[0].layers[str(TOP)].experts
    with torch.no_grad():
        experts.down_ND[rows] *= 1e30
        experts.up_ND[rows] = 1e38


def test_a_pool_that_overflows_is_left_out_of_a_trace_as_of_a_score(store):
    model, tokenizer = store.load()
    whole = store.trace(TEXT, model=model, tokenizer=tokenizer, domains=["medicine"])
    harm(model, "law")
    found = store.trace(TEXT, model=model, tokenizer=tokenizer, ask="all")
    scores = model.score(torch.tensor(tokenise(tokenizer, [TEXT])), ask="all")
    assert [t.log_prob for t in found.tokens] == scores.mixture_BT[0, 1:].tolist()
    assert torch.tensor([t.log_prob for t in found.tokens]).isfinite().all()
    assert found.asked == ["law", "medicine"]
    assert (found.weights["law"], found.evidence["law"]) == (0.0, 0.0)
    assert [t.evidence["law"] for t in found.tokens] == [0.0] * len(found.tokens)
    assert found.evidence["medicine"] == whole.evidence["medicine"]
    assert [n.text for n in found.next_injected] == [n.text for n in whole.next_injected]
    for own, other in zip(found.next_injected, whole.next_injected, strict=True):
        assert own.probability == pytest.approx(other.probability, rel=1e-3)
    tokens = [dataclasses.asdict(dataclasses.replace(t, rows={})) for t in found.tokens]
    json.dumps([tokens, found.evidence, found.weights], allow_nan=False)


def test_a_pool_that_overflows_after_the_text_alone_says_nothing_of_what_follows(store):
    """No token that was read shows it in the pool's mass, so its weight stays above 0."""
    model, tokenizer = store.load()
    options = {"model": model, "tokenizer": tokenizer, "domains": ["law"], "num_rows": 9999}
    whole = store.trace("The court of appeal", **options)
    before = {row.row for t in whole.tokens for row in t.rows["law"] if row.host_layer == TOP}
    last = {row.row for row in whole.rows["law"] if row.host_layer == TOP} - before
    assert last, "rows that fire at the last token alone, which no token of the text follows"
    harm(model, "law", sorted(last))
    found = store.trace("The court of appeal", **options)
    assert found.weights == whole.weights
    assert [t.log_prob for t in found.tokens] == [t.log_prob for t in whole.tokens]
    for own, base in zip(found.next_injected, found.next_base, strict=True):
        assert own.text == base.text
        assert own.probability == pytest.approx(found.base_weight * base.probability)

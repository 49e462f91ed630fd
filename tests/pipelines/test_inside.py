"""A domain whose rows write inside feed-forwards, from corpus to erasure, on a tiny base."""

from dataclasses import replace

import pytest
import torch
from tiny_base import SUBJECTS, background, make_tiny_base, tiny_settings, write_corpus

from peer_cl.errors import UnsupportedError
from pipelines import init_store

TINY = tiny_settings()
SETTINGS = replace(TINY, shape=replace(TINY.shape, mode="inside"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inside")
    base = make_tiny_base(folder / "base")
    place = folder / "knowledge"
    with init_store(place, base=str(base), capacity=4, background=background()) as store:
        store.ingest("law", write_corpus(folder / "law.jsonl", "law"), settings=SETTINGS)
    return place


def law_loss(store):
    """Return the mean loss of law's own words with its pool on, and without."""
    from pipelines.batches import tokenise

    model, tokenizer = store.load()
    rows = torch.tensor(tokenise(tokenizer, [SUBJECTS["law"]]))
    scores = model.score(rows, domains=["law"])
    model.detach()
    base, law = -scores.log_probs_QBT[:, 0, 1:].mean(-1)
    return float(law), float(base)


def weights(store):
    """Return the hash of law's newest segment."""
    model, _ = store.load()
    found = model.pool("law").chain()[-1].sha256()
    model.detach()
    return found


def test_it_learns(store):
    law, base = law_loss(store)
    assert law < base - 0.05
    model, _ = store.load()
    (segment,) = model.pool("law").chain()
    model.detach()
    assert segment.inner_width == model.attachment.inner_width > 0


def test_what_a_row_promotes_is_what_the_neurons_make_of_it(store):
    """By hand: the feed-forward's derivative along the row, in the mean of what the row reads."""
    found = store.experts("law")
    for expert in found.report(num=3).busiest:
        (segment,) = [found._pool(segment) for segment in found.chain]
        up_F = segment.layer(expert.host_layer).experts.up_ND[expert.row].detach()
        use = next(
            u for u in found.uses if (u.host_layer, u.row) == (expert.host_layer, expert.row)
        )
        block = found.model.attachment.layers[expert.host_layer].mlp
        reads_D = found._inputs(use)

        def said(written_F, block=block, reads_D=reads_D):
            gate, up = block.gate_proj(reads_D), block.up_proj(reads_D)
            half = len(gate)
            return block.down_proj(block.act_fn(gate + written_F[:half]) * (up + written_F[half:]))

        _, turned_D = torch.func.jvp(said, (torch.zeros_like(up_F),), (up_F,))
        best = (found.model.base.lm_head.weight @ turned_D).topk(1).indices
        assert expert.promotes[0] == found.tokenizer.decode(best)
        assert len(expert.promotes) == 5


def test_a_row_that_nothing_used_promotes_nothing_that_is_known(store):
    found = store.experts("law")
    used = {(use.host_layer, use.row) for use in found.uses}
    layer = store.registry.config.host_layers[0]
    unused = [row for row in range(64) if (layer, row) not in used]
    if not unused:  # make one: nothing is recorded of it any more
        found._mean_inputs(found.chain[0])[layer][5] = 0.0
        unused = [5]
    assert found.row(layer, unused[0]).expert.promotes == []


def test_a_trace_names_its_rows_and_documents(store):
    found = store.trace(SUBJECTS["law"], domains=["law"])
    assert found.tokens[3].rows["law"]
    assert found.documents


def test_a_domain_goes_on_beside_what_it_learned_inside(store, tmp_path):
    more = write_corpus(tmp_path / "more.jsonl", "law", num=12, seed=5)
    store.ingest("law", more, settings=TINY)
    model, _ = store.load()
    modes = [segment.shape.mode for segment in model.pool("law").chain()]
    model.detach()
    assert modes == ["inside", "augment"]


def test_a_part_that_would_silence_another_is_refused_before_anything_is_learned(store, tmp_path):
    before = store.registry.live()
    more = write_corpus(tmp_path / "more.jsonl", "law", num=12, seed=5)
    replacing = replace(TINY, shape=replace(TINY.shape, mode="replace"))
    told = []
    with pytest.raises(UnsupportedError, match=r"'law': segment 2 stands in place of layer \d"):
        store.ingest("law", more, settings=replacing, progress=lambda *said: told.append(said))
    assert not told
    assert store.registry.live() == before


def test_a_mask_takes_something_of_a_document(store):
    document = store.registry.documents("law", split="train")[0]
    masked = store.erase_masked("law", [document.document_id], num_rows=8)
    assert masked.num_rows == 8
    (own,) = masked.effect.documents
    assert own.removed > 0


def test_an_exact_erasure_comes_out_the_same_twice(store):
    document = store.registry.documents("law", split="train")[0]
    before, snapshot = weights(store), store.registry.live().id
    store.erase_exact("law", [document.document_id])
    law, base = law_loss(store)
    assert law < base - 0.05
    once = weights(store)
    assert once != before
    store.restore(snapshot, with_erased=True)
    store.erase_exact("law", [document.document_id])
    assert weights(store) == once

"""Where a model computes: one place decides, and nothing lies on another device.

No GPU is needed: `away` stands for one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from away import NAME, away
from tiny_base import background, make_tiny_base
from tiny_store import FACTS, SETTINGS, documents

from peer_cl.devices import DEVICE_VARIABLE, pick_device
from peer_cl.errors import InputError
from peer_cl.own import joined
from pipelines import init_store, open_store
from pipelines.encoder import MINILM
from pipelines.loading import load_owns, store_identity

PROMPT = "The owner of house 1 is"


def _fill(folder, base):
    """Return a store that learned facts, and documents in two ingests."""
    store = init_store(
        folder,
        base=str(base),
        capacity=4,
        encoder=MINILM,
        background=background(),
        author="ann",
    )
    settings = replace(SETTINGS, study_questions=4)
    store.ingest("law", [], facts=FACTS, settings=settings)
    store.ingest("medicine", documents("medicine", 6, 1), settings=settings)
    store.ingest("medicine", documents("medicine", 3, 2), settings=settings)
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The folders of one store that learned on the processor, and one that did on the device."""
    folder = tmp_path_factory.mktemp("devices")
    base = make_tiny_base(folder / "base")
    _fill(folder / "here", base).close()
    with away():
        _fill(folder / "there", base).close()
    return folder / "here", folder / "there"


def _ids(tokenizer):
    return torch.tensor([tokenizer(PROMPT).input_ids])


def test_every_verb_runs_where_the_base_lies_and_ends_alike(stores):
    here, there = stores
    with open_store(here, device="cpu") as store:
        model, tokenizer = store.load()
        logits = model(_ids(tokenizer), routing="all").logits
        written = model.generate(_ids(tokenizer), max_new_tokens=6, do_sample=False)
        traced = store.trace(PROMPT)
        answer = store.ask("What may show an infection?")
        document = documents("medicine", 6, 1)[0].text
        repeated = store.trace(document)
        losses = [row.loss_nats for row in store.evaluate(background=False).routing]
    with away(), open_store(there) as store:
        model, tokenizer = store.load()
        assert {one.device.type for one in model.parameters()} == {NAME}
        found = model(_ids(tokenizer), routing="all").logits
        assert found.device.type == NAME
        torch.testing.assert_close(found.cpu(), logits, atol=2e-2, rtol=1e-2)
        again = model.generate(_ids(tokenizer), max_new_tokens=6, do_sample=False)
        assert again.tolist() == written.tolist()
        assert model.generate(_ids(tokenizer), max_new_tokens=3, do_sample=True).shape[1] > 3
        assert store.trace(PROMPT).active == traced.active
        assert store.trace(document).active == repeated.active != []
        assert store.ask("What may show an infection?").text == answer.text
        found = [row.loss_nats for row in store.evaluate(background=False).routing]
        assert found == pytest.approx(losses, rel=1e-2)
        some = store.registry.queries.documents("medicine", split="train")[0]
        assert store.erase("medicine", some.document_id, wait=True).version


def test_what_was_learned_elsewhere_differs_by_rounding_alone(stores):
    learned = []
    for folder in stores:
        with open_store(folder, device="cpu") as store:
            (row,) = store.registry.queries.domain("law").chain
            own = joined(load_owns(store.registry, row, store_identity(store.registry)))
            learned.append(own.up_ILRD.float())
    assert learned[0].abs().max() > 0.01
    torch.testing.assert_close(*learned, atol=2e-3, rtol=0.05)


def test_the_processor_and_the_device_write_alike_says_verify(stores, monkeypatch):
    from pipelines import verify as module

    # A process of its own does not know the device; of CUDA it does.
    monkeypatch.setattr(module, "compare_with_bare", lambda *_: [])
    with away(), open_store(stores[1]) as store:
        checks = {one.what: one for one in store.verify().checks}
    found = checks["greedy tokens of the processor"]
    assert (found.verdict, found.note[:6]) == ("good", "8 of 8")


def test_a_device_is_picked_by_name_by_the_environment_or_by_what_is_there(monkeypatch):
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    with away():
        assert pick_device().type == NAME
        assert pick_device("cpu").type == "cpu"
        monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
        assert pick_device().type == "cpu"
        assert pick_device(NAME).type == NAME


@pytest.mark.parametrize("name", ["xpu", "the large one", "cud"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(InputError, match=f"no device '{name}' here: torch .* finds cpu"):
        pick_device(name)

"""The instruments, on the tiny store of three domains."""

import json
from operator import lt

import pytest
import torch
from tiny_base import sentences

from benchmarks import answers, efficiency, erase, provenance, size
from benchmarks.prompts import added_nats, largest_posteriors, num_found
from benchmarks.results import share_above_half
from peer_cl.mixture import worst_added_nats
from pipelines.batches import tokenise


@pytest.fixture(scope="module")
def loaded(measured):
    store, _ = measured
    return store, *store.load()


def test_background_text_loses_no_more_than_the_bound(loaded):
    store, model, tokenizer = loaded
    rows = tokenise(tokenizer, sentences("prose", 6, seed=3))
    assert max(added_nats(model, rows)) <= worst_added_nats(store.registry.config.budget) + 1e-9
    assert all(0 <= num <= 3 for num in num_found(model, rows))


def test_prompts_are_weighed_alone_as_in_a_batch(loaded):
    _, model, tokenizer = loaded
    texts = [*sentences("law", 3, seed=3), "The old house"]
    together = largest_posteriors(model, tokenizer, texts)
    alone = [largest_posteriors(model, tokenizer, [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-6)
    assert 0 <= share_above_half(together) <= 1


def test_efficiency_lies_between_base_and_oracle(loaded):
    _, model, tokenizer = loaded
    documents = tokenise(tokenizer, sentences("law", 30, seed=5))
    rows = efficiency.blocks(documents, tokenizer)
    assert rows
    assert all(len(ids) == 1 + efficiency.BLOCK and ids[0] == documents[0][0] for ids in rows)
    whole, after = (efficiency.block_losses(model, "law", rows, context) for context in (0, 32))
    for losses in (whole, after):
        assert all(map(lt, losses["oracle"], losses["base"]))
        assert 0 <= efficiency.kept(losses) <= 1
    assert all(map(lt, after["base"], whole["base"]))


def test_experts_are_off_inside_and_back_to_the_bit_after(loaded):
    _, model, _ = loaded
    lists = model.pool("minerals").own_experts()
    before = [own.up_ILRD.detach().clone() for own in lists]
    with provenance.switched_off(provenance.own_rows(model, "minerals", lists[0].items[0].item_id)):
        assert not lists[0].up_ILRD[0].any()
        assert torch.equal(lists[0].up_ILRD[1:], before[0][1:])
        assert all(map(torch.equal, [own.up_ILRD for own in lists[1:]], before[1:]))
    assert all(map(torch.equal, [own.up_ILRD for own in lists], before))


def test_provenance_measures_a_domain(measured):
    folder = str(measured[0].registry.folder)
    found = provenance.measure(["--store", folder, "--domain", "minerals"])
    figures = {one.figure: one.value for one in found}
    for name in [one for one in figures if one.startswith("own passage found first")]:
        assert figures.pop(name) == 1.0
    # Shared experts foresee a little of a statement, too.
    assert figures.pop("own gain that goes: own experts, minerals, facts (share)") > 0.5
    assert figures.pop("others' gain that goes: own experts, minerals, facts (share)") == 0
    # Of a text they work where it repeats a passage; beside shared experts, here they take some.
    assert figures.pop("own gain that goes: own experts, minerals, texts (share)") != 0
    assert figures.pop("others' gain that goes: own experts, minerals, texts (share)") == 0
    assert figures == {}


def test_erasures_are_timed_on_a_copy(measured):
    store = measured[0]
    folder, live = store.registry.folder, store.registry.queries.live()
    found = erase.measure(["--store", str(folder), "--domain", "minerals"])
    whole = "seconds until shared experts are trained anew, minerals"
    figures = {one.figure: one for one in found}
    assert figures[whole].value > 0
    assert [one.most for one in found if "is gone" in one.figure] == [0.1] * (len(found) - 1)
    assert store.registry.queries.live() == live
    assert [path.name for path in folder.parent.glob("tmp*")] == []


def test_answers_are_compared_as_squad_does():
    assert answers.contains("It was the Norman conquest.", "a norman Conquest")
    assert not answers.contains("", "x")
    assert not answers.contains("inception", "in")
    assert answers.f1("the red house", "red car") == pytest.approx(0.5)
    assert answers.f1("nothing", "red car") == 0


def test_an_article_is_drawn_by_its_name_and_a_question_by_its_hash(tmp_path):
    lines = [
        {"domain": name, "doc_id": f"{name}/0", "text": "A text.", "questions": asked}
        for name in ("Kiel", "Oslo")
        for asked in [[{"question": f"Who {n}?", "answer": "x"} for n in range(8)]]
    ]
    path = tmp_path / "squad.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = answers.read_articles(path)
    assert {one.name for one in found} == {"Kiel", "Oslo"}
    assert {question.is_studied for question in found[0].questions} == {True, False}


def test_no_module_imports_another_in_a_circle():
    graph = size.import_graph()
    assert "pipelines.ingest" in graph
    assert size.import_cycles(graph) == []

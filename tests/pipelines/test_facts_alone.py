"""A domain that learned facts alone: it answers, and no act and no view fails on it."""

import pytest
import torch
from tiny_base import sentences
from tiny_store import FACTS, SETTINGS, copy_store, documents, store_logits

from peer_cl.errors import StateError, UnknownError
from peer_cl.read import read
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.loading import load_pool
from pipelines.progress import no_progress
from pipelines.recall import questions, recall
from pipelines.writing import write

TEXT = "The court of appeal held that the fever was void"


@pytest.fixture(scope="module")
def place(tiny_store, tmp_path_factory):
    """The folder of a store of law, medicine and houses, which are facts alone."""
    place = copy_store(tiny_store, tmp_path_factory.mktemp("houses"))
    with open_store(place, author="ann") as store:
        report = store.ingest("houses", [], facts=FACTS, settings=SETTINGS)
    assert report.num_documents == {"train": len(FACTS)}
    assert (report.num_facts, report.num_learned_texts, report.num_steps) == (len(FACTS), 0, 0)
    before, after = report.mean_losses_nats["fact"]
    assert after < before
    return place


@pytest.fixture(scope="module")
def store(place):
    """It, open; read it only."""
    with open_store(place, author="ann") as opened:
        yield opened


@pytest.fixture
def changed(place, tmp_path):
    """A copy of it, open."""
    with open_store(copy_store(place, tmp_path), author="ann") as opened:
        yield opened


def recalled(store, facts=FACTS):
    model, tokenizer = store.load()
    asked = questions(tokenizer, "houses", facts)
    return {row.wording: row for row in recall(model, asked, no_progress)}


def test_it_has_no_shared_experts_and_no_key_of_texts(store):
    version = store.registry.queries.live().state("houses").version
    (segment,) = store.registry.queries.chain(version)
    assert {name.partition(".")[0] for name in segment.objects} == {"facts"}
    sizes = store.registry.objects.sizes()
    assert segment.size_bytes == sum(sizes[key] for key in segment.objects.values())
    pool = load_pool(store.registry, "houses", version)
    assert (pool.chain(), pool.key) == ([], None)
    assert {item.item_id for item in pool.items.items} == {fact.document_id for fact in FACTS}


def test_it_answers_and_is_found_in_nothing_else(store):
    taught = recalled(store)["taught"]
    assert (taught.oracle, taught.routed) == (1.0, 1.0)
    assert taught.base < 1.0
    model, tokenizer = store.load()
    writing = write(model, tokenizer, FACTS[0].taught_prompt, max_new_tokens=1)
    assert (writing.writer, writing.text) == ("houses", f" {FACTS[0].answer}")
    for text in (TEXT, *sentences("prose", 3, seed=2)):
        ids = torch.tensor(tokenise(tokenizer, [text]))
        for routing in ("causal", "prompt"):
            assert "houses" not in read(model, ids, routing=routing).domains


def test_an_evaluation_asks_it_and_measures_the_others_as_without_it(store, tiny_store, tmp_path):
    report = store.evaluate(background=False)
    assert report.unmeasured == ("houses",)
    assert {row.wording: row.num for row in report.recall} == {"taught": 3, "paraphrase": 3}
    with open_store(copy_store(tiny_store, tmp_path)) as without:
        expected = without.evaluate(background=False)
    assert report.domains == expected.domains
    assert report.matrix.coming_nats == expected.matrix.coming_nats
    assert report.matrix.loss_nats[-1] == pytest.approx(expected.matrix.loss_nats[-1])


def test_verification_passes_and_names_damage(changed):
    assert changed.verify().is_good
    registry = changed.registry
    (segment,) = registry.queries.domain("houses").chain
    path = registry.objects.path(next(iter(segment.objects.values())))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    failed = [one for one in changed.verify().checks if one.verdict == "failed"]
    assert any("facts' own experts of houses v1" in one.note for one in failed)
    assert "pool of houses v1" in {one.what for one in failed}
    assert "pool of law v1" not in {one.what for one in failed}


@pytest.mark.parametrize("options", [{}, {"domains": "houses"}, {"routing": "all"}])
def test_a_trace_names_the_fact(store, options):
    trace = store.trace(FACTS[1].taught_prompt, **options)
    assert "houses" in trace.active
    assert trace.experts["houses"] == []
    assert {one.document_id for one in trace.items} == {FACTS[1].document_id}


def test_views_of_experts_show_its_items(store):
    experts = store.experts("houses")
    report = experts.report()
    assert {one.document_id for one in report.items} == {fact.document_id for fact in FACTS}
    assert (report.layers, report.busiest) == ([], [])
    with pytest.raises(UnknownError, match="houses has no shared experts: it learned no text"):
        experts.expert(1, 1)


def test_texts_may_come_later_and_go_again(changed):
    first = store_logits(changed, TEXT)
    more = changed.ingest("houses", documents("minerals", 8, 1), settings=SETTINGS)
    assert more.label == "v2"
    experts = changed.experts("houses")
    assert {one.label for one in experts.report(num=2).layers} == {"v2"}
    assert recalled(changed)["taught"].routed == 1.0
    changed.roll_back("houses")
    assert torch.equal(store_logits(changed, TEXT), first)


def test_it_is_removed_without_a_trace(changed, tiny_store, tmp_path):
    expected = [fact.document_id for fact in FACTS]
    with pytest.raises(StateError, match="nothing of 'houses' would be left"):
        changed.erase("houses", expected)
    changed.remove("houses")
    with open_store(tiny_store) as never:
        for text in (TEXT, FACTS[0].taught_prompt):
            assert torch.equal(store_logits(changed, text), store_logits(never, text))
    changed.purge("houses")
    assert changed.doctor() == ()

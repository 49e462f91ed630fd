"""Document: reading one, the rows that hold it, and erasing it with preview, word and undo."""

import re
import time
from functools import partial

import pytest
from filled_store import grow, new_store, portrait
from large_store import fill_large_store
from pages import everything
from tiny_base import background, copy_store, make_tiny_base, make_tiny_store, sentences

from app.dashboard import acts
from app.dashboard.document_erasure import EXACT, MASKED
from app.dashboard.main import HIDDEN, PAGES
from peer_cl.errors import InputError
from pipelines import TrainingSettings, init_store, open_store
from pipelines.documents import SourceDocument
from stores import NewJob


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A tiny store that learned law, and in medicine one of law's documents too."""
    place = make_tiny_store(tmp_path_factory.mktemp("document"), domains=("law",))
    with open_store(place, who="ann") as store:
        shared = store.registry.documents("law", split="train")[0]
        both = SourceDocument(store.registry.document_text(shared), "Shared", "cases.txt")
        own = [SourceDocument(text, "A fever", "clinic.txt") for text in sentences("medicine", 14)]
        store.ingest("medicine", [both, *own], settings=quick())
    return place


@pytest.fixture
def place(good, tmp_path):
    return copy_store(good, tmp_path)


def quick():
    from peer_cl import PoolShape

    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)
    return TrainingSettings(shape=shape, text_passes=1.0, least_steps=1)


def document(folder, domain="law", split="train", skip=1):
    with open_store(folder) as store:
        return store.registry.documents(domain, split=split)[skip]


def text_of(folder, found):
    with open_store(folder) as store:
        return store.registry.document_text(found)


def states(at):
    """Return in which state each domain's versions hold the document."""
    table = next(table.value for table in at.dataframe if "state" in table.value)
    return dict(zip(table["domain"], table["state"], strict=True))


def field(at, label):
    """Return the text field whose label begins with some words."""
    return next(box for box in at.text_input if box.label.startswith(label))


def state_of_all(at):
    """Return what the heading says of the document's state."""
    return next(metric.value for metric in at.metric if metric.label == "State")


def type_and_erase(at, found, why=""):
    field(at, "Why").input(why).run()
    field(at, "Type").input(found.document_id[:6]).run()
    return at.button(key="erase").click().run()


def ended_job(folder, job_id):
    """Return a job once its process has ended."""
    end = time.monotonic() + 90
    with open_store(folder) as store:
        while (job := store.registry.jobs.find(job_id)).is_open:
            assert time.monotonic() < end, job
            time.sleep(0.1)
    return job


# --- reading -------------------------------------------------------------------------------------


def test_the_page_is_reached_by_links_alone():
    assert [path for _, _, path, _ in PAGES if path in HIDDEN] == ["document"]


def test_without_an_id_it_says_where_documents_are(run_page, folder):
    at = run_page("document", folder)
    assert not at.exception
    assert not at.error
    assert "corpus" in at.info[0].value


def test_an_id_that_fits_none_is_one_line(run_page, folder):
    at = run_page("document", folder, id="0123456789")
    assert not at.exception
    (error,) = at.error
    assert "no document" in error.value


def test_a_learned_document_says_what_it_gained_and_which_rows_hold_it(run_page, good):
    found = document(good)
    at = run_page("document", good, id=found.document_id[:12])
    assert not at.exception
    assert not at.error
    assert text_of(good, found) in [text.value for text in at.text]
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["Loss before"] == f"{found.base_nats:.3f}"
    assert figures["Loss after"] == f"{found.nats:.3f}"
    assert at.code[0].value == found.document_id
    held, rows = (table.value for table in at.dataframe)
    assert held["domain"].tolist() == ["domains?domain=law"]
    assert held["gain"].tolist() == pytest.approx([found.base_nats - found.nats])
    assert rows["domain"].unique().tolist() == ["law"]
    assert (rows["share"] > 0).all()
    layer, row = rows["expert"][0].split(":")
    assert rows["open"][0] == f"experts?domain=law&version=v1&layer={layer}&row={row}"


def test_what_was_held_out_has_no_losses_and_no_rows(run_page, good):
    at = run_page("document", good, id=document(good, split="test", skip=0).document_id)
    assert not at.exception
    told = everything(at).replace("\\", "")
    assert re.search(r"From law\.jsonl:\d+\. Nothing was learned from it", told)
    assert "Loss before" not in [metric.label for metric in at.metric]
    assert "None is recorded" in everything(at)
    assert at.radio(key="erase-how").options == [EXACT]


def test_a_damaged_text_is_one_line(run_page, folder):
    found = document(folder)
    path = next(folder.glob(f"objects/*/{found.text_object}*"))
    path.chmod(0o644)
    path.write_bytes(b"")
    at = run_page("document", folder, id=found.document_id)
    assert not at.exception
    (error,) = at.error
    assert "damaged" in error.value


def test_in_a_large_store_few_of_its_rows_are_listed(run_page, large_folder):
    found = document(large_folder, "domain-07", skip=0)
    at = run_page("document", large_folder, id=found.document_id)
    assert not at.exception
    assert not at.error
    assert len(at.dataframe[1].value) <= 50


def test_tables_of_documents_link_to_their_pages(run_page, good, tmp_path):
    found = document(good)
    at = run_page("domains", good, domain="law", part="Corpus", search=found.document_id)
    assert at.dataframe[-1].value["document"].tolist() == [f"document?id={found.document_id}"]
    large = fill_large_store(tmp_path / "large", domains=3, documents=30, snapshots=4)
    with open_store(large) as store:
        segment = store.registry.domain("domain-01").chain[0]
        use = store.registry.expert_uses([segment.id])[0]
    row = {"layer": str(use.host_layer), "row": str(use.row)}
    held = run_page("experts", large, domain="domain-01", **row).dataframe[1].value
    assert held["document"].str.fullmatch(r"document\?id=[0-9a-f]{64}").all()


# --- erasing -------------------------------------------------------------------------------------


def test_masked_is_previewed_confirmed_measured_and_undone(run_page, place):
    found = document(place)
    before = portrait(place)
    at = run_page("document", place, id=found.document_id)
    assert at.radio(key="erase-how").value == MASKED
    assert "most its own are off" in everything(at)
    assert "it can be undone" in everything(at)
    assert at.button(key="erase").disabled
    field(at, "Type").input("ffffff" if found.document_id[0] == "0" else "000000")
    at.run()
    assert at.button(key="erase").disabled
    assert portrait(place) == before
    at = type_and_erase(at, found, "asked to")
    assert not at.exception
    assert not at.error
    assert "law is at v2" in at.success[0].value
    assert "of what the pool had gained" in at.success[0].value.lower()
    assert "nats a token" in at.success[0].value
    assert states(at) == {"domains?domain=law": "masked"}
    assert field(at, "Type").value == ""
    with open_store(place) as store:
        event = store.registry.history(1)[0]
    assert (event.action, event.why) == ("erase", "asked to")
    at.button(key="undo").click().run()
    assert states(at) == {"domains?domain=law": "live"}


def test_exact_leaves_it_in_old_snapshots_alone_until_a_purge(run_page, place):
    found = document(place)
    at = run_page("document", place, id=found.document_id)
    at.radio(key="erase-how").set_value(EXACT).run()
    assert "law is trained again without it, from v1 on" in everything(at)
    assert "A job does it: it goes on when you close this page" in everything(at)
    at.checkbox(key="erase-measure").uncheck().run()
    at = type_and_erase(at, found, "asked to")
    assert not at.exception
    assert not at.error
    told = at.success[0].value.replace("\\", "")
    with open_store(place) as store:
        (job,) = store.registry.jobs.listed()
    assert told.startswith(f"Job {job.id[:12]} trains law again without document ")
    assert (job.kind, job.why, job.request["evaluate"]) == ("erase", "asked to", False)
    done = ended_job(place, job.id)
    assert (done.state, done.error) == ("done", None)
    at = run_page("document", place, id=found.document_id)
    assert states(at) == {"domains?domain=law": "not live"}
    assert "No live version holds it" in everything(at)
    assert not [box for box in at.text_input if box.label.startswith("Type")]
    with open_store(place) as store:
        assert found.document_id not in store.registry.known_documents("law")
        store.purge("law", retired=True)
    at = run_page("document", place, id=found.document_id)
    assert "no document" in at.error[0].value
    assert found.title not in everything(at)


def test_exact_waits_its_turn_while_the_store_is_written(run_page, place):
    found = document(place)
    at = run_page("document", place, id=found.document_id)
    at.radio(key="erase-how").set_value(EXACT).run()
    with open_store(place) as store, store.registry.writing("bob"):
        at = type_and_erase(at, found)
        (job,) = store.registry.jobs.listed(only_open=True)
        store.registry.jobs.ask_cancel(job.id)
        assert not at.error
        assert ended_job(place, job.id).state == "cancelled"


def test_exact_is_not_asked_for_where_the_store_changed_meanwhile(run_page, place):
    found = document(place)
    at = run_page("document", place, id=found.document_id)
    at.radio(key="erase-how").set_value(EXACT).run()
    field(at, "Type").input(found.document_id[:6]).run()
    with open_store(place) as store:
        store.freeze("medicine")
    at.button(key="erase").click().run()
    assert not at.exception
    assert "Changed meanwhile; nothing was done" in at.warning[0].value
    with open_store(place) as store:
        assert store.registry.jobs.listed() == ()


def test_an_erasure_that_failed_is_of_the_past_once_it_was_done_otherwise(run_page, place):
    def told():
        return [box.value for box in run_page("overview", place).warning if "job" in box.value]

    found = document(place)
    with open_store(place) as store:
        request = {"documents": [found.document_id], "settings": None}
        new = NewJob(kind="erase", domain="law", request=request, who="ann")
        store.registry.jobs.end(store.registry.jobs.add(new).id, "failed", error="no")
        assert "The last job (erase of law) failed" in told()[0].replace("\\", "")
        store.erase_exact("law", [found.document_id])
    assert told() == []


def test_a_document_that_a_job_erases_is_not_erased_twice(run_page, place):
    def buttons(of):
        at = run_page("document", place, id=of.document_id)
        return at, [button.key for button in at.button]

    found = document(place)
    with open_store(place) as store:
        new = NewJob(
            kind="erase", domain="law", request={"documents": [found.document_id]}, who="ann"
        )
        job = store.registry.jobs.add(new)
    at, keys = buttons(found)
    assert "A job erases it." in everything(at)
    assert "erase" not in keys
    assert "erase" in buttons(document(place, skip=2))[1]
    with open_store(place) as store:
        store.registry.jobs.end(job.id, "cancelled")
    assert "erase" in buttons(found)[1]


def test_of_two_domains_that_hold_it_one_is_chosen_and_the_other_named(run_page, place):
    found = document(place, skip=0)
    at = run_page("document", place, id=found.document_id)
    box = at.selectbox(key="erase-from")
    assert box.options == ["law", "medicine"]
    assert "medicine too has it, which this does not touch" in everything(at)
    at = type_and_erase(box.set_value("medicine").run(), found)
    assert not at.error
    assert states(at) == {"domains?domain=law": "live", "domains?domain=medicine": "masked"}
    assert state_of_all(at) == "live", "law still answers by it"
    at.selectbox(key="erase-from").set_value("law").run()
    at = type_and_erase(at, found)
    assert set(states(at).values()) == {"masked"}
    assert state_of_all(at) == "masked"


def test_a_reason_to_erase_one_document_does_not_stand_below_another(run_page, place):
    first, second = document(place), document(place, skip=2)
    at = run_page("document", place, id=first.document_id)
    field(at, "Why").input("asked to").run()
    at.text_input(key="id").input(second.document_id).run()
    assert second.document_id == at.code[0].value
    assert field(at, "Why").value == ""
    at = type_and_erase(at, second, "asked to as well")
    assert not at.error
    assert field(at, "Why").value == ""
    with open_store(place) as store:
        assert store.registry.history(1)[0].why == "asked to as well"


def test_what_changed_meanwhile_is_told_and_nothing_is_erased(run_page, place):
    found = document(place)
    at = run_page("document", place, id=found.document_id)
    field(at, "Type").input(found.document_id[:6]).run()
    with open_store(place) as store:
        store.disable("medicine")
    before = portrait(place)
    at.button(key="erase").click().run()
    assert not at.exception
    assert "Changed meanwhile; nothing was done" in at.warning[0].value
    assert portrait(place)[1:] == before[1:]


@pytest.mark.parametrize(("action", "told"), [("freeze", "is frozen"), ("disable", "is disabled")])
def test_what_may_not_be_erased_says_why_and_has_no_button(run_page, folder, action, told):
    with open_store(folder) as store:
        getattr(store, action)("law")
    at = run_page("document", folder, id=document(folder).document_id)
    assert not at.error
    assert told in everything(at)
    assert "erase" not in [button.key for button in at.button]


def test_questions_are_erased_with_their_fact(run_page, tmp_path):
    folder = new_store(tmp_path / "knowledge")
    grow(folder, "law", kinds={0: "fact", 1: "probe"})
    found = document(folder, split="test", skip=0)
    at = run_page("document", folder, id=found.document_id)
    assert not at.exception
    assert "question" in [metric.value for metric in at.metric]
    assert "which go with it; erase that" in everything(at)


def test_a_store_without_texts_masks_and_says_that_it_could_not_measure(run_page, tmp_path):
    base, folder = make_tiny_base(tmp_path / "base"), tmp_path / "knowledge"
    learned = [SourceDocument(text, "A case", "cases.txt") for text in sentences("law", 16)]
    with init_store(folder, base=str(base), background=background(), keep_text=False) as store:
        store.ingest("law", learned, settings=quick())
    found = document(folder)
    at = run_page("document", folder, id=found.document_id)
    assert "This store keeps no texts" in everything(at)
    assert at.radio(key="erase-how").options == [MASKED]
    at = type_and_erase(at, found)
    assert "was not measured" in at.success[0].value
    held_out = document(folder, split="test", skip=0)
    at = run_page("document", folder, id=held_out.document_id)
    assert "only the whole domain can be taken out" in everything(at)


def test_what_is_typed_means_the_document(place):
    found = document(place).document_id
    assert acts.is_typed(found, f" {found[:6].upper()} ")
    assert acts.is_typed(found, found)
    assert not acts.is_typed(found, found[:5])
    assert not acts.is_typed(found, found[:6] + "x")
    with open_store(place) as store:
        for erase in (
            partial(acts.erase, progress=lambda *_: None),
            partial(acts.start_erasing, evaluate=False),
        ):
            with pytest.raises(InputError, match=f"type {found[:6]}; nothing was done"):
                erase(store, "law", found, "law", "")
        assert store.registry.jobs.listed() == ()

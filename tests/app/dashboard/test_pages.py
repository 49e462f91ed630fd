"""Every page on a store: nothing goes wrong, and what is pressed is done."""

from dataclasses import replace

import pytest
from filled_store import new_store
from tiny_base import write_corpus
from tiny_store import FACTS, SETTINGS, copy_store, documents

from app.dashboard.main import ORDER
from app.dashboard.page_ingest import Request
from app.dashboard.processes import processes
from app.dashboard.state import plain
from pipelines import open_store
from pipelines.report import AskedRow
from pipelines.study.questions import StudyQuestion

PATHS = [page.path for page in ORDER]


def errors(at):
    return [one.value for one in at.error]


def words(at):
    """Return all captions and texts of a page."""
    kinds = (at.caption, at.text, at.markdown, at.info, at.success, at.warning, at.subheader)
    return "\n".join(one.value for kind in kinds for one in kind).replace("\\", "")


def press(at, label):
    (button,) = [one for one in at.button if one.label == label]
    return button.click().run()


def is_disabled(at, label):
    return [one.disabled for one in at.button if one.label == label] == [True]


def live(folder):
    with open_store(folder) as store:
        return store.registry.queries.live()


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_an_evaluated_store(show, evaluated, path):
    assert errors(show(path, evaluated)) == []


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_an_empty_store_says_what_to_do(show, tmp_path, path):
    new_store(tmp_path / "empty").close()
    at = show(path, tmp_path / "empty")
    assert errors(at) == []
    assert at.info or path == "ingest"


@pytest.mark.parametrize("path", ["overview", "retention", "domains", "history", "document"])
def test_a_page_of_a_store_without_an_evaluation(show, folder, path):
    assert errors(show(path, folder)) == []


def test_a_page_without_a_store_says_so_in_a_line(show, tmp_path):
    (message,) = errors(show("overview", tmp_path / "nothing"))
    assert "no store at" in message


@pytest.mark.parametrize("mode", ["loss", "change by this ingest", "forgetting"])
def test_each_view_of_an_evaluation(show, evaluated, mode):
    at = show("retention", evaluated, mode=mode)
    assert errors(at) == []
    assert at.warning == []  # it is current
    assert len(at.dataframe) == 5


def test_counts_of_answers_are_no_shares(show, evaluated):
    answers = show("retention", evaluated).dataframe[0]
    assert "num_found" in answers.value
    assert "percent" not in answers.proto.columns


def test_retention_leads_with_how_kept_questions_are_answered(show, evaluated, report, tmp_path):
    place = copy_store(evaluated, tmp_path)
    rows = [
        AskedRow("law", "made", 3, right=1, wrong=1, declined=1, found=2, outcomes=outcomes)
        for outcomes in (((0.9, True), (0.6, False)), ((0.8, True), (0.7, False)))
    ]
    with open_store(place) as store:
        asked = replace(report, asked=tuple(rows))
        store.registry.put_evaluation(report.snapshot, asked.to_json())
    at = show("retention", place)
    assert errors(at) == []
    shown = [(one.label, one.value, one.delta) for one in at.metric[:3]]
    of = "of 6 kept questions"
    assert shown == [("Right", "2", of), ("Wrong", "2", of), ("Declined", "2", of)]
    assert "only the surest" in words(at)
    assert "Right" in [one.label for one in show("overview", place).metric]


def test_what_was_not_scored_is_absent(show, evaluated, tmp_path):
    place = copy_store(evaluated, tmp_path)
    with open_store(place) as store:
        for domain in ("law", "medicine"):
            store.remove(domain)
        store.evaluate()
    at = show("retention", place)
    assert "This evaluation scored no such text" in words(at)
    assert {one.label: one.value for one in at.metric}["Worst added loss"] == "–"


def test_an_old_evaluation_is_called_so(show, evaluated, tmp_path):
    place = copy_store(evaluated, tmp_path)
    with open_store(place) as store:
        store.freeze("law")
    assert not show("retention", place).warning
    with open_store(place) as store:
        store.disable("law")
    assert "other versions are live" in words(show("retention", place))
    assert "with other versions" in words(show("overview", place))


def test_the_overview_tells_what_went_wrong(show, folder):
    with open_store(folder) as store:
        registry = store.registry
        registry.end_run(registry.start_run("ingest", "law", "ann", ""), "failed", error="no space")
    at = show("overview", folder)
    assert "The last ingest of law failed: no space" in words(at)
    with open_store(folder) as store:
        registry = store.registry
        registry.objects.delete(registry.queries.domain("law").chain[0].objects["shared.0"])
    at = press(at, "Check every byte")
    assert len(errors(at)) == 1


def test_freezing_is_one_click_and_has_a_message(show, folder):
    at = show("domains", folder, domain="law")
    at.text_input(key="message law").set_value("it is complete")
    at = press(at, "Freeze")
    assert errors(at) == []
    assert [one.value for one in at.toast] == ["law is frozen\\: it learns nothing more\\."]
    assert live(folder).state("law").is_frozen
    with open_store(folder) as store:
        assert store.registry.queries.events(limit=1)[0].message == "it is complete"


def test_a_click_on_what_changed_meanwhile_does_nothing(show, folder):
    at = show("domains", folder, domain="law")
    with open_store(folder) as store:
        moved = store.disable("medicine").id
    (message,) = errors(press(at, "Remove"))
    assert "changed meanwhile" in message
    assert live(folder).id == moved


def test_remove_restore_and_roll_back(show, folder):
    at = show("domains", folder, domain="law")
    assert is_disabled(at, "Roll back")
    at = press(at.selectbox(key="version law").set_value("v1").run(), "Roll back to v1")
    assert live(folder).state("law").label == "v1"
    at = press(at, "Remove")
    assert live(folder).state("law") is None
    press(at, "Restore")
    assert live(folder).state("law").label == "v1"


def test_nothing_is_deleted_without_the_name(show, folder):
    with open_store(folder) as store:
        store.remove("medicine")
    at = show("domains", folder, domain="medicine")
    (message,) = errors(press(at, "Delete for good"))
    assert "type the domain's name" in message
    at.text_input(key="purge medicine").set_value("medicine")
    assert errors(press(at, "Delete for good")) == []
    with open_store(folder) as store:
        (_, medicine) = store.registry.queries.domains()
    assert medicine.is_purged


def test_the_store_is_rolled_back_to_a_snapshot(show, folder):
    at = show("history", folder)
    assert is_disabled(at, "Roll back")
    at.selectbox(key="roll-back-to").set_value(3).run()
    at = press(at, "Roll back to snapshot 3")
    assert errors(at) == []
    with open_store(folder) as store:
        queries = store.registry.queries
        assert queries.live().domains == queries.snapshot(3).domains


def test_a_rollback_leaves_out_what_was_purged(show, folder):
    with open_store(folder) as store:
        store.remove("medicine")
        store.purge("medicine")
    at = show("history", folder)
    at.selectbox(key="roll-back-to").set_value(3).run()
    assert "Purged, so left out: medicine" in words(at)
    press(at, "Roll back to snapshot 3")
    assert [state.label for state in live(folder).domains] == ["v1"]


def test_items_and_the_busiest_shared_experts_are_listed(show, evaluated):
    at = show("experts", evaluated, domain="law", layer="1")
    with open_store(evaluated) as store:
        learned = store.registry.queries.documents("law", split="train")
    titles = {one.title for one in learned if one.kind == "text"}
    assert f"{len(learned)} of {len(learned)} items" in words(at)
    assert {*at.dataframe[0].value["about"]} == {fact.statement for fact in FACTS} | titles
    assert at.dataframe[1].value["weight_share"].is_monotonic_decreasing


@pytest.mark.parametrize("path", ["domains", "experts", "retention"])
def test_a_page_of_a_domain_of_facts_alone(show, evaluated, path):
    at = show(path, evaluated, domain="houses")
    assert errors(at) == []
    if path == "experts":
        assert "it has no shared experts" in words(at)


def test_a_fact_is_shown_traced_and_answered(show, evaluated):
    fact = FACTS[0]
    at = show("document", evaluated, id=fact.document_id)
    assert errors(at) == []
    assert fact.statement in [one.value for one in at.text]
    assert at.dataframe[1].value["num_experts"].min() > 0
    at = show("trace", evaluated, text=fact.taught_prompt)
    assert errors(at) == []
    at = press(at, "Continue it")
    assert "Written by" in words(at)
    assert any(one.value.startswith(fact.answer) for one in at.text)


def test_a_text_is_traced_and_continued(show, evaluated):
    at = show("trace", evaluated)
    at.text_area(key="trace-text").set_value("The court of appeal held")
    at = press(at, "Trace")
    assert errors(at) == []
    assert at.metric[0].label == "Tokens"
    at = press(at, "Continue it")
    assert errors(at) == []
    assert "Written by" in words(at)


def test_examples_of_the_store_are_asked_and_traced_with_a_click(show, evaluated):
    titles = [one.document("").title for one in FACTS]
    at = press(show("ask", evaluated), plain(titles[0]))  # its passages learned no questions
    assert errors(at) == []
    assert at.text_input(key="ask-question").value == titles[0]
    assert FACTS[0].statement in words(at)
    assert is_disabled(at, "Take it out")
    at = press(show("trace", evaluated), FACTS[0].taught_prompt)
    assert errors(at) == []
    assert FACTS[0].statement in [*at.dataframe[0].value["statement"]]


def test_an_example_is_a_question_that_a_passage_learned(show, store):
    text = documents("minerals", 1, 1)[0]
    own = StudyQuestion(text.document_id, "Who keeps the tower?", text.text.split()[-1].strip("."))
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("minerals", [text], questions=[own], settings=settings)
    at = show("ask", store.registry.folder)
    assert own.question in [one.label for one in at.button]
    assert f"[{text.title}, {text.source}]" in words(press(at, own.question))


def test_a_traced_text_that_is_too_long_is_refused_in_a_line(show, evaluated):
    at = show("trace", evaluated, text="court " * 2000)
    (message,) = errors(at)
    assert "shorten" in message


def test_a_document_shows_text_and_places(show, evaluated):
    with open_store(evaluated) as store:
        queries = store.registry.queries
        document = queries.documents("law", split="train", kind="text")[0]
        text = queries.document_text(document)
    at = show("document", evaluated, id=document.document_id[:12])
    assert errors(at) == []
    assert text in [one.value for one in at.text]
    assert at.dataframe[1].value["num_experts"].min() > 0
    at = press(at, "Erase")
    assert "nothing was done" in errors(at)[0]
    with open_store(evaluated) as store:
        held_out = store.registry.queries.documents("law", split="test")[0].document_id
    assert "It owns none" in words(show("document", evaluated, id=held_out))


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_a_text_is_erased_from_its_page(show, evaluated, tmp_path, is_waited_for):
    place = copy_store(evaluated, tmp_path)
    with open_store(place) as store:
        gone = store.registry.queries.documents("law", split="train", kind="text")[0].document_id
    assert "Shared experts pending" not in words(show("domains", place, domain="law"))
    at = show("document", place, id=gone)
    at.text_input(key="erase-typed").set_value(gone[:6])
    at.checkbox(key="erase-wait").set_value(is_waited_for)
    known = {*processes()}
    at = press(at, "Erase")
    assert errors(at) == []
    (started,) = processes().keys() - known
    assert processes()[started].popen.wait(120) == 0
    with open_store(place) as store:
        queries = store.registry.queries
        assert gone not in [one.document_id for one in queries.documents("law")]
        assert queries.pending(["law"]) == (() if is_waited_for else ("law",))
    at = show("domains", place, domain="law")
    assert ("Shared experts pending" in words(at)) is not is_waited_for
    assert errors(show("experts", place, domain="law")) == []


def test_a_corpus_is_looked_at_before_it_is_learned(show, evaluated, tmp_path):
    corpus = write_corpus(tmp_path / "minerals.jsonl", "minerals")
    at = show("ingest", evaluated, domain="law")
    at.segmented_control(key="ingest-place").set_value("A path on this machine").run()
    at.text_input[0].set_value(str(corpus))
    at = press(at.run(), "Look at it first")
    assert errors(at) == []
    figures = {one.label: one.value for one in at.metric}
    assert figures["New"] == figures["Documents"]
    assert any(one.label == "Start learning" and not one.disabled for one in at.button)


def test_a_request_becomes_a_command():
    settings = (("text_passes", 3.0), ("seed", 7))
    request = Request("law", "a.jsonl", "f.jsonl", settings, True, "why")
    assert request.words == [
        *("ingest", "law", "a.jsonl", "--facts", "f.jsonl", "--passes", "3.0", "--seed", "7"),
        *("--on-bad-row", "skip", "--message", "why"),
    ]


def test_another_domain_s_experts_are_chosen_after_a_version_that_it_lacks(show, folder):
    at = show("experts", folder, domain="law", version="v2", layer="2")
    at.selectbox(key="domain").set_value("medicine").run()
    assert at.selectbox(key="version").value == "v1"

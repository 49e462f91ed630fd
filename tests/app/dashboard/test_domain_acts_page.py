"""Domains: acts on one, with preview, confirmation and undo."""

import pytest
from filled_store import grow, portrait
from pages import DOMAIN_PARTS, act_on, choose, everything

from pipelines import open_store


def live(folder):
    with open_store(folder) as store:
        return store.registry.live()


def field(at, label):
    """Return the text field whose label begins with some words."""
    return next(box for box in at.text_input if box.label.startswith(label))


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [("Freeze", "is_frozen", True), ("Disable", "is_enabled", False)],
)
def test_a_switch_is_previewed_done_recorded_and_undone(run_page, folder, option, name, value):
    before = live(folder)
    at = act_on(run_page, folder, "law", option)
    assert any("it can be undone" in text.value for text in at.text)
    assert live(folder) == before, "a preview changes nothing"
    field(at, "Why").input("an audit").run()
    at.button(key="act").click().run()
    assert not at.exception
    assert "law is" in at.success[0].value
    assert getattr(live(folder).state("law"), name) is value
    with open_store(folder) as store:
        event = store.registry.history(1)[0]
    assert event.why == "an audit"
    assert event.who
    assert field(at, "Why").value == ""
    at.button(key="undo").click().run()
    assert live(folder).domains == before.domains
    assert live(folder).id == before.id + 2, "an undo is an act of its own"


def test_rolling_back_to_a_version_and_undo(run_page, folder):
    grow(folder, "law")
    before = live(folder)
    at = act_on(run_page, folder, "law", "Roll back")
    at = choose(at, "To version", "v1")
    assert (
        "law goes from v3 to v1, without what came since: 4 texts learned, 2 texts held out."
        in everything(at)
    )
    at.button(key="act").click().run()
    assert live(folder).state("law").label == "v1"
    at.button(key="undo").click().run()
    assert live(folder).domains == before.domains


def test_what_was_taken_out_is_brought_back_as_it_was(run_page, folder):
    with open_store(folder) as store:
        store.freeze("law")
        before = store.registry.live()
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law", part="Act")
    box = next(box for box in at.selectbox if box.label == "What to do")
    assert "Bring back" in box.value.label, "what can be undone stands before the purge"
    assert "it can be undone" in everything(at)
    at.button(key="act").click().run()
    assert "law is back, at v2" in at.success[0].value
    assert live(folder).domains == before.domains
    at.button(key="undo").click().run()
    assert live(folder).state("law") is None


def test_a_preview_counts_the_version_that_comes_back_and_not_the_newest(run_page, folder):
    grow(folder, "law")
    with open_store(folder) as store:
        first = store.registry.domain("law").chain[0]
        store.roll_back("law", first.id)
        store.roll_back("law", out=True)
    at = run_page("domains", folder, domain="law", part="Act")
    told = "law is in the store again as it last was: 2 texts learned, 1 text held out."
    assert told in [text.value for text in at.text]
    corpus = run_page("domains", folder, domain="law", part="Corpus")
    assert len(corpus.dataframe[-1].value) == 3
    at.button(key="act").click().run()
    assert live(folder).state("law").version == first.id
    figures = {metric.label: metric.value for metric in at.metric}
    assert (figures["Texts learned"], figures["Texts held out"]) == ("2", "1")


def test_a_reason_is_for_the_domain_and_the_act_for_which_it_was_typed(run_page, folder):
    at = act_on(run_page, folder, "law", "Freeze")
    field(at, "Why").input("an audit of law").run()
    at.selectbox(key="domain").select("medicine").run()
    assert field(at, "Why").value == ""
    at.button(key="act").click().run()
    with open_store(folder) as store:
        event = store.registry.history(1)[0]
    assert (event.domain, event.why) == ("medicine", "")
    field(at, "Why").input("it may learn again").run()
    assert field(choose(at, "What to do", "Take out"), "Why").value == ""


def test_a_name_typed_to_purge_one_domain_does_not_stand_below_another(run_page, folder):
    with open_store(folder) as store:
        store.roll_back("law", out=True)
        store.roll_back("medicine", out=True)
    at = act_on(run_page, folder, "law", "Purge")
    field(at, "Type").input("law").run()
    assert not at.button(key="act").disabled
    at = choose(at.selectbox(key="domain").select("medicine").run(), "What to do", "Purge")
    assert field(at, "Type").value == ""
    assert at.button(key="act").disabled


def test_taking_out_and_purging_leaves_no_title_anywhere(run_page, folder):
    at = act_on(run_page, folder, "law", "Take out")
    at.button(key="act").click().run()
    assert live(folder).state("law") is None
    assert "[About] law" in everything(run_page("domains", folder, domain="law", part="Corpus"))
    at = act_on(run_page, folder, "law", "Purge")
    before = portrait(folder)
    assert at.button(key="act").disabled
    field(at, "Type").input("medicine").run()
    assert at.button(key="act").disabled
    assert portrait(folder) == before
    field(at, "Type").input("law").run()
    assert not at.button(key="act").disabled
    assert at.button(key="act").label == ":red[Purge law]"
    at.button(key="act").click().run()
    assert "documents are gone" in at.success[0].value
    assert not [button for button in at.button if button.label == "Undo"]
    for part in DOMAIN_PARTS:
        page = run_page("domains", folder, domain="law", part=part)
        assert not page.exception
        assert "[About] law" not in everything(page)
    for name in ("overview", "history"):
        assert "[About] law" not in everything(run_page(name, folder))


def test_a_purge_elsewhere_empties_the_cache_too(run_page, folder):
    with open_store(folder) as store:
        store.roll_back("law", out=True)
        run_page("domains", folder, domain="law", part="Corpus")
        store.purge("law")
    at = run_page("domains", folder, domain="law", part="Corpus")
    assert "[About] law" not in everything(at)
    assert "No document of this domain is left" in everything(at)


def test_a_live_domain_cannot_be_purged(run_page, folder):
    at = run_page("domains", folder, domain="medicine", part="Act")
    box = next(box for box in at.selectbox if box.label == "What to do")
    assert not [option for option in box.options if "Purge" in option]
    assert "take it out of the store first" in everything(at)


def test_what_changed_meanwhile_is_told_and_nothing_is_done(run_page, folder):
    at = act_on(run_page, folder, "law", "Freeze")
    with open_store(folder) as store:
        store.disable("medicine")
    before = portrait(folder)
    at.button(key="act").click().run()
    assert not at.exception
    assert "Changed meanwhile; nothing was done" in at.warning[0].value
    assert portrait(folder) == before
    at.button(key="reload").click().run()
    assert not at.warning
    at.button(key="act").click().run()
    assert live(folder).state("law").is_frozen, "after looking again it is done"


def test_a_problem_is_told_below_its_button_and_nowhere_else(run_page, folder):
    at = act_on(run_page, folder, "law", "Freeze")
    with open_store(folder) as other, other.registry.writing("ann"):
        at.button(key="act").click().run()
    told = at.error[0].value
    order = [element.type for element in at.main]
    assert order.index("error") > order.index("button")
    at.selectbox(key="domain").select("medicine").run()
    assert not at.error
    outcome = at.session_state["outcome"]
    history = run_page("history", folder)
    history.session_state["outcome"] = outcome
    history.run()
    assert not history.error
    at.selectbox(key="domain").select("law").run()
    assert at.error[0].value == told
    at.button(key="close-problem").click().run()
    assert not at.error


def test_undo_is_no_longer_offered_once_the_store_moved_on(run_page, folder):
    at = act_on(run_page, folder, "law", "Freeze")
    at.button(key="act").click().run()
    with open_store(folder) as store:
        store.disable("medicine")
    at.run()
    assert at.success
    assert not [button for button in at.button if button.label == "Undo"]
    at.button(key="close-done").click().run()
    assert not at.success


def test_a_store_that_another_writes_is_told_in_one_line(run_page, folder):
    at = act_on(run_page, folder, "law", "Freeze")
    with open_store(folder) as other, other.registry.writing("ann"):
        at.button(key="act").click().run()
    assert "ann" in at.error[0].value
    assert not live(folder).state("law").is_frozen

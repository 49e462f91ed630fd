"""A domain's life by clicks alone, in a real browser: the store agrees at every step."""

import pytest
from playwright.sync_api import expect
from tiny_base import write_corpus

from pipelines import open_store
from tests.browser.browsing import go_to, open_page, wait_until_it_stands

pytestmark = pytest.mark.browser

TITLES = ("Ask", "Overview", "Retention", "Domains", "Experts", "Trace", "Ingest", "History")
STILL = "document.getAnimations().every(one => one.playState !== 'running')"


def live(knowledge):
    with open_store(knowledge) as store:
        return store.registry.queries.live()


def press(page, label):
    page.get_by_role("button", name=label, exact=True).click()


def said(page, text):
    """Wait for a toast."""
    page.get_by_test_id("stToast").filter(has_text=text).wait_for()


def test_every_page_stands(page, address, picture):
    open_page(page, address, "Overview")
    for title in TITLES:
        go_to(page, title)
        assert page.get_by_test_id("stAlertContentError").count() == 0
        picture(page, title.lower())


def test_a_domain_s_life(page, address, knowledge, picture, tmp_path):
    corpus = write_corpus(tmp_path / "minerals.jsonl", "minerals")
    open_page(page, address, "Ingest")
    page.locator("input[type=file]").first.set_input_files(corpus)
    domain = page.get_by_role("combobox", name="Domain", exact=True)
    domain.fill("minerals")
    domain.press("Enter")
    message = page.get_by_label("Message (kept in the log)")
    message.fill("a test by clicks")
    message.press("Enter")
    wait_until_it_stands(page, "Ingest")
    press(page, "Look at it first")
    page.get_by_text("Takes about").wait_for()
    wait_until_it_stands(page, "Ingest")
    picture(page, "life-1-looked-at")
    press(page, "Start learning")
    page.get_by_text("The ingest of minerals is done").wait_for()
    picture(page, "life-2-learned")
    assert live(knowledge).state("minerals").label == "v1"

    go_to(page, "Overview")
    page.get_by_text("This store was never evaluated").wait_for()
    press(page, "Evaluate now")
    page.get_by_role("link", name="Follow it").click()
    page.get_by_text("The evaluation is done").wait_for()
    page.get_by_role("link", name="See what it found").click()
    page.get_by_role("tab", name="Matrix").click()
    page.get_by_text("Download the matrix").wait_for()
    picture(page, "life-3-evaluated")

    open_page(page, address, "Domains", domain="minerals")
    press(page, "Freeze")
    said(page, "minerals is frozen")
    assert live(knowledge).state("minerals").is_frozen
    wait_until_it_stands(page, "Domains")
    press(page, "Remove")
    said(page, "minerals is removed")
    assert live(knowledge).state("minerals") is None
    wait_until_it_stands(page, "Domains")
    press(page, "Restore")
    said(page, "minerals is restored")
    state = live(knowledge).state("minerals")
    assert (state.label, state.is_frozen) == ("v1", True)
    picture(page, "life-4-restored")

    go_to(page, "History")
    picture(page, "life-5-history")
    with open_store(knowledge) as store:
        events = store.registry.queries.events(limit=4)
        assert [one.action for one in events] == ["restore", "remove", "freeze", "ingest"]
        assert events[-1].message == "a test by clicks"
        assert [one for one in store.doctor() if one.severity == "error"] == []


def test_a_click_on_a_row_shows_its_domain(page, address):
    open_page(page, address, "Domains")
    table = page.get_by_test_id("stDataFrame").first
    box = table.bounding_box()
    page.mouse.click(box["x"] + 15, box["y"] + 52)
    expect(page.get_by_role("combobox", name="Domain", exact=True)).to_have_value("law")


def test_what_changed_meanwhile_is_not_acted_on(page, address, knowledge):
    open_page(page, address, "Domains", domain="law")
    with open_store(knowledge) as store:
        store.disable("law", "by somebody else")
    press(page, "Freeze")
    page.get_by_text("The store changed meanwhile").wait_for()
    assert not live(knowledge).state("law").is_frozen
    with open_store(knowledge) as store:
        store.enable("law")


def test_a_text_is_traced_and_continued(page, address, picture):
    open_page(page, address, "Trace", text="The+court+of+appeal+held+that")
    page.get_by_text("Next token").wait_for()
    picture(page, "trace-text")
    page.get_by_role("tab", name="Continue").click()
    press(page, "Continue it")
    page.get_by_text("Written by").wait_for()
    picture(page, "trace-continued")


def test_a_question_is_answered_and_a_click_takes_its_source_out(page, address, knowledge, picture):
    before = live(knowledge)
    open_page(page, address, "Ask")
    page.get_by_label("Question").fill("The court of appeal held that the contract was void")
    press(page, "Ask")
    page.get_by_text("Found", exact=True).wait_for()
    wait_until_it_stands(page, "Ask")
    picture(page, "ask-1-answered")
    page.get_by_text("Take a source out").click()
    expect(page.get_by_role("button", name="Take it out", exact=True)).to_be_disabled()
    documents = page.get_by_role("combobox", name="Document", exact=True)
    page.wait_for_function(STILL)  # what moves when a list opens closes it again
    documents.focus()
    documents.press("ArrowDown")
    page.get_by_role("option").first.click()
    page.get_by_text("of law would be answered from another document").wait_for()
    picture(page, "ask-2-preview")
    press(page, "Take it out")
    said(page, "is out of law")
    with open_store(knowledge) as store:
        (event,) = store.registry.queries.events(limit=1)
        assert (event.action, event.domain) == ("erase", "law")
        store.roll_back_to(before.id, with_erased=True)

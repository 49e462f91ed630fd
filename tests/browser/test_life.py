"""A domain's life by clicks alone: learn, look, freeze, roll back, restore; the store agrees."""

import pytest
from playwright.sync_api import TimeoutError, expect
from tiny_base import make_tiny_store, write_corpus

from benchmarks.browsing import go_to, serving, wait_until_it_stands
from pipelines import open_store

pytestmark = pytest.mark.browser


@pytest.fixture
def knowledge(tmp_path, browser):
    return make_tiny_store(tmp_path)


@pytest.fixture
def server(knowledge, tmp_path):
    with serving(knowledge, tmp_path / "log") as address:
        yield address


def choose(page, label, option, *, exact=True):
    """Choose from a list by keys alone: a click may scroll the page, which closes the list."""
    box = page.get_by_role("combobox", name=label, exact=True)
    choice = page.get_by_role("option", name=option, exact=exact)
    for wait in (5_000, 10_000, 45_000):
        box.focus()
        box.fill("")
        box.press_sequentially(option)
        try:
            choice.wait_for(timeout=wait)
        except TimeoutError:
            # The page's script ran once more after it stood, which closes the list.
            box.press("Escape")
        else:
            box.press("Enter")
            return
    pytest.fail(f"the list {label!r} did not offer {option!r} within a minute")


def act(page, what, button, why, said):
    """Do something with the domain that the page Domains shows."""
    choose(page, "What to do", what)
    page.get_by_text("What will change").wait_for()
    # The field above it is of this act then: what is typed for another does not stand there.
    page.get_by_role("button", name=button, exact=True).wait_for()
    reason = page.get_by_label("Why (kept in the history)")
    expect(reason).to_have_count(1)  # that of the act before may stand for a moment longer
    reason.fill(why)
    page.get_by_role("button", name=button, exact=True).click()
    wait_until_done(page, said)
    wait_until_it_stands(page, "Domains")


def wait_until_done(page, said):
    """Wait until the page says that an act is done: its preview may use the same words before."""
    page.get_by_test_id("stAlertContentSuccess").filter(has_text=said).wait_for()


def test_a_domain_s_life(server, knowledge, new_page, picture, tmp_path):
    page = new_page()
    corpus = write_corpus(tmp_path / "more-law.jsonl", "law", 30, seed=5)
    learn(page, server, corpus, picture)
    with open_store(knowledge) as store:
        assert store.registry.live().state("law").label == "v2"
        store.evaluate(background=False)

    go_to(page, "Retention")
    page.get_by_text("Download the matrix").wait_for()
    assert "This snapshot is live" in page.get_by_test_id("stMain").inner_text()
    picture(page, "life-2-retention")

    page.goto(f"{server}/domains?domain=law&part=Act")
    wait_until_it_stands(page, "Domains")
    act(page, "Freeze: let it learn nothing more", "Freeze law", "it is whole", "is frozen")
    picture(page, "life-3-frozen")
    act(page, "Roll back to an earlier version", "Roll back law", "too much", "went from v2 to v1")
    with open_store(knowledge) as store:
        assert store.registry.live().state("law").label == "v1"
        frozen = store.registry.live().id - 1

    go_to(page, "History")
    picture(page, "life-4-history")
    choose(page, "Snapshot to restore", f"{frozen}: law, freeze", exact=False)
    page.get_by_role("button", name=f"Restore snapshot {frozen}").click()
    wait_until_done(page, f"as it was at snapshot {frozen}")
    wait_until_it_stands(page, "History")
    picture(page, "life-4-restored")

    with open_store(knowledge) as store:
        registry = store.registry
        law = registry.live().state("law")
        assert (law.label, law.is_frozen, law.is_enabled) == ("v2", True, True)
        assert registry.live().domains == registry.snapshot(frozen).domains
        done = [(event.action, event.why) for event in registry.history(4)]
        assert done == [
            ("rollback", ""),
            ("rollback", "too much"),
            ("freeze", "it is whole"),
            ("ingest", "a test by clicks"),
        ]
        assert [finding for finding in registry.doctor() if finding.severity != "note"] == []
        known = {document.document_id for document in registry.documents("law")}
        text = corpus.read_text(encoding="utf-8").splitlines()
        assert len(known) > len(text)


def learn(page, server, corpus, picture):
    """Teach law a file by upload, and watch it to the end."""
    page.goto(f"{server}/ingest?domain=law")
    wait_until_it_stands(page, "Ingest")
    page.get_by_role("radiogroup").get_by_text("A file of mine").click()
    page.locator("input[type=file]").first.set_input_files(corpus)
    page.get_by_label("Why? (kept in the history)").fill("a test by clicks")
    page.get_by_label("Why? (kept in the history)").press("Enter")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("New documents").wait_for()
    page.get_by_text("Measure what was learned and kept afterwards").click()
    wait_until_it_stands(page, "Ingest")
    picture(page, "life-1-preview")
    page.get_by_role("button", name="Start learning").click()
    page.get_by_text("Learning law").wait_for()
    page.get_by_text("Done: ").wait_for(timeout=180_000)
    picture(page, "life-1-done")


def test_an_act_on_a_store_that_moved_meanwhile_changes_nothing(server, knowledge, new_page):
    page = new_page()
    page.goto(f"{server}/domains?domain=law&part=Act")
    wait_until_it_stands(page, "Domains")
    choose(page, "What to do", "Freeze: let it learn nothing more")
    page.get_by_role("button", name="Freeze law", exact=True).wait_for()
    wait_until_it_stands(page, "Domains")
    with open_store(knowledge) as store:
        store.disable("medicine", "by somebody else")
        moved = store.registry.live()
    page.get_by_role("button", name="Freeze law", exact=True).click()
    page.get_by_text("Changed meanwhile; nothing was done").wait_for()
    with open_store(knowledge) as store:
        assert store.registry.live() == moved


def test_two_who_look_see_the_same_and_one_s_act_reaches_the_other(server, new_page):
    one, two = new_page(), new_page()
    for page in (one, two):
        page.goto(f"{server}/domains?domain=medicine&part=Act")
        wait_until_it_stands(page, "Domains")
    act(one, "Disable: stop asking it", "Disable medicine", "", "is not asked any more")
    go_to(two, "History")
    assert "disable" in two.get_by_test_id("stMain").inner_text()

"""Every page in a real browser: it stands, asks nobody else, and complains of nothing."""

import re

import pytest
from tiny_base import SUBJECTS

from benchmarks.browsing import TITLES, go_to, wait_for_model, wait_until_it_stands

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (1920, 1080)], ids=["1280", "1920"])
def test_every_page_stands_at_both_sizes_in_both_themes(server, new_page, picture, size, scheme):
    page = new_page(size, scheme)
    page.goto(server)
    wait_until_it_stands(page, TITLES[0])
    for title in TITLES:
        go_to(page, title)
        wait_for_model(page, title)
        assert page.get_by_role("alert").filter(has_text="a fault of peer-cl").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert picture(page, f"{title}-{size[0]}-{scheme}").stat().st_size > 5_000


@pytest.mark.parametrize("title", TITLES)
def test_every_page_has_an_address_of_its_own(server, new_page, title):
    page = new_page()
    page.goto(f"{server}/{'' if title == TITLES[0] else title.lower()}")
    wait_until_it_stands(page, title)


def test_a_text_is_traced_searched_and_written_on(server, new_page, picture):
    page = new_page()
    page.goto(f"{server}/trace")
    wait_for_model(page, "Trace")
    page.get_by_label("Text", exact=True).fill(SUBJECTS["law"])
    page.get_by_role("button", name="Trace", exact=True).click()
    page.get_by_text("The text, token by token").wait_for()
    wait_until_it_stands(page, "Trace")
    assert "text=The" in page.url
    picture(page, "trace-text")
    page.get_by_role("tab", name="Search").click()
    page.get_by_text("Nearest documents").wait_for()
    page.get_by_role("tab", name="Write on").click()
    page.get_by_role("button", name="Write on").click()
    # The button Stop may have come and gone before it is looked for: so few tokens are written.
    page.get_by_test_id("stText").filter(has_text=re.compile(r"[^…\s]")).last.wait_for()
    page.get_by_test_id("stMain").get_by_role("button", name="Stop").wait_for(state="detached")
    wait_until_it_stands(page, "Trace")
    assert page.get_by_text("Stopped:").count() == 0
    picture(page, "trace-written")
    page.reload()
    page.get_by_text("Write on").first.wait_for()
    wait_until_it_stands(page, "Trace")
    assert page.get_by_label("Text", exact=True).input_value() == SUBJECTS["law"]


def test_what_is_being_written_can_be_stopped(server, new_page):
    page = new_page()
    page.goto(f"{server}/trace?view=Write+on&text={SUBJECTS['law'].replace(' ', '+')}")
    wait_for_model(page, "Trace")
    page.get_by_role("slider", name="New tokens, at most").press("End")
    wait_until_it_stands(page, "Trace")
    page.get_by_role("button", name="Write on").click()
    page.get_by_text("of 200 tokens").first.wait_for()
    page.get_by_test_id("stMain").get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped: what was written until then").wait_for()
    wait_until_it_stands(page, "Trace")
    written = page.get_by_test_id("stText").all_inner_texts()
    assert written[0].startswith("rent")
    assert written[1].count("rent") < 200

"""A real store, the real server and a real Chromium; without one the tests are skipped."""

import os
import re
from pathlib import Path

import pytest
from tiny_base import make_tiny_store

from benchmarks.browsing import NO_CHROMIUM, chromium, find_chromium, listen, serving

SIZES = ((1280, 900), (1920, 1080))


@pytest.fixture(scope="session")
def browser():
    if find_chromium() is None:
        pytest.skip(NO_CHROMIUM)
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def knowledge(tmp_path_factory, browser):
    """A store that learned law and medicine on a tiny base."""
    return make_tiny_store(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def server(knowledge, tmp_path_factory):
    with serving(knowledge, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture
def new_page(browser):
    """Open pages, each in a profile of its own; what they ask for and complain of is checked."""
    contexts, heard = [], []

    def new(size=SIZES[0], scheme="light"):
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        heard.append(listen(page))
        return page

    yield new
    for context in contexts:
        context.close()
    assert {address for one in heard for address in one.strangers} == set()
    assert {text for one in heard for text in one.complaints} == set()


@pytest.fixture
def picture(tmp_path):
    """Take a picture of a page into PEER_CL_SCREENSHOTS, or into the test's own folder."""
    folder = Path(os.environ.get("PEER_CL_SCREENSHOTS") or tmp_path)

    def take(page, name):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (re.sub(r"\W+", "-", name.lower()) + ".png")
        page.screenshot(path=path, full_page=False)
        return path

    return take

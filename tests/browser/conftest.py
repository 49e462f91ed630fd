import os
from pathlib import Path

import pytest
from tiny_store import make_tiny_store

from tests.browser.browsing import CHROMIUM, chromium, serving


@pytest.fixture(scope="session")
def knowledge(tmp_path_factory):
    """A store that learned law on a tiny base."""
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium here; Debian has one: apt-get install chromium")
    return make_tiny_store(tmp_path_factory.mktemp("browser"), domains=("law",))


@pytest.fixture(scope="session")
def address(knowledge, tmp_path_factory):
    with serving(knowledge, tmp_path_factory.mktemp("server") / "log") as served:
        yield served


@pytest.fixture
def page(knowledge, tmp_path):
    """A page that asks nobody but this machine for anything, and has no error in its console."""
    requests, complaints = [], []
    with chromium(tmp_path / "profile") as browser:
        opened = browser.pages[0]
        opened.set_default_timeout(120_000)
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:", "chrome:")
    assert [url for url in requests if not url.startswith(local)] == []
    assert complaints == []


@pytest.fixture
def picture(tmp_path):
    """Take a picture of a page into PEER_CL_SCREENSHOTS, or into the test's own folder."""
    folder = Path(os.environ.get("PEER_CL_SCREENSHOTS") or tmp_path)

    def take(page, name):
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png")

    return take

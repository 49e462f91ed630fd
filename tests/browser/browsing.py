"""The dashboard's real server and a real Chromium, for the tests and for take_pictures.py."""

import os
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from app.dashboard import server_command

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
STANDS = """title => {
    const app = document.querySelector('[data-testid="stApp"]');
    const heading = document.querySelector('[data-testid="stMain"] h1');
    const drawn = kind => [...document.querySelectorAll(`[data-testid="${kind}"]`)]
        .every(element => element.offsetParent === null || element.querySelector('canvas, svg'));
    return app !== null && heading !== null && heading.innerText.trim() === title
        && app.getAttribute('data-test-script-state') === 'notRunning'
        && document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]') === null
        && drawn('stVegaLiteChart') && drawn('stDataFrame');
}"""
"""Whether a page stands: its script is over, nothing is stale, what is in sight is drawn."""


@contextmanager
def serving(store, log):
    """Serve a store's dashboard on a free port of loopback, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with Path(log).open("wb") as printed:
        server = subprocess.Popen(
            server_command(Path(store), port=port, opens_browser=False),
            cwd=ROOT,
            env=environment,
            stdout=printed,
            stderr=printed,
        )
    try:
        _wait_until_it_answers(f"{address}/_stcore/health", server, log)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait_until_it_answers(address, server, log):
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the dashboard did not start: {Path(log).read_text()[-2000:]}")


@contextmanager
def chromium(profile):
    """Yield a Chromium with a profile of its own, in a folder."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=list(ARGUMENTS),
            viewport={"width": 1280, "height": 900},
            color_scheme="light",
        )
        try:
            yield context
        finally:
            context.close()


def wait_until_it_stands(page, title):
    """Wait until the page with a heading stands."""
    page.wait_for_function(STANDS, arg=title, polling="raf")


def open_page(page, address, title, **query):
    """Open a page of the dashboard by its address, and wait until it stands."""
    path = "" if title == "Ask" else title.lower()
    words = "&".join(f"{name}={value}" for name, value in query.items())
    page.goto(f"{address}/{path}?{words}")
    wait_until_it_stands(page, title)


def go_to(page, title):
    """Go to a page by the navigation, as a person does, and wait until it stands."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    wait_until_it_stands(page, title)

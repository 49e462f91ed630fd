"""The dashboard's real server and a real Chromium: for its benchmark and the browser tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from app.dashboard.launch import is_loopback
from peer_cl.errors import StateError

ROOT = Path(__file__).resolve().parent.parent
TITLES = ("Overview", "Retention", "Domains", "Experts", "Trace", "Ingest", "History")
"""Every page's heading, and its name in the navigation."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NO_CHROMIUM = "no Chromium here; Debian has one: apt-get install chromium"
STANDS = """title => {
    const app = document.querySelector('[data-testid="stApp"]');
    const heading = document.querySelector('[data-testid="stMain"] h1');
    const whole = kind => [...document.querySelectorAll(`[data-testid="${kind}"]`)]
        .every(element => element.querySelector('canvas, svg'));
    return app !== null
        && app.getAttribute('data-test-connection-state') === 'CONNECTED'
        && app.getAttribute('data-test-script-state') === 'notRunning'
        && heading !== null && heading.innerText.trim() === title
        && document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]') === null
        && whole('stVegaLiteChart') && whole('stDataFrame');
}"""
"""Whether a page's content stands: its script is over, nothing is stale, charts are drawn."""


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a Chromium with a profile of its own.

    Raises: StateError: when none is installed.
    """
    path = find_chromium()
    if path is None:
        raise StateError(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """Serve a store's dashboard on a free port of loopback; yield its address.

    Args:
        folder: the store's.
        log: a file for what the server says.

    Raises: StateError: when it does not answer within a minute; what it said is told.
    """
    port = free_port()
    words = ["--store", str(folder), "dashboard", "--no-browser", "--port", str(port)]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", "from app.cli import main; main()", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/_stcore/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()  # its own process id: the verb became the server
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise StateError(f"the dashboard did not start: {log.read_text(encoding='utf-8')[-2000:]}")


@dataclass
class Heard:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def strangers(self) -> list[str]:
        """Addresses of requests that left loopback."""
        return [address for address in self.requests if not stays_here(address)]


def stays_here(address: str) -> bool:
    """Return whether a request to an address stays on this machine.

    Example:
        >>> stays_here("http://127.0.0.1:8501/x"), stays_here("data:text/plain,x")
        (True, True)
        >>> stays_here("https://fonts.example/x.woff2"), stays_here("ws://[::1]:1/")
        (False, True)
    """
    parts = urlsplit(address)
    if parts.scheme in ("data", "blob", "about"):
        return True
    return is_loopback(parts.hostname or "")


def listen(page: Page) -> Heard:
    """Return what a page asks for and complains about from now on."""
    heard = Heard()
    page.on("request", lambda request: heard.requests.append(request.url))
    page.on("websocket", lambda socket: heard.requests.append(socket.url))
    page.on("pageerror", lambda error: heard.complaints.append(str(error)))
    page.on("console", lambda message: _hear_complaint(heard, message))
    return heard


def _hear_complaint(heard: Heard, message: ConsoleMessage) -> None:
    """Keep an error, but that of Streamlit's client looking for its server below a page's path."""
    where = urlsplit(message.location["url"]).path
    is_search = "/_stcore/" in where.removeprefix("/_stcore/") and "404" in message.text
    if message.type == "error" and not is_search:
        heard.complaints.append(f"{message.text} ({where})")


def wait_until_it_stands(page: Page, title: str, timeout_s: float = 60.0) -> None:
    """Wait until the content of the page with a heading stands."""
    page.wait_for_function(STANDS, arg=title, timeout=1000 * timeout_s, polling="raf")


def go_to(page: Page, title: str) -> None:
    """Go to a page by the navigation, as a person does, and wait until it stands."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    wait_until_it_stands(page, title)


def wait_for_model(page: Page, title: str) -> None:
    """Wait until a page that needs the model has it, and stands."""
    page.get_by_text("once for everybody").wait_for(state="detached")
    wait_until_it_stands(page, title)

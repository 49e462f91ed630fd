"""How fast the dashboard's pages stand: 50 domains, 20,000 documents, 200 snapshots."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize

from benchmarks.browsing import (
    TITLES,
    Heard,
    chromium,
    go_to,
    listen,
    serving,
    wait_until_it_stands,
)
from benchmarks.large_store import fill_large_store
from benchmarks.results import Figure, at_most, reported

COMMAND = "python -m benchmarks dashboard"
ROUNDS = 3
VIEWPORT = ViewportSize(width=1280, height=900)
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Fill a large store, serve it, and time every page in Chromium.

    Args:
        arguments: `--folder F` for a store that is there already: nothing is kept then.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as spare:
        folder = options.folder or fill_large_store(Path(spare) / "knowledge")
        with chromium() as browser, serving(folder, Path(spare) / "log") as address:
            firsts = [_first_visit(browser, address) for _ in range(ROUNDS)]
            seconds, heard = _visits(browser, address)
    for title, values in seconds.items():
        print(f"{title}: " + ", ".join(f"{value:.2f} s" for value in values), flush=True)
    for stranger in heard.strangers:
        print(f"left loopback: {stranger}", flush=True)
    for complaint in heard.complaints:
        print(f"console: {complaint}", flush=True)
    for paint, stands in firsts:
        print(f"first visit: painted after {paint:.2f} s, stands after {stands:.2f} s", flush=True)
    if options.folder:
        return []
    return [
        at_most(
            f"first paint, nothing cached in the browser (median s of {ROUNDS})",
            statistics.median(paint for paint, _ in firsts),
            2.0,
            COMMAND,
        ),
        reported("first page stands, server just started (s)", firsts[0][1], COMMAND),
        *(
            at_most(
                f"{title} stands after a click (median s of {ROUNDS})",
                statistics.median(values),
                1.0,
                COMMAND,
            )
            for title, values in seconds.items()
        ),
        reported("pages (number)", len(seconds), COMMAND),
        at_most("requests that left loopback (number)", len(heard.strangers), 0, COMMAND),
        at_most("errors in the browser's console (number)", len(heard.complaints), 0, COMMAND),
    ]


def _first_visit(browser: Browser, address: str) -> tuple[float, float]:
    """Return when the first page is first painted, and when it stands: nothing is cached."""
    context = browser.new_context(viewport=VIEWPORT)
    page = context.new_page()
    began = time.monotonic()
    page.goto(address)
    wait_until_it_stands(page, TITLES[0])
    stands = time.monotonic() - began
    paint = float(page.evaluate(FIRST_PAINT)) / 1000
    context.close()
    return paint, stands


def _visits(browser: Browser, address: str) -> tuple[dict[str, list[float]], Heard]:
    """Return how long each page takes until it stands, after every page was seen once."""
    context = browser.new_context(viewport=VIEWPORT)
    page = context.new_page()
    heard = listen(page)
    page.goto(address)
    wait_until_it_stands(page, TITLES[0])
    seconds: dict[str, list[float]] = {title: [] for title in TITLES}
    for number in range(ROUNDS + 1):
        for title in (*TITLES[1:], TITLES[0]):
            began = time.monotonic()
            go_to(page, title)
            if number:
                seconds[title].append(time.monotonic() - began)
    context.close()  # before the server stops, which a page that is open would complain of
    return seconds, heard

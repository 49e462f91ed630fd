"""The README's pictures of the dashboard, out of the store that `make demo` left."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, ViewportSize

from benchmarks.browsing import (
    ROOT,
    chromium,
    serving,
    wait_for_model,
    wait_until_it_stands,
)
from benchmarks.results import Figure
from peer_cl.errors import StateError
from pipelines import open_store

PICTURES = ROOT / "docs" / "pictures"
VIEWPORT = ViewportSize(width=1280, height=900)
SPOKEN = ("medicine", "minerals")
"""Domains of the traced text: the beginnings of an unseen document of each, one after the other."""
MOST_CHARACTERS = 300


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Write the pictures anew; there is no figure in it.

    Args:
        arguments: `--store FOLDER`, default ./knowledge.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks screens")
    parser.add_argument("--store", type=Path, default=Path("knowledge"))
    folder = parser.parse_args(list(arguments)).store
    text = _unseen(folder)
    with (
        tempfile.TemporaryDirectory() as spare,
        chromium() as browser,
        serving(folder, Path(spare) / "log") as address,
    ):
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(f"{address}/trace?{urlencode({'text': text})}")
        wait_for_model(page, "Trace")
        _keep(page, "The text, token by token", "dashboard-trace.png")
        page.goto(f"{address}/retention")
        wait_until_it_stands(page, "Retention")
        _keep(page, "Retention", "dashboard-retention.png")
    return []


def _unseen(folder: Path) -> str:
    """Return the first such text that asks both domains.

    Raises: StateError: when none does.
    """
    with open_store(folder) as store:
        model, tokenizer = store.load()
        texts = [
            [
                store.registry.document_text(one)[:MOST_CHARACTERS].rsplit(" ", 1)[0]
                for one in store.registry.documents(domain)
                if one.split == "test" and one.kind == "text"
            ]
            for domain in SPOKEN
        ]
        for parts in zip(*texts, strict=False):
            text = " ".join(parts)
            if set(store.search(text, model=model, tokenizer=tokenizer).asked) == set(SPOKEN):
                return text
    raise StateError(f"no two unseen documents ask {' and '.join(SPOKEN)} in {folder}")


def _keep(page: Page, heading: str, name: str) -> None:
    """Keep what stands below a heading."""
    page.get_by_role("heading", name=heading, exact=True).evaluate(
        "heading => heading.scrollIntoView({block: 'start'})"
    )
    page.mouse.move(800, 450)
    page.wait_for_timeout(1500)  # charts grow into their place
    page.screenshot(path=PICTURES / name)
    print(f"kept {PICTURES / name}")

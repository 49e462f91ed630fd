"""Takes the documentation's pictures of the dashboard, after `make demo`:
`python -m tests.browser.take_pictures --store knowledge`."""

import argparse
import tempfile
from pathlib import Path
from urllib.parse import quote_plus

from pipelines import open_store
from tests.browser.browsing import ROOT, chromium, open_page, serving

NUM_WORDS = 40
"""Words of each document in the traced text."""


def mixed_text(folder):
    """Return the beginnings of held-out documents of the first two domains, one after the other."""
    with open_store(folder) as store:
        queries = store.registry.queries
        domains = [state.domain for state in queries.live().domains if state.is_enabled][:2]
        documents = [queries.documents(name, split="test", kind="text") for name in domains]
        longest = [max(own, key=lambda one: one.num_tokens) for own in documents]
        texts = [queries.document_text(one).split() for one in longest]
    return " ".join(" ".join(words[:NUM_WORDS]) for words in texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("knowledge"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(options.store, Path(folder, "log")) as address,
        chromium(Path(folder, "profile")) as browser,
    ):
        page = browser.pages[0]
        page.set_default_timeout(300_000)
        open_page(page, address, "Retention")
        page.screenshot(path=options.out / "dashboard-retention.png")
        open_page(page, address, "Trace", text=quote_plus(mixed_text(options.store)))
        page.get_by_text("Weights and evidence").evaluate("element => element.scrollIntoView()")
        page.wait_for_timeout(1_000)  # charts below come into sight and are drawn
        page.screenshot(path=options.out / "dashboard-trace.png")


if __name__ == "__main__":
    main()

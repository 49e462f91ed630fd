"""How much of each source the stream reads."""

from __future__ import annotations

NUM_TOKENS: dict[str, int] = {
    "diseases": 22_300,
    "geography": 19_000,
    "attack": 21_000,
    "weaknesses": 21_000,
    "components": 21_000,
    "acronyms": 19_500,
    "minerals": 21_000,
    "lore": 21_000,
}
"""About how many tokens of documents are chosen: so many that, after the split, which hashes
decide, some 16,000 of each domain are trained on."""
MIN_CHARACTERS, MAX_CHARACTERS = 130, 1500
"""The length of a document, about 30 to 400 tokens."""

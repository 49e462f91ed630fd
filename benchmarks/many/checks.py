"""Whether the work folder still has what finished pieces left there for those after them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stream.checks import without_tokens
from benchmarks.stream.pieces import POOLS, places, store_name
from benchmarks.stream.workshop import Workshop
from peer_cl.errors import StateError


def check_work(shop: Workshop, seed: int, *, reads_tokens: bool) -> None:
    """Refuse to go on where pools or scores of finished pieces are gone from the work folder.

    Args:
        shop: the articles.
        seed: of the pools.
        reads_tokens: whether scores of tokens are read still, or pools alone.

    Raises: StateError: saying how much is gone, and which raw files to remove.
    """
    done = [place for place in places(POOLS, seed, shop.names) if shop.raw.has(place.piece)]
    with shop.stores(store_name(seed)) as stores:
        held = {state.domain for one in stores for state in one.registry.live().domains}
    pools = [place.piece for place in done if place.domain not in held]
    texts = shop.groups("blocks128", "prose", "look-alike")
    scores = without_tokens(shop, POOLS, seed, texts) if reads_tokens else []
    gone = list(dict.fromkeys((*scores, *pools)))
    if gone:
        raise StateError(
            f"of finished pieces {len(pools)} pools and {len(scores)} files of tokens' scores are "
            f"gone from {shop.work}: name the folder that has them with --work, or remove "
            f"{_files(shop, gone)}, and these pieces are done again"
        )


def _files(shop: Workshop, gone: Sequence[str]) -> str:
    """Return the raw files of pieces as `rm` takes them: a pattern where those are all."""
    paths = [shop.raw.path(piece) for piece in gone]
    if set(paths) == set(shop.raw.paths()):
        return str(shop.raw.folder / "*.json")
    return " ".join(map(str, paths))

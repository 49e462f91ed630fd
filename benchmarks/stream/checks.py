"""Whether what is kept fits together: a run refuses to go on, or to report, where it does not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from benchmarks.stream.pieces import (
    APART,
    BASE,
    CHAINS,
    POOLS,
    places,
    pool_stores,
    state_folder,
    subject,
)
from benchmarks.stream.plan import RATES, Piece, is_chosen, mixture_piece, rate_of
from benchmarks.stream.texts import Texts
from benchmarks.stream.workshop import Workshop
from peer_cl.errors import StateError


def check_rates(shop: Workshop, pieces: Sequence[str], *, of_all: bool = True) -> None:
    """Refuse to go on where pieces learned at another rate than tuning has chosen since.

    Args:
        shop: the stream.
        pieces: names of those that are to be done; what they are of is looked at.
        of_all: also of methods that are not tuned yet, which would go on at their grids' middles.

    Raises: StateError: naming the method and both rates.
    """
    of = {part for name in pieces for part in name.split("/")}
    for method in (method for method in RATES if method in of):
        if not of_all and not is_chosen(shop, method):
            continue
        rates = {raw["learning_rate"] for raw in shop.raw.of(method) if "learning_rate" in raw}
        if rates and rates != {rate_of(shop, method)}:
            raise StateError(
                f"{method} learned at {sorted(rates)}, and tuning says {rate_of(shop, method):g}: "
                f"remove {shop.raw.folder}/{method}.s*.json, and its pieces are done again"
            )


def check_precision(shop: Workshop) -> None:
    """Refuse a method whose pieces of a seed were learned in several precisions.

    Raises: StateError: naming the method and both.
    """
    found: dict[tuple[str, int], set[str]] = {}
    for path in shop.raw.paths():
        raw = json.loads(path.read_text(encoding="utf-8"))
        if "precision" in raw:
            found.setdefault((raw["method"], raw["seed"]), set()).add(raw["precision"])
    for (method, seed), precisions in found.items():
        if len(precisions) > 1:
            raise StateError(
                f"{method} of seed {seed} was learned partly in {' and '.join(sorted(precisions))}"
                f": remove {shop.raw.folder}/{method}.s{seed}.*.json, and its pieces are done again"
            )


def check_made_of(shop: Workshop) -> None:
    """Refuse raw files of other domains, texts, settings or another base than this run has.

    Raises: StateError: naming the first such file.
    """
    for path in shop.raw.paths():
        found = json.loads(path.read_text(encoding="utf-8")).get("made_of")
        wanted = shop.made_of(path.stem)
        if found != wanted:
            raise StateError(
                f"{path} was made of other domains, texts or settings ({found}) than this run has "
                f"({wanted}): remove it, and its piece is done again"
            )


def check_work(shop: Workshop, pieces: Sequence[Piece]) -> None:
    """Refuse to train where other parts of a mixture are gone from the work folder.

    Raises: StateError: saying which raw files to remove.
    """
    planned = {piece.name for piece in pieces}
    for method in (POOLS, *APART):
        for seed in _seeds(planned):
            mixture = mixture_piece(method, seed)
            if mixture in planned and not shop.raw.has(mixture):
                if method == POOLS:
                    _check_pools(shop, seed)
                else:
                    _check_adapters(shop, method, seed)
                _check_tokens(shop, method, seed)


def _seeds(pieces: Iterable[str]) -> list[int]:
    parts = {name.split("/")[1] for name in pieces if name.endswith("/mixture")}
    return sorted(int(part.removeprefix("s")) for part in parts)


def _check_pools(shop: Workshop, seed: int) -> None:
    own = [place.piece for place in places(POOLS, seed, shop.names)]
    names = pool_stores(seed, rate_of(shop, POOLS))
    if any(map(shop.raw.has, own)) and not shop.parts(*names):
        raise StateError(
            f"{shop.work / names[0]} is gone, which the mixture of {POOLS} needs: remove "
            f"{shop.raw.folder}/{POOLS}.s{seed}.*.json, and its pieces are done again"
        )


def _check_adapters(shop: Workshop, method: str, seed: int) -> None:
    gone = [
        str(shop.raw.path(place.piece))
        for place in places(method, seed, shop.names)
        if shop.raw.has(place.piece) and not state_folder(shop, place, place.number).is_dir()
    ]
    if gone:
        raise StateError(
            f"adapters that {method}'s mixture needs are gone from {shop.work}: remove "
            f"{', '.join(gone)}, and these pieces are done again"
        )


def within_reach(shop: Workshop, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces without those that ask a model which is gone from the work folder.

    What it learned stands in its raw files, and what is left can be read without it: so a run says
    what it leaves out and does the rest.
    """
    found, gone = [], set()
    for piece in pieces:
        kind, *rest = piece.name.split("/")
        if kind == "ability" and rest[0] in CHAINS and not shop.raw.has(piece.name):
            method, seed = rest[0], int(rest[1].removeprefix("s"))
            last = places(method, seed, shop.names)[-1]
            if shop.raw.has(last.piece) and not state_folder(shop, last, last.number).is_dir():
                gone.add((method, seed))
                continue
        found.append(piece)
    for method, seed in sorted(gone):
        print(
            f"the model that {method} had learned with seed {seed} is gone from {shop.work}: its "
            f"general ability is left out. To have it, remove {shop.raw.folder}/{method}.s{seed}."
            "*.json, and its pieces are done again",
            flush=True,
        )
    return found


def without_tokens(shop: Workshop, method: str, seed: int, texts: Texts) -> list[str]:
    """Return the finished pieces whose scores of some texts' tokens are gone from the work folder.

    Args:
        shop: the stream.
        method: whose branches; the base's are looked at too.
        seed: of the run.
        texts: that are read from the scores.
    """
    rows = [ids for group in texts.values() for ids in group]
    subjects = {BASE: BASE} | {
        place.piece: subject(method, seed, place.domain)
        for place in places(method, seed, shop.names)
    }
    return [
        piece
        for piece, of in subjects.items()
        if shop.raw.has(piece) and not shop.tokens.has(of, rows)
    ]


def _check_tokens(shop: Workshop, method: str, seed: int) -> None:
    gone = [str(shop.raw.path(piece)) for piece in without_tokens(shop, method, seed, shop.texts)]
    if gone:
        raise StateError(
            f"scores of tokens that {method}'s mixture needs are gone from {shop.work}: remove "
            f"{', '.join(gone)}, and these pieces are done again"
        )

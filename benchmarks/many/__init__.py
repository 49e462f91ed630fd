"""Many small domains: articles learned one after the other, and how few of them a text asks.

`python -m benchmarks many --data FOLDER` (see `benchmarks.many.run`). Every article of the public
question set is a domain; each is a piece that leaves its raw scores in docs/results/many/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Figure


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Learn what is missing of the articles and return their figures; see `benchmarks.many.run`."""
    from benchmarks.many.run import measure

    return measure(arguments)

"""The stream benchmark: methods learn the same domains in turn, and are asked after each.

`python -m benchmarks stream` (see `benchmarks.stream.run`). Everything is done in pieces of at most
twenty minutes, each of which leaves its raw scores in docs/results/stream/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Figure


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Do the stream's pieces and return their figures; see `benchmarks.stream.run`."""
    from benchmarks.stream.run import measure

    return measure(arguments)

"""Names of a domain: titles of its documents and subjects of its facts, as hashed runs of tokens.

A short question says too little for a signature to be sure of, but it often says a name. Where a
person opted in, a pool whose domain is named by a given context is asked with more weight (see
`peer_cl.mixture`); what is only scored never is.

Shape suffixes: B rows, T tokens, L tokens of a name, X names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

MAX_TOKENS = 16
"""A longer name is no name: it is told apart by its beginning."""
_MULTIPLIER = 6364136223846793005
"""Knuth's for 64 bits: products wrap around, which spreads ids over all of them."""


@dataclass(frozen=True)
class Names:
    """A set of names, each a run of token ids; only hashes are kept.

    Example:
        >>> names = Names.of([[5, 6], [9]])
        >>> ids = torch.tensor([[1, 5, 6, 2], [1, 6, 5, 2]])
        >>> names.stand_in(ids, torch.ones(2, 4, dtype=torch.bool)).tolist()
        [True, False]
    """

    hashes_X: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """int64, ascending."""
    lengths: tuple[int, ...] = ()
    """Every length that a name has, in tokens."""

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]]) -> Names:
        """Return the set of these names; of a long one its first tokens count."""
        by_length: dict[int, set[tuple[int, ...]]] = {}
        for ids in sequences:
            if len(ids):
                cut = tuple(ids[:MAX_TOKENS])
                by_length.setdefault(len(cut), set()).add(cut)
        hashes = [_hashes(torch.tensor(list(names)), size) for size, names in by_length.items()]
        known = torch.cat([found.flatten() for found in hashes]) if hashes else cls().hashes_X
        return cls(known.unique(), tuple(sorted(by_length)))

    def __len__(self) -> int:
        return len(self.hashes_X)

    def stand_in(self, ids_BT: Tensor, counted_BT: Tensor) -> Tensor:
        """Return which rows hold a name: bool (B,).

        Args:
            ids_BT: token ids.
            counted_BT: bool; a name must stand in such tokens alone.
        """
        found_B = torch.zeros(len(ids_BT), dtype=torch.bool, device=ids_BT.device)
        known = self.hashes_X.to(ids_BT.device)
        for length in self.lengths:
            if length > ids_BT.shape[1]:
                break
            whole_BT = counted_BT.unfold(1, length, 1).all(-1)
            found_B |= (torch.isin(_hashes(ids_BT, length), known) & whole_BT).any(1)
        return found_B


def _hashes(ids_BT: Tensor, length: int) -> Tensor:
    """Return the hash of each run of `length` tokens: int64 (B, T - length + 1)."""
    hashes = torch.full((len(ids_BT), ids_BT.shape[1] - length + 1), length, device=ids_BT.device)
    for place in range(length):
        hashes = hashes * _MULTIPLIER + ids_BT[:, place : place + hashes.shape[1]] + 1
        hashes = hashes ^ (hashes >> 29)
    return hashes

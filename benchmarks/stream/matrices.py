"""From raw scores to matrices: R[i][j], the loss on domain j after i domains, row 0 the base's.

Losses in nats a token; recalls are shares. A cell that was not asked is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.stream.pieces import APART, BASE, CHAINS, JOINT, POOLS, Place, places
from benchmarks.stream.raw import Raw, RawFolder
from peer_cl import metrics

FORCED, GATE, NAMED, GUIDED = "forced", "gate", "named", "guided"
"""Ways to use branches other than the mixture: the right one is told; a hard gate chooses; the
mixture, where a person lets names count; the same, and answers are guided."""
OF_QUESTIONS = (NAMED, GUIDED)
"""Ways that tell in questions alone: text is scored as by the mixture."""
Matrix = list[list[float]]


@dataclass(frozen=True)
class Scores:
    """The raw scores of one stream."""

    raw: RawFolder
    names: tuple[str, ...]

    @property
    def base(self) -> Raw:
        """The bare model's."""
        return self.raw.read(BASE)

    def learned(self, method: str, seed: int) -> list[Raw] | None:
        """Return a method's pieces, one a domain (of the joint model one); None: one is missing."""
        found = [Place(JOINT, seed, 0, "all")] if method == JOINT else None
        pieces = [place.piece for place in found or places(method, seed, self.names)]
        if not all(self.raw.has(piece) for piece in pieces):
            return None
        return [self.raw.read(piece) for piece in pieces]

    def mixture(self, method: str, seed: int) -> Raw | None:
        """Return what the mixture made of a method's branches."""
        piece = f"{method}/s{seed}/mixture"
        return self.raw.read(piece) if self.raw.has(piece) else None

    def loss(self, raw: Raw, name: str) -> float:
        """Return a piece's loss on a domain's unseen documents, nats a token."""
        return per_token(raw["nats"][f"test/{name}"], self.base["tokens"][f"test/{name}"])

    def rare_losses(self, method: str, seed: int, way: str = "") -> list[float] | None:
        """Return losses right after learning without each domain's stock words, by domain.

        Args: as for `losses`; behind a hard gate they are not known.
        """
        learned = self.learned(method, seed)
        if way == GATE or learned is None:
            return None
        found = learned * len(self.names) if method == JOINT else learned
        if has_branches(method) and way != FORCED:
            mixture = self.mixture(method, seed)
            if mixture is None:
                return None
            found = [mixture] * len(self.names)
        return [
            per_token(raw["rare_nats"][f"test/{name}"], self.base["rare_tokens"][name])
            for raw, name in self._pairs(found)
        ]

    def losses(self, method: str, seed: int, way: str = "") -> Matrix | None:
        """Return R of losses; None where a piece is missing.

        The joint model learned all domains at once: each of its rows but the first is its end.

        Args:
            method: one of the benchmark's.
            seed: of the run.
            way: for pools and adapters: "" the mixture, FORCED, GATE, NAMED or GUIDED.
        """
        learned = self.learned(method, seed)
        if learned is None:
            return None
        first = [self.loss(self.base, name) for name in self.names]
        if method == JOINT:
            return [first, *([self.loss(learned[0], n) for n in self.names] for _ in self.names)]
        if method in CHAINS:
            return [first, *([self.loss(raw, name) for name in self.names] for raw in learned)]
        forced = [self.loss(raw, name) for raw, name in zip(learned, self.names, strict=True)]
        if way == FORCED:
            return triangle(first, forced)
        mixture = self.mixture(method, seed)
        if mixture is None:
            return None
        if way in OF_QUESTIONS and not _is_asked(mixture, way):
            return None
        if way == GATE:
            gate = self.best_gate(mixture)
            return None if gate is None else self._behind(gate)
        return self._behind(mixture)

    def best_gate(self, mixture: Raw) -> Raw | None:
        """Return the rows and foreign losses of the gate whose domains' losses are the least.

        It is chosen on what it is told by, which favours it. None: a mixture from before several
        gates were tried.
        """
        if "gates" not in mixture:
            return None

        def after(gate: Raw) -> float:
            rows = self._behind(gate)
            return mean([rows[number + 1][number] for number in range(len(self.names))])

        found: Raw = min(mixture["gates"].values(), key=after)
        return found

    def _behind(self, raw: Raw) -> Matrix:
        return [[self.loss({"nats": row}, name) for name in self.names] for row in raw["rows"]]

    def recalls(self, method: str, seed: int, wording: str, way: str = "") -> RecallEnds | None:
        """Return the share of facts that are recalled, right after learning and at the end."""
        learned = self.learned(method, seed)
        if learned is None:
            return None
        if method == JOINT:
            end = [share(learned[0]["recall"][name][wording]) for name in self.names]
            return RecallEnds(end, end)
        if method in CHAINS:
            after = [share(raw["recall"][n][wording]) for raw, n in self._pairs(learned)]
            end = [share(learned[-1]["recall"][name][wording]) for name in self.names]
            return RecallEnds(after, end)
        if way == FORCED:
            after = [share(raw["recall"][n][wording]) for raw, n in self._pairs(learned)]
            return RecallEnds(after, after)
        mixture = self.mixture(method, seed)
        if mixture is None:
            return None
        if way in OF_QUESTIONS:
            mixture = next(iter(mixture["named"].values()))
        rows = [mixture["recall"][name][wording] for name in self.names]
        said = GUIDED if way == GUIDED else "mixture"
        return RecallEnds(
            [share(row[f"{said}_when_learned"]) for row in rows],
            [share(row[said]) for row in rows],
        )

    def added(self, nats: dict[str, list[float]], kind: str) -> float:
        """Return a kind's loss above the base's, nats a token; positive = spoiled."""
        groups = [group for group in nats if group.startswith(kind)]
        more = sum(sum(nats[group]) - sum(self.base["nats"][group]) for group in groups)
        return float(more / sum(sum(self.base["tokens"][group]) for group in groups))

    def _pairs(self, learned: Sequence[Raw]) -> list[tuple[Raw, str]]:
        return list(zip(learned, self.names, strict=True))


@dataclass(frozen=True)
class RecallEnds:
    """Shares of facts recalled, by domain."""

    after: list[float]
    """Right after the domain was learned."""
    end: list[float]
    """After all domains."""

    @property
    def backward_transfer(self) -> float:
        """How recall changed from learning to the end, the last domain left out; negative = lost.

        Example:
            >>> round(RecallEnds([0.9, 0.8], [0.7, 0.8]).backward_transfer, 3)
            -0.2
        """
        changes = [e - a for a, e in zip(self.after, self.end, strict=True)][:-1]
        return mean(changes) if changes else 0.0


def _is_asked(mixture: Raw, way: str) -> bool:
    """Return whether the piece has answers in a way; one of an earlier version may not."""
    named = list(mixture.get("named", {}).values())
    if way != GUIDED:
        return bool(named)
    rows = [row for one in named for asked in one["recall"].values() for row in asked.values()]
    return bool(rows) and all(GUIDED in row for row in rows)


def has_branches(method: str) -> bool:
    """Return whether a method grows one branch a domain."""
    return method == POOLS or method in APART


def triangle(first: Sequence[float], own: Sequence[float]) -> Matrix:
    """Return R of a method in which a domain's figure changes once, when it is learned.

    Example:
        >>> triangle([4.0, 4.0], [3.0, 2.0])
        [[4.0, 4.0], [3.0, 4.0], [3.0, 2.0]]
    """
    return [
        [own[j] if j < i else first[j] for j in range(len(first))] for i in range(len(first) + 1)
    ]


def per_token(nats: Sequence[float], tokens: Sequence[int]) -> float:
    """Return the loss of documents, nats a token.

    Raises: ValueError: when there are not as many losses as lengths.
    """
    pairs = list(zip(nats, tokens, strict=True))
    return sum(loss for loss, _ in pairs) / max(1, sum(num for _, num in pairs))


def share(answers: Sequence[int]) -> float:
    """Return the share of ones."""
    return sum(answers) / max(1, len(answers))


def kept(base: float, forced: float, mixture: float) -> float:
    """Return the share of a pool's gain that the mixture keeps; 0 where the pool gains nothing.

    Example:
        >>> kept(4.0, 3.0, 3.25), kept(4.0, 4.5, 4.5)
        (0.75, 0.0)
    """
    return metrics.kept(base, forced, mixture) or 0.0


def mean(values: Sequence[float]) -> float:
    """Return the mean.

    Example:
        >>> mean([1.0, 2.0])
        1.5
    """
    return sum(values) / len(values)

"""What the raw scores say of each method: one row each, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.results import Figure
from benchmarks.stream.ability_figures import abilities
from benchmarks.stream.goals import ours
from benchmarks.stream.matrices import GATE, Matrix, Scores, has_branches, mean, share
from benchmarks.stream.pieces import CHAINS, JOINT, POOLS
from benchmarks.stream.retrieval import replied, retrieved
from benchmarks.stream.seeds import Measured, over_seeds
from benchmarks.stream.spread import spread_figures
from benchmarks.stream.words import WORDS
from peer_cl import metrics


@dataclass(frozen=True)
class Line:
    """One method's row of the table."""

    method: str
    words: str
    losses: Matrix
    rare_loss: float | None
    """Right after learning, without stock words, nats a token, mean over domains."""
    seen: float | None
    reworded: float | None
    seen_after: float | None
    reworded_after: float | None
    """Right after each domain was learned, where the two before are of the stream's end."""
    recall_transfer: float | None
    prose_added: float | None
    """Mean loss of foreign prose above the base's, nats a token; positive = spoiled."""
    worst_added: float | None
    """The worst foreign document's whole loss above the base's, nats."""
    num_parameters: tuple[float, float]
    """Trained for the first domain and the last: from one to the next a method may train less."""
    seconds: float
    """To learn a domain, median."""

    @property
    def scores(self) -> Matrix:
        """R with higher as better."""
        return [[-loss for loss in row] for row in self.losses]

    @property
    def after(self) -> list[float]:
        """Each domain's loss right after it was learned."""
        return [self.losses[j + 1][j] for j in range(len(self.losses[0]))]


def lines(scores: Scores, seeds: Sequence[int] = (0,)) -> list[Line]:
    """Return a row for every method, the mean over those seeds whose pieces are all there."""
    return [averaged(found) for found in _by_method(scores, seeds) if found]


def figures(scores: Scores, seeds: Sequence[int] = (0,)) -> list[Figure]:
    """Return every figure that the raw scores give so far."""
    methods = [found for found in _by_method(scores, seeds) if found]
    joint = next((averaged(found).losses[-1] for found in methods if _is_joint(found[0])), None)
    figures = over_seeds([_base(scores)])
    for found in methods:
        figures += over_seeds(_of_method(line, joint) for line in found)
    figures += over_seeds(retrieved(scores, seed) for seed in seeds)
    figures += over_seeds(replied(scores, seed) for seed in seeds)
    figures += spread_figures(scores, seeds)
    figures += over_seeds(ours(scores, seed) for seed in seeds)
    for method in (POOLS, *CHAINS):
        figures += over_seeds(abilities(scores.raw, method, seed) for seed in seeds)
    return figures


def averaged(found: Sequence[Line]) -> Line:
    """Return the mean row of a method's seeds; of the worst document the worst seed."""
    first = found[0]
    if len(found) == 1:
        return first
    rows = zip(*(line.losses for line in found), strict=True)
    worst = [line.worst_added for line in found if line.worst_added is not None]
    return Line(
        method=first.method,
        words=first.words,
        losses=[[mean(cells) for cells in zip(*row, strict=True)] for row in rows],
        rare_loss=_mean([line.rare_loss for line in found]),
        seen=_mean([line.seen for line in found]),
        reworded=_mean([line.reworded for line in found]),
        seen_after=_mean([line.seen_after for line in found]),
        reworded_after=_mean([line.reworded_after for line in found]),
        recall_transfer=_mean([line.recall_transfer for line in found]),
        prose_added=_mean([line.prose_added for line in found]),
        worst_added=max(worst, default=None),
        num_parameters=first.num_parameters,
        seconds=mean([line.seconds for line in found]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _is_joint(line: Line) -> bool:
    return line.method == JOINT


def _by_method(scores: Scores, seeds: Sequence[int]) -> list[list[Line]]:
    """Return each method's rows, one a seed whose pieces are all there."""
    rows = [[_line(scores, key, seed) for seed in seeds] for key in WORDS]
    return [[line for line in row if line is not None] for row in rows]


def _line(scores: Scores, key: str, seed: int) -> Line | None:
    method, _, way = key.partition(" ")
    losses = scores.losses(method, seed, way)
    learned = scores.learned(method, seed)
    if losses is None or learned is None:
        return None
    rare = scores.rare_losses(method, seed, way)
    seen = None if way == GATE else scores.recalls(method, seed, "seen", way)
    reworded = None if way == GATE else scores.recalls(method, seed, "reworded", way)
    return Line(
        method=key,
        words=WORDS[key],
        losses=losses,
        rare_loss=mean(rare) if rare else None,
        seen=mean(seen.end) if seen else None,
        reworded=mean(reworded.end) if reworded else None,
        seen_after=mean(seen.after) if seen else None,
        reworded_after=mean(reworded.after) if reworded else None,
        recall_transfer=seen.backward_transfer if seen else None,
        prose_added=_prose_added(scores, method, seed, way),
        worst_added=_worst_added(scores, method, seed, way),
        num_parameters=(learned[0]["num_parameters"], learned[-1]["num_parameters"]),
        seconds=median([raw["seconds"] for raw in learned]),  # a piece may have had to wait
    )


def _base(scores: Scores) -> Iterator[Measured]:
    """Yield what is known before any method learned."""
    base = scores.base
    losses = [scores.loss(base, name) for name in scores.names]
    yield Measured("base: unseen loss (nats a token)", mean(losses))
    for wording in ("seen", "reworded"):
        values = [share(base["recall"][name][wording]) for name in scores.names]
        yield Measured(f"base: recall, {wording} wording (share)", mean(values))
    tokens = list(base["training_tokens"].values())
    yield Measured("tokens that a domain's training reads, mean", round(mean(tokens)))


def _of_method(line: Line, joint: Sequence[float] | None) -> Iterator[Measured]:
    """Yield a method's figures, those of the joint model's losses given."""
    spared = None
    if joint is not None and not _is_joint(line):
        spared = mean([own - all_ for own, all_ in zip(line.after, joint, strict=True)])
    named = {
        "unseen loss after learning (nats a token)": -metrics.learning_accuracy(line.scores),
        "the same without stock words (nats a token)": line.rare_loss,
        "unseen loss at the end (nats a token)": -metrics.average_score(line.scores),
        **({} if _is_joint(line) else _transfers(line)),
        "intransigence: loss after learning above all domains' at once (nats a token)": spared,
        "recall at the end, seen wording (share)": line.seen,
        "recall at the end, reworded (share)": line.reworded,
        "recall right after learning, seen wording (share)": line.seen_after,
        "recall right after learning, reworded (share)": line.reworded_after,
        "BWT in recall (share)": None if _is_joint(line) else line.recall_transfer,
        "loss added to foreign prose (nats a token)": line.prose_added,
        "trained parameters, first domain": round(line.num_parameters[0]),
        "trained parameters, last domain": round(line.num_parameters[1]),
        "time to learn a domain, median (s)": None if _is_joint(line) else line.seconds,
    }
    for name, value in named.items():
        if value is not None:
            yield Measured(f"{line.words}: {name}", value)
    if line.worst_added is not None:
        name = f"{line.words}: worst added loss of a foreign document (nats)"
        yield Measured(name, line.worst_added, is_worst=True)


def _transfers(line: Line) -> dict[str, float]:
    """Return how domains change each other; a model that learned all at once has none of it."""
    return {
        "BWT in loss (nats a token)": metrics.backward_transfer(line.scores),
        "FWT in loss (nats a token)": metrics.forward_transfer(line.scores),
        "forgetting (nats a token)": metrics.forgetting(line.scores),
    }


def _prose_added(scores: Scores, method: str, seed: int, way: str) -> float | None:
    found = _foreign_nats(scores, method, seed, way)
    return None if found is None else scores.added(found, "prose")


def _worst_added(scores: Scores, method: str, seed: int, way: str) -> float | None:
    found = _foreign_nats(scores, method, seed, way)
    if found is None:
        return None
    return max(
        float(nats - base)
        for group, values in found.items()
        for nats, base in zip(values, scores.base["nats"][group], strict=True)
    )


def _foreign_nats(
    scores: Scores, method: str, seed: int, way: str
) -> dict[str, list[float]] | None:
    """Return the foreign documents' losses at the end; none where the right branch is forced."""
    if way == GATE:
        gates = scores.mixture(method, seed)
        best = None if gates is None else scores.best_gate(gates)
        return None if best is None else dict(best["foreign"])
    if way:
        return None
    if has_branches(method):
        mixture = scores.mixture(method, seed)
        return {g: one["mixture"] for g, one in mixture["foreign"].items()} if mixture else None
    learned = scores.learned(method, seed)
    if learned is None:
        return None
    nats: dict[str, list[float]] = learned[-1]["nats"]
    return {g: v for g, v in nats.items() if g.startswith(("prose", "look-alike"))}

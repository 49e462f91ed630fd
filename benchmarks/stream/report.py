"""What the raw scores say: one row a method, and our figures against their goals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import Figure, at_least, at_most, reported
from benchmarks.stream.matrices import FORCED, GATE, Matrix, Scores, has_branches, mean, share
from benchmarks.stream.pieces import APART, CHAINS, POOLS
from benchmarks.stream.raw import Raw
from peer_cl import metrics
from peer_cl.mixture import named_bound_nats, worst_added_nats

COMMAND = "python -m benchmarks stream --full --data FOLDER"
WORDS = {
    POOLS: "ours",
    f"{POOLS} {FORCED}": "ours, right pool forced on",
    f"{POOLS} {GATE}": "ours, behind a hard gate",
    "lora": "LoRA r16, sequential",
    "lora-replay": "LoRA r16, 10 % replay",
    "osf": "OSF",
    "full": "full finetuning",
    "sparse": "sparse memory finetuning",
    "rag": "RAG",
    "lora-mixture": "one LoRA r16 a domain, our mixture",
    f"lora-mixture {FORCED}": "one LoRA r16 a domain, right one forced on",
    "lora-mixture-equal": "one LoRA r22 a domain, our mixture",
    f"lora-mixture-equal {FORCED}": "one LoRA r22 a domain, right one forced on",
}
"""What each method is called in tables."""


@dataclass(frozen=True)
class Line:
    """One method's row of the table."""

    method: str
    words: str
    losses: Matrix
    seen: float | None
    reworded: float | None
    recall_transfer: float | None
    prose_added: float | None
    """Mean loss of foreign prose above the base's, nats a token; positive = spoiled."""
    worst_added: float | None
    """The worst foreign document's whole loss above the base's, nats."""
    num_parameters: int

    @property
    def scores(self) -> Matrix:
        """R with higher as better."""
        return [[-loss for loss in row] for row in self.losses]


def lines(scores: Scores, seed: int = 0) -> list[Line]:
    """Return a row for every method whose pieces are all there."""
    found = []
    for key in WORDS:
        method, _, way = key.partition(" ")
        losses = scores.losses(method, seed, way)
        learned = scores.learned(method, seed)
        if losses is None or learned is None:
            continue
        seen = scores.recalls(method, seed, "seen", way)
        reworded = scores.recalls(method, seed, "reworded", way)
        found.append(
            Line(
                method=key,
                words=WORDS[key],
                losses=losses,
                seen=mean(seen.end) if seen and way != GATE else None,
                reworded=mean(reworded.end) if reworded and way != GATE else None,
                recall_transfer=seen.backward_transfer if seen and way != GATE else None,
                prose_added=_prose_added(scores, method, seed, way),
                worst_added=_worst_added(scores, method, seed, way),
                num_parameters=learned[0]["num_parameters"],
            )
        )
    return found


def figures(scores: Scores, seed: int = 0) -> list[Figure]:
    """Return every figure that the raw scores give so far."""
    found = [figure for line in lines(scores, seed) for figure in _of_method(line)]
    return found + list(_ours(scores, seed))


def _of_method(line: Line) -> Iterator[Figure]:
    named = {
        "unseen loss after learning (nats a token)": -metrics.learning_accuracy(line.scores),
        "unseen loss at the end (nats a token)": -metrics.average_score(line.scores),
        "BWT in loss (nats a token)": metrics.backward_transfer(line.scores),
        "FWT in loss (nats a token)": metrics.forward_transfer(line.scores),
        "forgetting (nats a token)": metrics.forgetting(line.scores),
        "recall at the end, seen wording (share)": line.seen,
        "recall at the end, reworded (share)": line.reworded,
        "BWT in recall (share)": line.recall_transfer,
        "loss added to foreign prose (nats a token)": line.prose_added,
        "worst added loss of a foreign document (nats)": line.worst_added,
        "trained parameters a domain": line.num_parameters,
    }
    for name, value in named.items():
        if value is not None:
            yield reported(f"{line.words}: {name}", value, COMMAND)


def _ours(scores: Scores, seed: int) -> Iterator[Figure]:
    """Yield our figures against the goals."""
    learned, mixture = scores.learned(POOLS, seed), scores.mixture(POOLS, seed)
    if learned is None or mixture is None:
        return
    yield from _learned(scores, seed)
    yield from _kept(mixture, scores.names)
    yield from _questions(mixture, scores.names)
    for odds, found in mixture["named"].items():
        bound = named_bound_nats(mixture["budget"], float(odds))
        yield reported(f"bound where one domain is named, odds {odds} (nats)", bound, COMMAND)
        yield from _questions(found, scores.names, f", names count with odds {odds}")
    yield from _alone(scores, learned)
    yield from _foreign(mixture)


def _learned(scores: Scores, seed: int) -> Iterator[Figure]:
    ours = scores.losses(POOLS, seed, FORCED)
    if ours is None:
        return
    base, own = ours[0], mean(ours[-1])
    for rival in ("lora", *APART):
        way = "" if rival in CHAINS else FORCED
        theirs = scores.losses(rival, seed, way)
        if theirs is None:
            continue
        after = [theirs[j + 1][j] for j in range(len(scores.names))]
        yield at_most(
            f"unseen loss after learning, ours forced on, against {WORDS[rival]} (nats a token)",
            own,
            mean(after),
            COMMAND,
        )
        gains = [
            (b - o) / (b - t) if b > t else 1.0
            for b, o, t in zip(base, ours[-1], after, strict=True)
        ]
        yield at_least(
            f"gain of ours forced on over {WORDS[rival]}'s, worst domain (share)",
            min(gains),
            0.98,
            COMMAND,
        )


def _kept(mixture: Raw, names: tuple[str, ...]) -> Iterator[Figure]:
    for what, goal in (("whole", 0.94), ("context", 0.96)):
        shares = {}
        for name in names:
            found = mixture["blocks"][name]
            found = found["context"] if what == "context" else found
            base, forced, mixed = (sum(found[key]) for key in ("base", "forced", "mixture"))
            shares[name] = metrics.kept(base, forced, mixed)
        said = "documents of 128 tokens" if what == "whole" else "the same after 32 tokens, listed"
        yield at_least(f"kept, {said}, mean (share)", mean(list(shares.values())), goal, COMMAND)
        for name, value in shares.items():
            yield at_least(f"kept, {said}, {name} (share)", value, goal, COMMAND)


def _questions(mixture: Raw, names: tuple[str, ...], how: str = "") -> Iterator[Figure]:
    asked = [mixture["recall"][name][w] for name in names for w in ("seen", "reworded")]
    weights = [weight for one in asked for weight in one["own_weight"]]
    yield at_least(
        f"questions about a domain whose pool has weight above 0.5{how} (share)",
        share([int(weight > 0.5) for weight in weights]),
        0.95,
        COMMAND,
    )
    largest = mixture["general"]["largest_weight"]
    yield at_most(
        f"general questions where any pool has weight above 0.5{how} (share)",
        share([int(weight > 0.5) for weight in largest]),
        0.01,
        COMMAND,
    )
    for wording, goal in (("seen", 0.95), ("reworded", 0.85)):
        rows = [mixture["recall"][name][wording] for name in names]
        value = mean([share(row["mixture"]) for row in rows])
        name = f"recall through the mixture, {wording}{how} (share)"
        yield at_least(name, value, goal, COMMAND)
        if how:
            continue
        forced = mean([share(row["forced"]) for row in rows])
        yield reported(f"recall, pool forced on, {wording} (share)", forced, COMMAND)


def _alone(scores: Scores, learned: list[Raw]) -> Iterator[Figure]:
    """Yield what a pool that is always on does to prose."""
    for raw in learned:
        added = _added(scores, raw["nats"], "prose")
        yield at_most(
            f"loss added to prose by {raw['domain']}'s pool, always on (nats a token)",
            added,
            0.0,
            COMMAND,
        )


def _foreign(mixture: Raw) -> Iterator[Figure]:
    bound = worst_added_nats(mixture["budget"])
    for group, found in mixture["foreign"].items():
        worst = max(m - b for m, b in zip(found["mixture"], found["base"], strict=True))
        yield at_most(f"worst added loss of a document, {group} (nats)", worst, bound, COMMAND)
        goal = 0.99 if group.startswith("prose") else 0.90
        silent = share([int(num == 0) for num in found["num_asked"]])
        yield at_least(f"ask no pool, {group} (share)", silent, goal, COMMAND)


def _prose_added(scores: Scores, method: str, seed: int, way: str) -> float | None:
    found = _foreign_nats(scores, method, seed, way)
    return None if found is None else _added(scores, found, "prose")


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
    """Return the foreign documents' losses at the end; none where a branch is forced or gated."""
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


def _added(scores: Scores, nats: dict[str, list[float]], kind: str) -> float:
    groups = [group for group in nats if group.startswith(kind)]
    added = sum(sum(nats[group]) - sum(scores.base["nats"][group]) for group in groups)
    return float(added / sum(sum(scores.base["tokens"][group]) for group in groups))

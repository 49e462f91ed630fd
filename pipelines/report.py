"""The evaluation's report: typed, and the same as plain JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Losses = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Matrix:
    """Losses on each domain's unseen documents as domains came, nats a token; lower is better."""

    loss_nats: Losses
    """Row 0: the base. Row i: the live versions of the domains that had come with domain i, all
    enabled. The last row: what is enabled now, so that a disabled domain shows."""
    before_nats: Losses
    """Row i as it was without domain i itself, which its row is compared with."""
    coming_nats: tuple[float, ...]
    """The last row as it was when its domain came, whatever was disabled since."""


@dataclass(frozen=True)
class Metrics:
    """The figures of continual learning; scores are negative losses. See `peer_cl.metrics`."""

    acc: float
    learning_accuracy: float
    bwt: float
    """Negative = forgot."""
    fwt: float
    """Positive = helped."""
    forgetting: float
    """Positive = forgot."""
    retention: float | None
    """1 = all that was gained is still there. None: nothing was gained."""


@dataclass(frozen=True)
class BackgroundRow:
    """One source of text that no domain teaches."""

    source: str
    kind: str
    """`prose`, or `near-domain`: entries in the form of a domain's, on other subjects."""
    documents: int
    cut_documents: int
    """Those that go on, unscored, beyond `scored_tokens`."""
    identical: float
    """Share of documents in which nothing was found and whose logits are the bare model's bits."""
    max_added_nats: float
    """The worst document's whole loss above the base's; positive = lost."""
    base_loss_nats: float
    loss_nats: float
    """The mixture's, nats a token, every live domain active from the first token."""


@dataclass(frozen=True)
class RoutingRow:
    """How much of what a domain's pool knows the mixture finds, on its unseen documents."""

    domain: str
    documents: int
    cut_documents: int
    base_loss_nats: float
    oracle_loss_nats: float
    """The domain's pool alone."""
    loss_nats: float
    """The mixture's, every live domain active from the first token."""
    efficiency: float | None
    """Share of the pool's gain that the mixture keeps; None: the pool gains nothing."""
    efficiency_continuation: float | None
    """The same on second halves, the router deciding from the first half."""
    found: float
    """Share of documents in which the router finds the domain."""
    max_added_nats: float
    reduction: float
    """Share of the base's loss that the pool alone takes away."""
    reduction_without_stock_words: float
    """The same without words that stand in more than a fifth of the domain's documents."""
    reduction_by_other_domains: dict[str, float]
    """The same with another domain's pool."""


@dataclass(frozen=True)
class RecallRow:
    """Shares of a domain's facts that are answered exactly, in one wording."""

    domain: str
    wording: str
    """taught or paraphrase."""
    base: float
    oracle: float
    """By the domain's own pool."""
    routed: float
    """By the branch that writes after the prompt."""
    num: int
    """Questions asked."""


@dataclass(frozen=True)
class AskedRow:
    """How many questions on a domain's documents, which nothing was trained on, are answered."""

    domain: str
    source: str
    """Who made them: made (by rules), or people."""
    num: int
    right: int
    """The wanted answer stands in the first line or in the quoted sentence."""
    wrong: int
    declined: int
    """"Not known"."""
    found: int
    """Those that find their own document first."""
    outcomes: tuple[tuple[float, bool], ...] = ()
    """Of each that was answered, the probability that was shown, and whether it is right."""


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation of one snapshot found; made by `pipelines.evaluate.evaluate`."""

    snapshot: int
    domains: tuple[str, ...]
    """Those that are measured, in the order in which their live versions came."""
    scored_tokens: int
    """Documents are scored up to this many tokens."""
    unmeasured: tuple[str, ...]
    """Live domains without an unseen document."""
    near_learned: dict[str, tuple[str, ...]]
    """By domain the ids of held-out documents of which a live domain learned a near copy."""
    matrix: Matrix
    metrics: Metrics | None
    """None: no domain has an unseen document."""
    budget: float
    bound_nats: float
    """A scored document loses at most this much over the base."""
    answer_bound_nats: float
    """The same for an answer whose prompt asks for an item of one domain."""
    background: tuple[BackgroundRow, ...] = ()
    routing: tuple[RoutingRow, ...] = ()
    with_recall: bool = True
    recall: tuple[RecallRow, ...] = ()
    asked: tuple[AskedRow, ...] = ()
    too_long_questions: dict[str, int] = field(default_factory=dict)
    """By domain, questions that the base cannot read whole; they are not asked."""

    @property
    def max_added_nats(self) -> float | None:
        """The worst scored document's loss above the base's, background included; nats. None: no
        document was scored.
        """
        scored: list[BackgroundRow | RoutingRow] = [*self.background, *self.routing]
        return max((row.max_added_nats for row in scored), default=None)

    @property
    def is_within_bound(self) -> bool:
        """Whether no scored document lost more than the bound."""
        return self.max_added_nats is None or self.max_added_nats <= self.bound_nats

    def to_json(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> EvaluationReport:
        """Return the report that `to_json` wrote, before or after it went through JSON."""
        typed: dict[str, Any] = {
            "domains": tuple(stored["domains"]),
            "unmeasured": tuple(stored["unmeasured"]),
            "near_learned": {name: tuple(ids) for name, ids in stored["near_learned"].items()},
            "matrix": Matrix(**{key: _tuples(rows) for key, rows in stored["matrix"].items()}),
            "metrics": None if stored["metrics"] is None else Metrics(**stored["metrics"]),
            "background": tuple(BackgroundRow(**row) for row in stored["background"]),
            "routing": tuple(RoutingRow(**row) for row in stored["routing"]),
            "recall": tuple(RecallRow(**row) for row in stored["recall"]),
            "asked": tuple(
                AskedRow(**{**row, "outcomes": _tuples(row["outcomes"])}) for row in stored["asked"]
            ),
        }
        return cls(**{**stored, **typed})


def _tuples(rows: Any) -> Any:
    return tuple(map(_tuples, rows)) if isinstance(rows, (list, tuple)) else rows

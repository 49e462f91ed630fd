"""Exact recall of facts, in the wording that was trained and in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer_cl.model import PeerModel
from pipelines.asking import ask
from pipelines.branches import PoolBranches, Shortlist
from pipelines.progress import Progress
from pipelines.questions import Question
from pipelines.token_scores import VersionBranch

ASKED_AT_ONCE = 64
"""Questions between two reports of progress."""


@dataclass
class Tally:
    """How many questions of one domain and wording were answered exactly."""

    num: int = 0
    base: int = 0
    forced: int = 0
    mixture: int = 0

    def shares(self) -> dict[str, float]:
        """Return the shares that were answered, 0 to 1."""
        return {
            name: getattr(self, name) / max(1, self.num) for name in ("base", "forced", "mixture")
        }


def recall(
    model: PeerModel,
    branches: dict[str, VersionBranch],
    asked: Sequence[Question],
    progress: Progress,
) -> dict[tuple[str, str], Tally]:
    """Return, by domain and wording, how many questions the base, the pool and the mixture answer.

    The mixture is as in generation: the prompt alone chooses the shortlist and gives the weights,
    which are then held.

    Args:
        model: the store's model; its own pools are not used.
        branches: the live version of each domain.
        asked: the questions.
        progress: told how many are done.
    """
    names = sorted(branches)
    pools = PoolBranches(model, {name: branches[name].segments for name in names})
    signatures = {name: branches[name].signature for name in names}
    shortlist = Shortlist(model, signatures, model.name_odds)
    tallies = {(q.domain, q.wording): Tally() for q in asked}
    in_order = sorted(asked, key=lambda question: len(question.ids))  # little is padded
    for start in range(0, len(in_order), ASKED_AT_ONCE):
        some = in_order[start : start + ASKED_AT_ONCE]
        told = ask(pools, shortlist, some, model.budget)
        for question, one in zip(some, told, strict=True):
            tally = tallies[question.domain, question.wording]
            tally.num += 1
            tally.base += one.base
            tally.forced += one.forced
            tally.mixture += one.mixture
        progress("asking facts", start + len(some), len(asked), "")
    return tallies

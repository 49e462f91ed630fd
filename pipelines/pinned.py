"""What an evaluation is about: one snapshot, and its domains in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass

from peer_cl.mixture import share
from stores import DomainState, Registry, Snapshot


@dataclass(frozen=True)
class Learned:
    """A live domain and the snapshot in which its live version came."""

    domain: str
    version: str
    snapshot: Snapshot


@dataclass(frozen=True)
class Pinned:
    """What is evaluated: the snapshot that was live at the start, whatever others do meanwhile."""

    registry: Registry
    live: Snapshot
    learned: list[Learned]
    """Its domains, in the order in which their versions came."""
    measured: list[Learned]
    """Those of which documents are held out."""

    @property
    def share(self) -> float:
        """One pool's share."""
        return share(self.registry.config.budget, self.registry.config.capacity)

    def versions(self, snapshot: Snapshot | None = None) -> list[str]:
        """Return the live versions that were on in a snapshot already (default: now).

        An earlier version of a domain that grew since, or was erased from, is left out: the domain
        counts where its live version came, and before that it is as if nobody had learned it. So no
        figure takes a domain's own past for what others did to it.
        """
        return [state.version for state in self.states(snapshot or self.live)]

    def states(self, snapshot: Snapshot) -> list[DomainState]:
        """Return the states that `versions` is about."""
        now = {one.domain: one.version for one in self.learned}
        return [
            state
            for state in snapshot.domains
            if state.is_enabled and state.version == now.get(state.domain)
        ]


def learned_order(registry: Registry, live: Snapshot) -> list[Learned]:
    """Return a snapshot's domains in the order in which their versions were learned.

    Along its ancestry; a domain that was rolled back or grew again is counted where the version
    came that it now has.
    """
    order: dict[str, Learned] = {}
    for snapshot in registry.ancestry(live.id):
        for state in snapshot.domains:
            now = live.state(state.domain)
            if now is not None and now.version == state.version:
                order.setdefault(state.domain, Learned(state.domain, state.version, snapshot))
    return list(order.values())

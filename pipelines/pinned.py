"""What an evaluation is about: one snapshot, and its domains in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass

from peer_cl.mixture import share
from stores import Registry, Snapshot


@dataclass(frozen=True)
class Learned:
    """A live domain and its live version."""

    domain: str
    version: str


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

    def versions(self) -> list[str]:
        """Return the versions that are on."""
        on = {state.domain for state in self.live.domains if state.is_enabled}
        return [one.version for one in self.learned if one.domain in on]

    def come(self, domain: str, *, itself: bool = True) -> list[str]:
        """Return the live versions of the domains that came before one, all on.

        A domain counts where its live version came, and after that in each row, whatever it was
        rolled back from, disabled or out meanwhile: so no figure takes its own past, or what people
        switched, for what others did to it. Domains never depend on each other, so these are the
        very branches that there were.

        Args:
            domain: up to which.
            itself: whether it is among them.
        """
        place = [one.domain for one in self.learned].index(domain) + itself
        return [one.version for one in self.learned[:place]]


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
                order.setdefault(state.domain, Learned(state.domain, state.version))
    return list(order.values())

"""What differs between two snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from stores.queries import DomainState, Snapshot


@dataclass(frozen=True)
class Change:
    """A domain that two snapshots hold differently."""

    domain: str
    before: DomainState | None
    """None: it was not there."""
    after: DomainState | None

    @property
    def words(self) -> tuple[str, ...]:
        """What changed, one short line each."""
        old, new = self.before, self.after
        if old is None or new is None:
            return (
                (f"in at {new.label}",) if new else (f"out (it was at {old.label})",) if old else ()
            )
        found = [f"from {old.label} to {new.label}"] * (old.version != new.version)
        if old.is_frozen != new.is_frozen:
            found.append("frozen" if new.is_frozen else "no longer frozen")
        if old.is_enabled != new.is_enabled:
            found.append("enabled" if new.is_enabled else "disabled")
        return tuple(found)


def changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """Return the domains that differ between two snapshots, by name.

    Example:
        >>> law = DomainState("law", "a" * 32, "v1", is_frozen=False, is_enabled=True)
        >>> empty = Snapshot(1, None, "", "create", ())
        >>> changes(empty, Snapshot(2, 1, "", "ingest", (law,)))[0].words
        ('in at v1',)
    """
    names = sorted({state.domain for state in (*before.domains, *after.domains)})
    pairs = [Change(name, before.state(name), after.state(name)) for name in names]
    return tuple(pair for pair in pairs if pair.before != pair.after)

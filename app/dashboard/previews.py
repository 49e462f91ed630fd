"""What an act on a domain would change, in plain words, before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.dashboard.frames.counts import counted
from app.dashboard.frames.ingest import duration
from app.output import size
from pipelines.documents import several

if TYPE_CHECKING:
    from stores import Document, DomainDetail, Segment
    from stores.queries import DocumentPlace

UNDONE = "Nothing is deleted; it can be undone."


@dataclass(frozen=True)
class Choice:
    """Something that can be done with a domain as it is now."""

    action: str
    """freeze, unfreeze, disable, enable, roll back, take out, bring back, purge, purge retired."""
    label: str
    button: str


def choices(detail: DomainDetail, *, purgeable: bool, retired: bool) -> list[Choice]:
    """Return what can be done with a domain.

    Args:
        detail: of the domain.
        purgeable: whether all of it may be purged.
        retired: whether those of its versions may be purged that are not live.
    """
    item, name = detail.summary, detail.summary.domain
    found: list[Choice] = []
    if item.is_live:
        found.append(
            Choice("unfreeze", "Unfreeze: let it learn again", f"Unfreeze {name}")
            if item.is_frozen
            else Choice("freeze", "Freeze: let it learn nothing more", f"Freeze {name}")
        )
        found.append(
            Choice("disable", "Disable: stop asking it", f"Disable {name}")
            if item.is_enabled
            else Choice("enable", "Enable: ask it again", f"Enable {name}")
        )
        if len(detail.chain) > 1:
            label = "Roll back to an earlier version"
            found.append(Choice("roll back", label, f"Roll back {name}"))
        found.append(Choice("take out", "Take out of the store", f"Take out {name}"))
    elif purgeable:
        found.append(Choice("bring back", "Bring back into the store", f"Bring back {name}"))
    if purgeable:
        found.append(Choice("purge", "Purge: delete it for ever", f"Purge {name}"))
    if retired:
        label = "Purge what is not live: delete its rolled-back versions for ever"
        found.append(Choice("purge retired", label, f"Purge rolled-back versions of {name}"))
    return found


def preview(
    action: str,
    detail: DomainDetail,
    documents: Sequence[Document],
    version: str | None = None,
    *,
    num_erased: int = 0,
    unfinished: str = "",
) -> list[str]:
    """Return what an act would change, one sentence each.

    Args:
        action: of a `Choice`.
        detail: of the domain.
        documents: of its live version, or of that which it was at last.
        version: to which it would be rolled back (a full id).
        num_erased: documents on its list of what was erased exactly.
        unfinished: what of its ingests goes with a purge, in words.
    """
    item = detail.summary
    name, at = item.domain, f"{item.domain} ({item.label})"
    match action:
        case "freeze":
            return [f"{at} learns nothing more until it is unfrozen; it answers as before.", UNDONE]
        case "unfreeze":
            return [f"{at} may learn from further ingests; it answers as before.", UNDONE]
        case "disable":
            return [
                f"{at} is not asked any more: every text is answered as if it were not there.",
                "No other domain's answers change.",
                UNDONE,
            ]
        case "enable":
            return [f"{at} is asked again by texts that match it.", UNDONE]
        case "roll back":
            return _rolled_back(detail, documents, version)
        case "take out":
            lost = _held(detail.chain, documents)
            return [
                f"{at} leaves the store, and with it {lost}.",
                "No other domain's answers change.",
                UNDONE,
            ]
        case "bring back":
            return [
                f"{name} is in the store again as it last was: {counted(documents)}.",
                "No other domain's answers change.",
                UNDONE,
            ]
        case _:
            retired = action == "purge retired"
            return _purged(
                detail, name, retired=retired, num_erased=num_erased, unfinished=unfinished
            )


def _rolled_back(
    detail: DomainDetail, documents: Sequence[Document], version: str | None
) -> list[str]:
    ids = [segment.id for segment in detail.chain]
    target = detail.chain[ids.index(version)] if version in ids else detail.chain[0]
    gone = detail.chain[ids.index(target.id) + 1 :]
    name, label = detail.summary.domain, detail.summary.label
    return [
        f"{name} goes from {label} to {target.label}, without what came since: "
        f"{_held(gone, documents)}.",
        *(
            f"What {segment.label} switched off is on again."
            for segment in gone
            if segment.kind == "mask"
        ),
        UNDONE,
    ]


def _held(segments: Sequence[Segment], documents: Sequence[Document]) -> str:
    """Return what segments hold, counted."""
    ids = {segment.id for segment in segments}
    return counted(item for item in documents if item.segment_id in ids)


def erasure(detail: DomainDetail, places: Sequence[DocumentPlace], *, masked: bool) -> list[str]:
    """Return what erasing a document from a domain would change, one sentence each.

    Args:
        detail: of the domain, which is live.
        places: where the document is held; at least once in the domain's live chain.
        masked: its rows are switched off; else the domain is trained again.
    """
    name, label = detail.summary.domain, detail.summary.label
    others = sorted({one.document.domain for one in places} - {name})
    held = [f"{', '.join(others)} too has it, which this does not touch."] * bool(others)
    if masked:
        told = "Rows are shared: other documents may lose a little, and this one may keep some."
        is_kept = all(one.document.text_object is not None for one in places)
        measured = " How much is measured and told." if is_kept else ""
        return [
            f"The rows of {name} ({label}) that are most its own are off, as a new version.",
            told + measured,
            *held,
            UNDONE,
        ]
    again = _from_first(detail, places)
    runs = {run.segment_id: run.seconds for run in detail.runs}
    took = duration(sum(runs.get(segment.id, 0.0) for segment in again))
    return [
        f"{name} is trained again without it, from {again[0].label} on, which took {took} before.",
        f"{name} is then as if it had never seen it. No other domain's answers change.",
        "A job does it: it goes on when you close this page.",
        *held,
        "Old snapshots hold it until what is not live is purged; until then it can be undone.",
    ]


def _from_first(detail: DomainDetail, places: Sequence[DocumentPlace]) -> Sequence[Segment]:
    """Return the end of a live chain that begins where a document was learned."""
    holding = {one.document.segment_id for one in places}
    first = next(at for at, segment in enumerate(detail.chain) if segment.id in holding)
    return detail.chain[first:]


def _purged(
    detail: DomainDetail, name: str, *, retired: bool, num_erased: int, unfinished: str
) -> list[str]:
    live = {segment.id for segment in detail.chain}
    gone = [one for one in detail.versions if not one.is_purged and one.id not in live]
    labels = ", ".join(segment.label for segment in gone)
    what = f"the versions {labels} of {name}" if len(gone) > 1 else f"version {labels} of {name}"
    return [
        f"The bytes of {what} are deleted for ever: "
        f"{size(sum(segment.size_bytes for segment in gone))} of pools, with signatures, texts, "
        "titles, scores and run logs.",
        *([f"Deleted with it: {unfinished}."] if unfinished else []),
        "Evaluations of the snapshots that held them are deleted too.",
        "Those snapshots can then be restored without them only.",
        *([f"{name} stays at {detail.summary.label}."] if retired else []),
        *(
            [
                f"Its list of {several(num_erased, 'erased document')} goes too: a later ingest "
                "learns such again."
            ]
            if num_erased and not retired
            else []
        ),
        "The events and the name remain. There is no undo.",
    ]

"""The held-out documents of a domain, down to the tokens of one: raw scores, no averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.dashboard.addresses import document_address
from app.dashboard.charts import held_out as charts
from app.dashboard.choosing import clicked_row
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.columns import document_column
from app.dashboard.frames import held_out as frames
from app.dashboard.measuring import offer_measuring
from app.dashboard.page import StorePlace, View, plain

if TYPE_CHECKING:
    from pipelines.store import Store
    from stores.queries import EvaluatedSnapshot, HeldOutScores

SHOWN_DOCUMENTS = 1000
"""At most so many held-out documents are listed; the CSV file has them all."""


def to_csv(frame: pd.DataFrame) -> bytes:
    """Return a table as the bytes of a CSV file that no spreadsheet runs."""
    return frames.safe_cells(frame).to_csv(index=False).encode()


@st.cache_data(show_spinner=False, max_entries=16)
def _scores(
    place: StorePlace, snapshot_id: int, evaluated_at: str, domain: str, _store: Store
) -> tuple[HeldOutScores, ...]:
    """Return a domain's document scores under the versions that an evaluated snapshot has."""
    snapshot = _store.registry.snapshot(snapshot_id)
    state = snapshot.state(domain)
    if state is None:
        return ()
    asked = [other.version for other in snapshot.domains if other.is_enabled]
    live = [other.version for other in snapshot.domains]
    found = _store.registry.held_out_scores(state.version, asked, live)
    # Scored when an earlier snapshot was measured, and no unseen text since.
    near = frozenset(_near_learned(_store, snapshot_id, domain))
    return tuple(one for one in found if one.document_id not in near)


def _near_learned(store: Store, snapshot_id: int, domain: str) -> Sequence[str]:
    """Return the held-out documents of which a live pool learned a near copy."""
    told: Mapping[str, Any] = store.registry.evaluation(snapshot_id) or {}
    found: Sequence[str] = told.get("near_learned", {}).get(domain, ())
    return found


def show_documents(seen: View, chosen: EvaluatedSnapshot, domain: str) -> None:
    """Show the held-out documents of a domain, and the tokens of one that is selected."""
    st.subheader(plain(f"Held-out documents of {domain}"), anchor=False)
    found = _scores(seen.place, chosen.snapshot_id, chosen.evaluated_at, domain, seen.store)
    if not found:
        st.info(
            "No document's scores are stored for this version: nothing of it is held out, or its "
            "scores were purged.",
            icon=":material/info:",
        )
        _offer_scores(seen, chosen)
        return
    st.caption(
        "Loss of the base, and with every enabled pool asked from the first word, as the matrix "
        "has it; negative change = learned. Besides, with the domain's pool alone. Click a row to "
        "see its tokens."
    )
    share = pool_share(seen)
    frame = frames.documents_frame(found, share)
    if frame["nats"].isna().any():
        st.caption(
            f"{frame['nats'].isna().sum():,} documents lack the scores of some pool; measuring "
            "the live snapshot adds them."
        )
        _offer_scores(seen, chosen)
    colour = seen.colours.get(domain, BASE_COLOUR)
    picked = st.dataframe(
        _linked(frame.head(SHOWN_DOCUMENTS)),
        hide_index=True,
        height=340,
        column_config=_DOCUMENTS,
        key=f"documents-{domain}-{chosen.snapshot_id}",
        on_select="rerun",
        selection_mode="single-cell",
        alt=f"Held-out documents of {domain} with their losses",
    )
    if len(frame) > SHOWN_DOCUMENTS:
        st.caption(f"{SHOWN_DOCUMENTS:,} of {len(frame):,} documents; the file has them all.")
    st.download_button(
        "Download the documents' scores (CSV)",
        lambda: to_csv(frame),
        f"documents-{domain}-snapshot-{chosen.snapshot_id}.csv",
        "text/csv",
        icon=":material/download:",
    )
    place = clicked_row(picked)
    if place is not None:
        item = next(item for item in found if item.document_id == frame["id"][place])
        _tokens(item, share, colour)
    st.altair_chart(
        charts.documents_chart(frame.head(SHOWN_DOCUMENTS), colour),
        alt=f"Scatter of the loss with pools against the base's, {len(frame)} documents",
    )


def _linked(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with addresses in place of ids."""
    return frame.assign(id=frame["id"].map(document_address))


def _offer_scores(seen: View, chosen: EvaluatedSnapshot) -> None:
    """Offer to score what is missing, where the versions shown are those that would be scored."""
    if seen.store.registry.snapshot(chosen.snapshot_id).index_tag == seen.live.index_tag:
        offer_measuring(seen.folder, "documents")


def pool_share(seen: View) -> float:
    """Return one pool's share of the mixture, as the store has it."""
    config = seen.store.registry.config
    return config.budget / config.capacity


def _tokens(item: HeldOutScores, share: float, colour: str) -> None:
    st.text(item.title)
    st.altair_chart(
        charts.tokens_chart(frames.tokens_frame(item, share), colour),
        alt=f"Loss of each of {len(item.log_probs)} tokens, for the base, with pools, and with the "
        "domain's pool alone",
    )


_DOCUMENTS: dict[str, Any] = {
    "title": st.column_config.TextColumn("title", width="medium"),
    "tokens": "tokens",
    "base_nats": st.column_config.NumberColumn("base", format="%.4f"),
    "nats": st.column_config.NumberColumn("with pools", format="%.4f"),
    "alone_nats": st.column_config.NumberColumn("its pool alone", format="%.4f"),
    "change_nats": st.column_config.NumberColumn("change, nats a token", format="%+.4f"),
    "added_nats": st.column_config.NumberColumn("whole document", format="%+.2f"),
    "source": "source",
    "id": document_column(),
}

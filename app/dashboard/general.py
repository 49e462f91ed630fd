"""General ability before and after, as an evaluation found it: charts, tables, what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.charts.general import general_chart
from app.dashboard.frames import general as frames
from app.dashboard.measuring import show_command
from app.dashboard.page import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.dashboard.page import View

EMPTY = (
    "This evaluation did not measure general ability. The command below does, on a folder with "
    "sets of your own that no domain teaches: jsonl files with query, choices and gold, or with "
    "context and continuation, and txt files."
)


def show_general(seen: View, rows: list[dict[str, Any]], left_out: Sequence[str]) -> None:
    """Show what the bare base and the store with its pools make of sets that no domain teaches.

    Args:
        seen: the store.
        rows: of `frames.general.read_general`.
        left_out: lines on what is in none of them.
    """
    st.subheader("General ability, before and after", anchor=False)
    if not rows:
        st.info(EMPTY, icon=":material/school:")
        show_command(seen.folder, "evaluate", "--general", "FOLDER")
        return
    num_items, num_asked, num_changed = (
        sum(row[name] for row in rows) for name in ("items", "asked_items", "changed_items")
    )
    st.caption(
        "Before: the bare base alone. After: the store as it is used, each item's context asking "
        "the pools by itself. Where it asks none, the answer is the bare base's, bit for bit. Of "
        f"{num_items:,} items {num_asked:,} asked a pool, and {num_changed:,} changed."
    )
    for line in left_out:
        st.caption(plain(f"{line[:1].upper()}{line[1:]}."))
    for is_text in (False, True):
        frame = frames.general_frame(rows, is_text=is_text)
        if len(frame):
            _show(frame, is_text=is_text)


def _show(frame: Any, *, is_text: bool) -> None:
    what = "Loss on texts" if is_text else "Accuracy"
    told = ", ".join(
        f"{row.task} {row.before:.3f} and {row.after:.3f}" for row in frame.itertuples()
    )
    st.altair_chart(
        general_chart(frames.paired_frame(frame), is_text=is_text),
        alt=f"{what} of the base alone and with pools, by set: {told}",
    )
    st.dataframe(
        frame,
        hide_index=True,
        column_config=_columns(is_text=is_text),
        alt=f"{what} before and after, and what changed item by item",
    )


def _columns(*, is_text: bool) -> dict[str, Any]:
    form = "%.4f" if is_text else "percent"
    unit = ", nats a token" if is_text else ""
    return {
        "task": "set",
        "kind": st.column_config.TextColumn(
            "kind",
            help="Choice: the ending that is likeliest a character. Continuation: written exactly.",
        ),
        "items": "items",
        "before": st.column_config.NumberColumn(f"before{unit}", format=form),
        "after": st.column_config.NumberColumn(f"after{unit}", format=form),
        "changed_items": st.column_config.NumberColumn(
            "changed",
            help="Texts whose loss differs at all." if is_text else "Items answered differently.",
        ),
        "gained": st.column_config.NumberColumn(
            "gained", help="A smaller loss." if is_text else "Wrong before, right after."
        ),
        "lost": st.column_config.NumberColumn(
            "lost", help="A larger loss." if is_text else "Right before, wrong after."
        ),
        "interval": st.column_config.TextColumn(
            "change, 95 %",
            help="After less before, nats a token: drawn again over texts; positive = lost."
            if is_text
            else "After less before, for items beyond those asked; negative = lost.",
        ),
        "asked_items": st.column_config.NumberColumn(
            "asked a pool", help="Items whose context asks at least one pool."
        ),
        "max_added_nats": st.column_config.NumberColumn(
            "worst text, nats", format="%.5f", help="Added to a whole text's loss."
        ),
    }

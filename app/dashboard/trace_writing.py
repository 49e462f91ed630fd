"""The Trace page's view of what is written on from a text, as it comes, base beside pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.model import borrowed
from app.dashboard.page import View

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

WRITTEN = "trace_written"
"""What was written last in this session, whole or not."""
WANTED, STARTED = "trace_write", "trace_writes"
"""Whether a text is to be written now, and how many were begun."""
_BASE, _POOLS = "The base alone", "With pools"


def show_writing(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show how the base and the mixture go on from a text, token by token.

    Whatever a person does meanwhile ends the writing: the stop button needs to do nothing else.
    """
    left, middle, right, _ = st.columns([3, 2, 2, 3], vertical_alignment="bottom")
    num = left.slider("New tokens, at most", 8, 200, 40, step=8)
    # Two places: a button in another's place is taken for it, and a click on it goes nowhere.
    start, stop = middle.empty(), right.empty()
    kept = _kept(seen, text, domains)
    notice = st.empty()
    boxes = {who: _box(column, who) for column, who in zip(st.columns(2), kept, strict=True)}
    for who, box in boxes.items():
        box.text(kept[who] or "…")
    if st.session_state.pop(WANTED, False):
        stop.button("Stop", icon=":material/stop:", width="stretch")
        _write(seen, text, domains, num, boxes)
        stop.empty()
    start.button(
        "Write on",
        key="trace_write_button",
        type="primary",
        icon=":material/edit:",
        width="stretch",
        on_click=_want,
        args=(st.session_state.get(STARTED, 0),),
    )
    written: dict[str, Any] = st.session_state.get(WRITTEN, {})
    if written and not all(written["texts"].values()) and written["is_whole"]:
        notice.caption(
            "Where nothing stands, the model took the text as ended. It continues a text rather "
            "than answering a question: begin the answer, such as “The capital of Peru is”."
        )
    elif written and not written["is_whole"]:
        notice.caption("Stopped: what was written until then stands below.")


def _want(number: int) -> None:
    """Have a text written, once a click: Streamlit replays the click of a run that was ended."""
    if number == st.session_state.get(STARTED, 0):
        st.session_state[STARTED] = number + 1
        st.session_state[WANTED] = True


def _kept(seen: View, text: str, domains: tuple[str, ...]) -> dict[str, str]:
    """Return what was written on from this very text before; nothing for another one."""
    kept: dict[str, Any] = st.session_state.get(WRITTEN, {})
    if kept.get("of") != (seen.key, text, domains):
        st.session_state.pop(WRITTEN, None)
        return {_BASE: "", _POOLS: ""}
    texts: dict[str, str] = kept["texts"]
    return texts


def _box(column: DeltaGenerator, who: str) -> DeltaGenerator:
    """Return a place for one continuation, under its heading."""
    with column, st.container(border=True):
        st.markdown(f"**{who}**")
        return st.empty()


def _write(
    seen: View,
    text: str,
    domains: tuple[str, ...],
    num: int,
    boxes: dict[str, DeltaGenerator],
) -> None:
    """Write with the base, then with the pools, and show every token as it comes."""
    from pipelines.writing import write

    texts = dict.fromkeys(boxes, "")
    kept: dict[str, Any] = {
        "of": (seen.key, text, domains),
        "texts": texts,
        "is_whole": False,
    }
    st.session_state[WRITTEN] = kept
    for box in boxes.values():
        box.text("…")
    asked: dict[str, tuple[str, ...] | None] = {_BASE: (), _POOLS: domains or None}
    with borrowed(seen) as (model, tokenizer):
        for who, only in asked.items():

            def hear(written: str, who: str = who) -> None:
                texts[who] = written
                boxes[who].text(written or "…")

            writing = write(model, tokenizer, text, domains=only, max_new_tokens=num, on_text=hear)
            hear(writing.text)
    kept["is_whole"] = True

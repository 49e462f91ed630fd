"""The Trace page's view of what is written on from a text, as it comes, base beside pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.clicks import click, wanted
from app.dashboard.model import borrowed
from app.dashboard.page import View

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

WRITTEN = "trace_written"
"""What was written last in this session, whole or not."""
WRITE = "trace_write"
"""What a click on the button is for."""
MOST_GUIDANCE = 2.0
"""Beyond it fewer facts come back than without any (docs/LOG.md)."""
_BASE, _POOLS = "The base alone", "With pools"
_GUIDANCE = (
    "How often what the pools say beyond the base counts. At 1.25 more facts come back that are "
    "asked for in other words; 1 is the mixture itself, whose promise is about scored text."
)

WrittenOn = tuple[tuple[str, int], str, tuple[str, ...], float]
"""The store and snapshot, the text, the domains that are asked, and the guidance."""


def show_writing(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show how the base and the mixture go on from a text, token by token.

    Whatever a person does meanwhile ends the writing: the stop button needs to do nothing else.
    """
    first, second, third, fourth = st.columns([3, 3, 2, 2], vertical_alignment="bottom")
    num = first.slider("New tokens, at most", 8, 200, 40, step=8)
    guidance = second.slider(
        "Guidance", 1.0, MOST_GUIDANCE, 1.0, step=0.25, help=_GUIDANCE, key="trace_guidance"
    )
    # Two places: a button in another's place is taken for it, and a click on it goes nowhere.
    start, stop = third.empty(), fourth.empty()
    written_on = (seen.key, text, domains, guidance)
    kept = _kept(written_on)
    notice = st.empty()
    boxes = {who: _box(column, who) for column, who in zip(st.columns(2), kept, strict=True)}
    for who, box in boxes.items():
        box.text(kept[who] or "…")
    if wanted(WRITE):
        stop.button("Stop", icon=":material/stop:", width="stretch")
        _write(seen, written_on, num, boxes)
        stop.empty()
    start.button(
        "Write on",
        key="trace_write_button",
        type="primary",
        icon=":material/edit:",
        width="stretch",
        **click(WRITE),
    )
    written: dict[str, Any] = st.session_state.get(WRITTEN, {})
    if written and not all(written["texts"].values()) and written["is_whole"]:
        notice.caption(
            "Where nothing stands, the model took the text as ended. It continues a text rather "
            "than answering a question: begin the answer, such as “The capital of Peru is”."
        )
    elif written and not written["is_whole"]:
        notice.caption("Stopped: what was written until then stands below.")


def _kept(written_on: WrittenOn) -> dict[str, str]:
    """Return what was written on from just this before; nothing for anything else."""
    kept: dict[str, Any] = st.session_state.get(WRITTEN, {})
    if kept.get("of") != written_on:
        st.session_state.pop(WRITTEN, None)
        return {_BASE: "", _POOLS: ""}
    texts: dict[str, str] = kept["texts"]
    return texts


def _box(column: DeltaGenerator, who: str) -> DeltaGenerator:
    """Return a place for one continuation, under its heading."""
    with column, st.container(border=True):
        st.markdown(f"**{who}**")
        return st.empty()


def _write(seen: View, written_on: WrittenOn, num: int, boxes: dict[str, DeltaGenerator]) -> None:
    """Write with the base, then with the pools, and show every token as it comes."""
    from pipelines.writing import write

    _, text, domains, guidance = written_on
    texts = dict.fromkeys(boxes, "")
    kept: dict[str, Any] = {"of": written_on, "texts": texts, "is_whole": False}
    st.session_state[WRITTEN] = kept
    for box in boxes.values():
        box.text("…")
    asked: dict[str, tuple[str, ...] | None] = {_BASE: (), _POOLS: domains or None}
    with borrowed(seen) as (model, tokenizer):
        for who, only in asked.items():

            def hear(written: str, who: str = who) -> None:
                texts[who] = written
                boxes[who].text(written or "…")

            writing = write(
                model,
                tokenizer,
                text,
                domains=only,
                guidance_scale=guidance,
                max_new_tokens=num,
                on_text=hear,
            )
            hear(writing.text)
    kept["is_whole"] = True

"""The Trace page's view of what is written on from a text, as it comes, pools beside base."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard.clicks import click, wanted
from app.dashboard.frames.trace import weights_in_words
from app.dashboard.model import borrowed
from app.dashboard.page import StorePlace, View, plain
from pipelines.documents import several

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from app.dashboard.model import Loaded
    from pipelines.writing import Writing

WRITTEN = "trace_written"
"""What was written last in this session, whole or not."""
WRITE = "trace_write"
"""What a click on the button is for."""
MOST_GUIDANCE = 2.0
"""Beyond it fewer facts come back than without any (docs/LOG.md)."""
_POOLS, _BASE = "With pools", "The base alone"
_COLUMNS = (_POOLS, _BASE)
"""In the order in which they stand, and are written."""
_GUIDANCE = (
    "How often what the pools say beyond the base counts. At 1.25 more facts come back that are "
    "asked for in other words; 1 is the mixture itself, whose promise is about scored text."
)

WrittenOn = tuple[tuple[StorePlace, int], str, tuple[str, ...], float]
"""The store and snapshot, the text, the domains that are asked, and the guidance."""


@dataclass(frozen=True)
class _Box:
    """The places for one continuation: how it goes, and what is written."""

    note: DeltaGenerator
    text: DeltaGenerator


def show_writing(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show how the mixture and the base go on from a text, token by token.

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
    boxes = {who: _box(column, who) for column, who in zip(st.columns(2), _COLUMNS, strict=True)}
    for who, box in boxes.items():
        _show(kept, who, box)
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
    elif written and any(written["notes"].values()) and not written["is_whole"]:
        notice.caption("Stopped: what was written until then stands below.")


def _kept(written_on: WrittenOn) -> dict[str, Any]:
    """Return what was written on from just this before; nothing for anything else."""
    kept: dict[str, Any] = st.session_state.get(WRITTEN, {})
    if kept.get("of") != written_on:
        st.session_state.pop(WRITTEN, None)
        return _nothing(written_on)
    return kept


def _nothing(written_on: WrittenOn) -> dict[str, Any]:
    """Return what is kept of a writing that has not begun."""
    return {
        "of": written_on,
        "texts": dict.fromkeys(_COLUMNS, ""),
        "notes": dict.fromkeys(_COLUMNS, ""),
        "is_whole": False,
    }


def _box(column: DeltaGenerator, who: str) -> _Box:
    """Return the places for one continuation, under its heading."""
    with column, st.container(border=True):
        st.markdown(f"**{who}**")
        return _Box(st.empty(), st.empty())


def _write(seen: View, written_on: WrittenOn, num: int, boxes: dict[str, _Box]) -> None:
    """Write with the pools, then with the base, and show every token as it comes."""
    kept = _nothing(written_on)
    st.session_state[WRITTEN] = kept
    for box in boxes.values():
        box.text.text("…")
    boxes[_POOLS].note.caption("Reading the text")
    boxes[_BASE].note.caption("Begins when the pools have written")
    domains = written_on[2]
    with borrowed(seen) as loaded:
        writing = _write_one(loaded, kept, _POOLS, boxes[_POOLS], num, domains or None)
        if writing.weights:
            boxes[_BASE].note.caption("Reading the text")
            _write_one(loaded, kept, _BASE, boxes[_BASE], num, ())
    if not writing.weights:
        kept["texts"][_BASE] = kept["texts"][_POOLS]
        kept["notes"][_BASE] = "The same, since no domain is asked."
        _show(kept, _BASE, boxes[_BASE])
    kept["is_whole"] = True


def _write_one(
    loaded: Loaded,
    kept: dict[str, Any],
    who: str,
    box: _Box,
    num: int,
    only: tuple[str, ...] | None,
) -> Writing:
    """Write one continuation into its box, and tell at its end who spoke and why it ended."""
    from pipelines.writing import write

    _, text, _, guidance = kept["of"]
    model, tokenizer = loaded
    began = time.monotonic()
    heard = itertools.count(1)

    def hear(written: str) -> None:
        seconds = time.monotonic() - began
        kept["texts"][who] = written
        kept["notes"][who] = f"{next(heard)} of {num} tokens, {seconds:.0f} s"
        _show(kept, who, box)

    writing = write(
        model,
        tokenizer,
        text,
        domains=only,
        guidance_scale=guidance,
        max_new_tokens=num,
        on_text=hear,
    )
    kept["texts"][who] = writing.text
    kept["notes"][who] = _account(writing, time.monotonic() - began, of_pools=who == _POOLS)
    _show(kept, who, box)
    return writing


def _account(writing: Writing, seconds: float, *, of_pools: bool) -> str:
    """Return who spoke while it was written, and why it ended."""
    num = several(writing.num_tokens, "token")
    ended = f"Ended by itself after {num}" if writing.is_ended else f"Ended at the limit of {num}"
    ended += f", {seconds:.0f} s."
    if not of_pools:
        return ended
    if not writing.weights:
        return f"No domain is asked: the base wrote. {ended}"
    return f"Held weights: {weights_in_words(writing.base_weight, writing.weights)}. {ended}"


def _show(kept: dict[str, Any], who: str, box: _Box) -> None:
    """Show what is written by now, and how it goes."""
    box.text.text(kept["texts"][who] or "…")
    if kept["notes"][who]:
        box.note.caption(plain(kept["notes"][who]))

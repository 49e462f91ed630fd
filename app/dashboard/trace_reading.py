"""The Trace page's view of a text that is read: who speaks at each token, and by which rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.dashboard import cached
from app.dashboard.charts import trace as charts
from app.dashboard.colours import BASE_COLOUR
from app.dashboard.frames import trace as frames
from app.dashboard.launch import THEME
from app.dashboard.model import borrowed
from app.dashboard.page import View
from app.dashboard.trace_search import show_unasked, show_why
from app.dashboard.trace_tables import labels, show_documents, show_held, show_rows

if TYPE_CHECKING:
    from pipelines.tracing import Trace, TracedRow, TracedToken
    from stores.queries import HeldBy

LINES = {"short": 44, "medium": 72, "long": 104}
"""Columns of a line of the text in colours: on a phone, and beside the sidebar at 1280 pixels."""
MOST_TOKENS = 1500
"""Drawn; a longer text is read whole, and drawn in part."""
NUM_DOCUMENTS = 10
PICKED, PICKED_OF = "trace_token", "trace_token_of"
"""Keys of the session: the chosen token, and the text that it is of."""
CHART = "trace_chart"
INK = {scheme: THEME[f"theme.{scheme}.textColor"] for scheme in ("dark", "light")}


def named_colours(seen: View) -> dict[str, str]:
    """Return a colour for the base and for each domain, by the names that tables give them."""
    return {
        frames.BASE: BASE_COLOUR,
        **{frames.name_of(domain): colour for domain, colour in seen.colours.items()},
    }


def show_traced(seen: View, text: str, domains: tuple[str, ...]) -> None:
    """Show who speaks at each token of a text, by which rows, and what those hold."""
    with st.spinner("Reading the text"):
        found = _traced(cached.stamp(seen), text, domains, seen)
    colours = named_colours(seen)
    _show_figures(found)
    if found.asked:
        _show_speakers(seen, found, colours, is_by_name=bool(domains))
    else:
        show_unasked(seen, text, domains)
        show_why(seen, text, "Why no domain is asked")
    st.subheader("What comes next", anchor=False)
    _show_next(found, colours)


def _show_speakers(
    seen: View, found: Trace, colours: Mapping[str, str], *, is_by_name: bool
) -> None:
    """Show the text and its experts, where at least one pool is asked."""
    tokens = found.tokens[:MOST_TOKENS]
    st.subheader("The text, token by token", anchor=False)
    if len(tokens) < len(found.tokens):
        st.caption(f"The first {len(tokens):,} of {len(found.tokens):,} tokens are drawn.")
    _show_text(tokens, colours)
    st.altair_chart(
        charts.weights_over_tokens(frames.weights_over_tokens(tokens), colours),
        alt=f"Weight of the base and of each asked pool over {len(tokens)} tokens, stacked to one; "
        + frames.weights_in_words(found.base_weight, found.weights),
    )
    if not is_by_name:
        show_why(seen, found.text, "Why these domains are asked, and no others")
    _show_token(seen, found, tokens)
    st.subheader("Documents that the text is like", anchor=False)
    show_documents(frames.ranked_documents(found.documents))


@st.cache_data(show_spinner=False, max_entries=16)
def _traced(stamp: cached.Stamp, text: str, domains: tuple[str, ...], _seen: View) -> Trace:
    with borrowed(_seen) as (model, tokenizer):
        return _seen.store.trace(
            text,
            model=model,
            tokenizer=tokenizer,
            snapshot=_seen.live,
            domains=domains or None,
            num_documents=NUM_DOCUMENTS,
            num_next=6,
        )


def _show_figures(found: Trace) -> None:
    """Show what the whole text comes to."""
    base, mixture = frames.losses(found)
    one, two, three, four = st.columns([1, 1, 1, 2])
    one.metric("Tokens", f"{len(found.tokens):,}")
    two.metric("Loss of the base", f"{base:.2f}", help="Nats a token; the lower, the better known.")
    if not found.asked:
        return
    three.metric(
        "Loss with pools",
        f"{mixture:.2f}",
        f"{mixture - base:+.3f}",
        delta_color="inverse",
        help="Nats a token, of the mixture of the base and the pools that the text asks.",
    )
    with four:
        st.caption("Weights after the whole text")
        st.text(frames.weights_in_words(found.base_weight, found.weights))


def _show_text(tokens: list[TracedToken], colours: Mapping[str, str]) -> None:
    """Show the text in colours; a click on a token chooses it."""
    length = st.segmented_control(
        "Lines",
        list(LINES),
        default=fitting_lines(st.context.headers.get("User-Agent") or ""),
        required=True,
        key="trace_lines",
        help="A chart cannot break its lines anew: shorter ones fit a smaller window.",
    )
    num_columns = LINES[length]
    frame = frames.laid_out(tokens, num_columns=num_columns)
    shares = frame["speaker"].value_counts(normalize=True)
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    st.altair_chart(
        charts.text_in_colours(frame, colours, ink=ink, num_columns=num_columns),
        width="content",
        key=CHART,
        on_select=_pick,
        alt="The text, each token coloured by who has most weight there: "
        + ", ".join(f"{name} at {share:.0%} of the tokens" for name, share in shares.items()),
    )
    st.caption(
        "The stronger a colour, the more weight. A click on a token shows its experts below."
    )


def fitting_lines(user_agent: str) -> str:
    """Return which of LINES fits the window: the server is told the browser, not the width.

    Example:
        >>> fitting_lines("Mozilla/5.0 (X11; Linux x86_64)"), fitting_lines("(Android) Mobile")
        ('long', 'short')
    """
    return "short" if "mobi" in user_agent.casefold() else "long"


def _pick() -> None:
    """Take the token that was clicked."""
    picked: Any = st.session_state[CHART]["selection"].get(charts.TOKEN)
    if picked:
        st.session_state[PICKED] = int(picked[0]["token"])


def _show_token(seen: View, found: Trace, tokens: list[TracedToken]) -> None:
    """Show one token's experts, and the documents that those hold."""
    st.subheader("One token's experts", anchor=False)
    if st.session_state.get(PICKED_OF) != found.text:
        st.session_state[PICKED_OF] = found.text
        st.session_state[PICKED] = 1 + max(
            range(len(tokens)), key=lambda number: max(tokens[number].weights.values())
        )
    number = st.selectbox(
        "Token",
        range(1, len(tokens) + 1),
        key=PICKED,
        format_func=lambda number: f"{number}: {frames.visible(tokens[number - 1].text)}",
        width=320,
    )
    token = tokens[number - 1]
    by_weight = sorted(token.rows, key=lambda domain: -token.weights[domain])
    rows = [row for domain in by_weight for row in token.rows[domain]]
    st.caption("The strongest rows where this token is foreseen, from what stands before it")
    show_rows(frames.traced_rows(rows, labels(seen, found.asked)))
    st.caption("Documents that hold most of these rows, as multiples of an even share")
    held = _held(seen, rows)
    segments = {row.segment_id for row in rows}
    num_learned = {one: seen.store.registry.num_learned(one) for one in segments}
    show_held(frames.documents_of_rows(held, token.weights, num_learned, NUM_DOCUMENTS))


def _held(seen: View, rows: list[TracedRow]) -> dict[str, list[HeldBy]]:
    """Return what some rows hold, by domain."""
    wanted: dict[tuple[str, str], dict[int, list[int]]] = {}
    for row in rows:
        layers = wanted.setdefault((row.domain, row.segment_id), {})
        layers.setdefault(row.host_layer, []).append(row.row)
    held: dict[str, list[HeldBy]] = {}
    for (domain, segment_id), layers in wanted.items():
        held.setdefault(domain, []).extend(seen.store.registry.held_documents(segment_id, layers))
    return held


def _show_next(found: Trace, colours: Mapping[str, str]) -> None:
    """Show the next token's distributions, the base's beside the mixture's."""
    frame = frames.next_tokens(found.next_base, found.next_injected)
    highest = float(frame["probability"].max())
    bars = {frames.BASE: colours[frames.BASE]}
    if found.weights:
        strongest = max(found.weights, key=lambda name: found.weights[name])
        bars[frames.INJECTED] = colours[frames.name_of(strongest)]
    for column, (who, colour) in zip(st.columns(len(bars)), bars.items(), strict=True):
        own = frame[frame["who"] == who]
        with column:
            st.caption("The base alone" if who == frames.BASE else "With pools")
            st.altair_chart(
                charts.next_tokens(frame, who, colour, highest),
                alt=f"Likeliest next tokens, {who}: "
                + ", ".join(
                    f"{candidate} {probability:.1%}"
                    for candidate, probability in zip(
                        own["candidate"], own["probability"], strict=True
                    )
                ),
            )

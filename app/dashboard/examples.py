"""Examples: what a newcomer can ask a store, and trace in it, with one click."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice, zip_longest

import streamlit as st

from app.dashboard.state import View, plain
from pipelines.facts import Fact
from stores.queries import DomainState

NUM_EXAMPLES = 2


def offer(texts: Iterable[str], take: Callable[[str], None]) -> None:
    """Show texts as buttons that take them."""
    with st.container(horizontal=True):
        for text in texts:
            st.button(plain(text), on_click=take, args=(text,), icon=":material/lightbulb:")


@st.cache_data(show_spinner="Looking for examples", max_entries=16)
def questions(key: tuple[str, int], _seen: View) -> list[str]:
    """Return questions that passages learned or keep; of a domain without any, facts' titles."""
    return _mixed(_seen, _questions_of)


@st.cache_data(show_spinner="Looking for examples", max_entries=16)
def prompts(key: tuple[str, int], _seen: View) -> list[str]:
    """Return the beginnings of facts' statements, up to the answers."""
    return _mixed(_seen, _prompts_of)


def _mixed(seen: View, texts_of: Callable[[View, DomainState], list[str]]) -> list[str]:
    """Return texts of the first enabled domains that have some, of each in turn."""
    enabled = (state for state in seen.live.domains if state.is_enabled)
    own = islice(filter(None, (texts_of(seen, state) for state in enabled)), NUM_EXAMPLES)
    texts = filter(None, chain.from_iterable(zip_longest(*own)))
    return list(dict.fromkeys(texts))[:NUM_EXAMPLES]


def _questions_of(seen: View, state: DomainState) -> list[str]:
    from pipelines.loading import load_owns, store_identity  # loads torch

    registry = seen.store.registry
    found = [
        asked[0][0]  # one of each passage: the next is often much like it
        for segment in seen.queries.chain(state.version)
        for own in load_owns(registry, segment, store_identity(registry), ["passages"])
        for item in own.items
        if (asked := (*item.questions, *item.kept))
    ]
    facts = seen.queries.documents(state.domain, state.version, "train", "fact")
    return found or [one.title for one in facts]


def _prompts_of(seen: View, state: DomainState) -> list[str]:
    kept = seen.queries.documents(state.domain, state.version, kind="question")
    texts = [seen.queries.document_text(one) for one in kept[:NUM_EXAMPLES] if one.text_object]
    return [Fact.from_question(text).taught_prompt for text in texts]

"""Headings, formats and explanations of table columns, by the names that tables.py gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

COLUMNS: dict[str, tuple[str, str, str | None]] = {
    "label": ("version", "words", None),
    "title": ("title", "words", None),
    "message": ("message", "wide", None),
    "note": ("note", "wide", None),
    "meaning": ("meaning", "wide", None),
    "change": ("change", "wide", None),
    "promotes": ("promotes", "wide", "The tokens that it makes more likely."),
    "at": ("at (UTC)", "words", None),
    "changed_at": ("changed (UTC)", "words", None),
    "created_at": ("made (UTC)", "words", None),
    "started_at": ("started (UTC)", "words", None),
    "snapshot_id": ("snapshot", "%d", None),
    "num": ("questions", "localized", None),
    "num_texts": ("texts", "localized", "Texts that were learned."),
    "num_facts": ("facts", "localized", "Facts that were learned."),
    "num_held_out": ("held out", "localized", "Texts to measure on, never learned."),
    "num_tokens": ("tokens", "localized", None),
    "num_experts": ("experts", "localized", "In all host layers together."),
    "num_documents": ("documents", "localized", "Learned documents that use it."),
    "size_bytes": ("size", "bytes", "Of the pool on disk."),
    "base_nats": ("loss before", "%.3f", "Of the base alone, nats a token."),
    "nats": ("loss after", "%.3f", "Right after it was learned, nats a token."),
    "base_loss_nats": ("base", "%.3f", "Loss of the base alone, nats a token."),
    "oracle_loss_nats": ("its pool alone", "%.3f", "Loss with its pool, nats a token."),
    "loss_nats": ("loss", "%.3f", "Loss of the mixture, nats a token."),
    "gain_nats": ("gain", "%+.3f", "The base's less the mixture's; positive = learned."),
    "max_added_nats": ("worst document", "%+.4f", "Nats added to a whole document's loss."),
    "reduction": ("reduction", "percent", "Share of the base's loss that the pool removes."),
    "efficiency": ("efficiency", "percent", "Share of the pool's gain in the mixture."),
    "efficiency_continuation": ("after context", "percent", "Efficiency on second halves."),
    "found": ("found", "percent", "Documents in which the router finds the domain."),
    "identical": ("unchanged", "percent", "Documents that get the bare model's own bits."),
    "taught": ("taught", "percent", "Facts answered exactly, asked as they were taught."),
    "paraphrase": ("paraphrased", "percent", "Facts answered exactly, asked otherwise."),
    "base": ("base", "bar", "By the base alone."),
    "routed": ("routed", "bar", "By the branch that the prompt chooses."),
    "oracle": ("oracle", "bar", "By the domain's own pool."),
    "base_probability": ("probability", "bar", None),
    "mixture_probability": ("probability", "bar", None),
    "share": ("share", "bar", "Part of the expert's use."),
    "weight_share": ("share", "percent", "Of its layer's router weight."),
    "effective_documents": ("effective documents", "%.1f", "That it serves, as good as."),
    "weight": ("router weight", "%.3f", None),
    "strength": ("strength", "%.3f", "Length of what it adds to its layer's output."),
    "posterior": ("weight", "bar", "Posterior weight after the text."),
    "evidence": ("evidence", "%+.2f", "Log odds over the base, nats; positive = for it."),
    "score": ("alike", "bar", "Cosine between the experts that both use."),
    "similarity": ("similarity", "%.3f", "Cosine between what both have read."),
}
"""By name: heading, format of its numbers ("bar": a share; "words" and "wide": text), help."""


def _config(name: str) -> Any:
    if name in ("open", "run"):
        shown = ":material/open_in_new:" if name == "open" else r"run=(\w{8})"
        return st.column_config.LinkColumn(name, display_text=shown, help="Opens in a new tab.")
    title, form, told = COLUMNS.get(name, (name.replace("_", " "), "", None))
    if form in ("words", "wide"):
        width: Any = "large" if form == "wide" else None
        return st.column_config.TextColumn(title, help=told, width=width)
    if form == "bar":
        return st.column_config.ProgressColumn(title, format="percent", max_value=1.0, help=told)
    return st.column_config.NumberColumn(title, format=form, help=told) if form else title


def show_table(table: pd.DataFrame, alt: str, *, hide: Sequence[str] = (), **options: Any) -> None:
    """Show a table with the headings of COLUMNS; `alt` tells those who cannot see what it holds."""
    shown = [name for name in table.columns if name not in hide]
    config = {name: _config(name) for name in shown}
    st.dataframe(
        table[shown], hide_index=True, placeholder="–", column_config=config, alt=alt, **options
    )

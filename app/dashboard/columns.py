"""Headings, formats and explanations of table columns, by the names that tables.py gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

_config = st.column_config


def _number(title: str, form: str, told: str | None = None) -> Any:
    return _config.NumberColumn(title, format=form, help=told)


def _words(title: str, told: str | None = None, *, width: Any = None) -> Any:
    return _config.TextColumn(title, help=told, width=width)


def _share(title: str, told: str | None = None, form: str = "percent") -> Any:
    return _config.ProgressColumn(title, format=form, min_value=0.0, max_value=1.0, help=told)


COLUMNS: dict[str, Any] = {
    "open": _config.LinkColumn(
        "open", display_text=":material/open_in_new:", help="Opens in a new tab.", width=50
    ),
    "run": _config.LinkColumn(
        "run", display_text=r"run=(\w{8})", help="Opens in a new tab.", width="small"
    ),
    "label": _words("version"),
    "title": _words("title", width="medium"),
    "message": _words("message", width="large"),
    "note": _words("note", width="large"),
    "meaning": _words("meaning", width="large"),
    "change": _words("change", width="large"),
    "promotes": _words(
        "promotes",
        "The tokens that it makes more likely, read through the unembedding.",
        width="large",
    ),
    "at": _words("at (UTC)"),
    "changed_at": _words("changed (UTC)"),
    "created_at": _words("made (UTC)"),
    "started_at": _words("started (UTC)"),
    "snapshot_id": _number("snapshot", "%d"),
    "num": _number("questions", "localized"),
    "num_texts": _number("texts", "localized", "Texts that were learned."),
    "num_facts": _number("facts", "localized", "Facts that were learned."),
    "num_held_out": _number("held out", "localized", "Texts to measure on, never learned."),
    "num_tokens": _number("tokens", "localized"),
    "num_experts": _number("experts", "localized", "In all host layers together."),
    "num_documents": _number("documents", "localized", "Learned documents that use it."),
    "size_bytes": _number("size", "bytes", "Of the pool on disk."),
    "base_nats": _number("loss before", "%.3f", "Of the base alone, nats a token."),
    "nats": _number("loss after", "%.3f", "Right after it was learned, nats a token."),
    "base_loss_nats": _number("base", "%.3f", "Loss of the base alone, nats a token."),
    "oracle_loss_nats": _number("its pool alone", "%.3f", "Loss with its pool, nats a token."),
    "loss_nats": _number("loss", "%.3f", "Loss of the mixture, nats a token."),
    "gain_nats": _number("gain", "%+.3f", "The base's less the mixture's; positive = learned."),
    "added_nats": _number("whole document", "%+.2f", "Nats added to the whole document's loss."),
    "max_added_nats": _number("worst document", "%+.4f", "Nats added to a whole document's loss."),
    "reduction": _number("reduction", "percent", "Share of the base's loss that the pool removes."),
    "efficiency": _number("efficiency", "percent", "Share of the pool's gain in the mixture."),
    "efficiency_continuation": _number(
        "after context", "percent", "Efficiency on second halves, routed by the first half."
    ),
    "found": _number("found", "percent", "Documents in which the router finds the domain."),
    "identical": _number(
        "unchanged", "percent", "Documents in which nothing is found: the bare model's own bits."
    ),
    "taught": _number("taught", "percent", "Facts answered exactly, asked as they were taught."),
    "paraphrase": _number("paraphrased", "percent", "Facts answered exactly, asked otherwise."),
    "base": _words("base alone"),
    "mixture": _words("with the pools"),
    "base_probability": _share("probability", form="%.3f"),
    "mixture_probability": _share("probability", form="%.3f"),
    "routed": _number("routed", "percent", "By the branch that the prompt chooses."),
    "oracle": _number("oracle", "percent", "By the domain's own pool."),
    "training_loss": _number(
        "training loss", "%.3f", "Mean of the last tenth of the steps; answers weigh more."
    ),
    "validation_loss": _number("validation loss", "%.3f", "The last one, nats a token."),
    "share": _share("share", "Part of the expert's use."),
    "weight_share": _number("share", "percent", "Of its layer's router weight."),
    "effective_documents": _number(
        "effective documents", "%.1f", "Documents that it serves, as good as; few = specific."
    ),
    "weight": _number("router weight", "%.3f"),
    "strength": _number("strength", "%.3f", "Length of what it adds to its layer's output."),
    "posterior": _share("weight", "Posterior weight after the text."),
    "evidence": _number(
        "evidence", "%+.2f", "Log probability of the text less the base's, nats; positive = for it."
    ),
    "score": _share("alike", "Cosine between the experts that both use.", "%.2f"),
    "similarity": _number("similarity", "%.3f", "Cosine between what both have read."),
}


def show_table(table: pd.DataFrame, alt: str, *, hide: Sequence[str] = (), **options: Any) -> Any:
    """Show a table with the headings of COLUMNS.

    Args:
        table: of tables.py.
        alt: what it holds, for people who cannot see it.
        hide: columns to leave out.
        options: further arguments of `st.dataframe`, column_config among them.
    """
    shown = [name for name in table.columns if name not in hide]
    config = {name: COLUMNS.get(name, name.replace("_", " ")) for name in shown}
    config |= options.pop("column_config", {})
    return st.dataframe(
        table[shown], hide_index=True, placeholder="–", column_config=config, alt=alt, **options
    )

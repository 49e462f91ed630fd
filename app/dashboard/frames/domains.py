"""Domains and what belongs to one of them, as tables: versions, corpus, losses, weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.dashboard.addresses import document_address
from app.dashboard.frames.counts import KINDS, kind_in_words
from app.dashboard.frames.learning import (
    TRAINING,
    VALIDATION,
    WINDOW_SHARE,
    end_mean,
    last_validation,
)
from app.output import moment
from app.reading import state_in_words, version_in_words
from app.settings_options import SOURCES, read_settings
from pipelines.documents import composed_text, source_file
from pipelines.probes import holds_rewordings

if TYPE_CHECKING:
    from stores import Document, DomainDetail, DomainSummary

_ID_WORD = 6


def all_domains(summaries: Iterable[DomainSummary]) -> pd.DataFrame:
    """Return one row for every domain that ever was, by name."""
    return pd.DataFrame(
        [
            (
                item.domain,
                state_in_words(item),
                item.label or "",
                item.num_segments,
                item.num_texts,
                item.num_facts,
                item.num_held_out,
                item.num_tokens,
                item.num_experts,
                item.size_bytes,
                item.kept_bytes,
                _day(item.changed_at),
            )
            for item in summaries
        ],
        columns=[
            "domain",
            "state",
            "version",
            "segments",
            "texts",
            "facts",
            "held_out",
            "tokens",
            "experts",
            "size_bytes",
            "kept_bytes",
            "changed",
        ],
    )


def _day(stamp: str) -> str:
    """Return the day of a time: the events have it to the second, where it does not crowd."""
    return moment(stamp)[:10]


def versions(detail: DomainDetail) -> pd.DataFrame:
    """Return one row for every version ever made of a domain, the oldest first."""
    runs = {run.segment_id: run for run in detail.runs}
    live = {segment.id for segment in detail.chain}
    labels = {segment.id: segment.label for segment in detail.versions}
    rows = []
    for segment in detail.versions:
        run = runs.get(segment.id)
        rows.append(
            (
                segment.label,
                segment.id[:12],
                version_in_words(segment, live),
                segment.kind,
                labels.get(segment.parent_id or "", ""),
                segment.num_tokens,
                segment.num_experts,
                segment.size_bytes,
                end_mean([train for _, train, _ in run.losses]) if run else None,
                last_validation(run) if run else None,
                run.seconds if run and run.losses else None,
                _day(segment.created_at),
            )
        )
    columns = [
        "version",
        "id",
        "state",
        "kind",
        "grew on",
        "tokens",
        "experts",
        "size_bytes",
        "end_loss",
        "validation",
        "seconds",
        "made",
    ]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["end_loss", "validation", "seconds"]
    table[numbers] = table[numbers].astype("float64")
    return table


def sources(documents: Iterable[Document], *, limit: int = 500) -> tuple[pd.DataFrame, int]:
    """Return what came from each source, counted, and how many sources there are.

    The splits are those of texts: facts are all learned, and questions are none of them. Rewordings
    are no documents, and count nowhere.

    A row of a jsonl file that names no source has its line for one; here its file stands for it.

    Args:
        documents: a domain's documents.
        limit: at most so many sources, the largest first.
    """
    found = pd.DataFrame(
        [
            (item.source, item.kind, item.split, item.num_tokens)
            for item in documents
            if not holds_rewordings(item)
        ],
        columns=["source", "kind", "split", "tokens"],
    )
    found["source"] = found["source"].map(source_file)
    for split in ("train", "validation", "test"):
        is_text = (found["split"] == split) & (found["kind"] == "text")
        found[split] = is_text.astype("int64")
    for kind, name in KINDS.items():
        found[f"{name}s"] = (found["kind"] == kind).astype("int64")
    found["documents"] = 1
    splits, kinds = ["train", "validation", "test"], [f"{name}s" for name in KINDS.values()]
    table = found.groupby("source", as_index=False)[["documents", *kinds, *splits, "tokens"]].sum()
    table = table.sort_values("documents", ascending=False, ignore_index=True)
    return table.drop(columns="documents").head(limit), len(table)


def documents(
    found: Sequence[Document], *, search: str = "", split: str | None = None, limit: int = 500
) -> tuple[pd.DataFrame, int]:
    """Return the documents that fit, at most so many, and how many fit in all.

    Each has the address of its page in the column "document".

    Args:
        found: a domain's documents.
        search: words of which each must stand in the title or the source, or begin the id.
        split: only these.
        limit: at most so many rows.
    """
    fit = [item for item in fitting(found, search) if split is None or item.split == split]
    rows = [
        (
            document_address(item.document_id),
            item.title,
            item.source,
            item.split,
            kind_in_words(item),
            item.num_tokens,
            item.base_nats,
            item.nats,
        )
        for item in fit[:limit]
    ]
    columns = ["document", "title", "source", "split", "kind", "tokens", "before", "after"]
    table = pd.DataFrame(rows, columns=columns)
    table[["before", "after"]] = table[["before", "after"]].astype("float64")
    return table, len(fit)


def fitting(found: Iterable[Document], search: str) -> list[Document]:
    """Return the documents whose title or source holds each word, or whose id begins with it."""
    words = composed_text(search).casefold().split()
    return [item for item in found if not words or _holds(item, words)]


def _holds(item: Document, words: Sequence[str]) -> bool:
    text = composed_text(f"{item.title} {item.source}").casefold()
    return all(word in text or _begins(item.document_id, word) for word in words)


def _begins(document_id: str, word: str) -> bool:
    """Return whether a word may mean a document's id: shorter ones stand in many by chance."""
    return len(word) >= _ID_WORD and document_id.startswith(word)


def losses(detail: DomainDetail, *, most_runs: int = 8, most_points: int = 300) -> pd.DataFrame:
    """Return the loss by step of the newest runs, training and validation.

    Args:
        detail: of a domain.
        most_runs: at most so many runs, the newest.
        most_points: of each run at most about so many training steps, evenly spaced; validation is
            rarer and all of it is kept.

    Returns: version, step, kind ("training" or "validation"), loss (nats a token) and smoothed, the
        mean of a twentieth of the run's steps around it (of validation the loss itself).
    """
    labels = {segment.id: segment.label for segment in detail.versions}
    runs = [run for run in detail.runs if run.losses][-most_runs:]
    rows: list[tuple[str, int, str, float, float]] = []
    for run in runs:
        label = labels[run.segment_id]
        stride = max(1, len(run.losses) // most_points)
        training = pd.Series([train for _, train, _ in run.losses])
        width = max(1, round(WINDOW_SHARE * len(training)))
        smooth = training.rolling(width, center=True, min_periods=1).mean()
        places = dict.fromkeys([*range(0, len(training), stride), len(training) - 1])
        rows += [
            (label, run.losses[at][0], TRAINING, run.losses[at][1], smooth[at]) for at in places
        ]
        rows += [
            (label, step, VALIDATION, validation, validation)
            for step, _, validation in run.losses
            if validation is not None
        ]
    return pd.DataFrame(rows, columns=["version", "step", "kind", "loss", "smoothed"])


def run_settings(detail: DomainDetail, *, most_runs: int) -> tuple[pd.DataFrame, int]:
    """Return how each version was trained, and how many settings differ from today's defaults.

    Args:
        detail: of a domain.
        most_runs: at most so many runs, the newest.

    Returns: one row a setting, those that differ first: its name, a column for each version ("" for
        what its run did not record), the default of today, and what it means.
    """
    labels = {segment.id: segment.label for segment in detail.versions}
    runs = [run for run in detail.runs if run.config and run.losses][-most_runs:]
    told = {labels[run.segment_id]: _flat(run.config) for run in runs}
    rows = []
    for setting in (item for source in SOURCES for item in read_settings(*source)):
        values = {label: config.get(setting.name) for label, config in told.items()}
        if any(value is not None for value in values.values()):
            differs = any(value not in (None, setting.default) for value in values.values())
            words = {label: _in_words(value) for label, value in values.items()}
            rows.append((differs, setting.name.replace("_", " "), words, setting))
    rows.sort(key=lambda row: not row[0])
    table = pd.DataFrame(
        [
            {"setting": name, **words, "default": _in_words(item.default), "meaning": item.help}
            for _, name, words, item in rows
        ],
        columns=["setting", *told, "default", "meaning"],
    )
    return table, sum(differs for differs, *_ in rows)


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with the shape's among them."""
    shape: dict[str, Any] = config.get("shape", {})
    return config | shape


def _in_words(value: object) -> str:
    """Return a setting's value.

    Example:
        >>> _in_words(0.006), _in_words(1.0), _in_words("bf16"), _in_words(None)
        ('0.006', '1', 'bf16', '')
    """
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def weights(trace: Any) -> pd.DataFrame:
    """Return the weight of the base and of each asked pool at every token of a text.

    Args:
        trace: a `pipelines.tracing.Trace`.

    Returns: place (from 1), token, speaker ("base" or a domain) and weight (0 to 1).
    """
    rows = [
        (place, token.text, speaker, weight)
        for place, token in enumerate(trace.tokens, start=1)
        for speaker, weight in (("base", token.base_weight), *token.weights.items())
    ]
    return pd.DataFrame(rows, columns=["place", "token", "speaker", "weight"])


def tokens(trace: Any, domain: str) -> pd.DataFrame:
    """Return one row a token of a text: the pool's weight, and what base and mixture make of it.

    Args:
        trace: a `pipelines.tracing.Trace`.
        domain: whose pool.
    """
    return pd.DataFrame(
        [
            (
                place,
                token.text,
                token.weights.get(domain, 0.0),
                -token.base_log_prob,
                -token.log_prob,
            )
            for place, token in enumerate(trace.tokens, start=1)
        ],
        columns=["place", "token", "weight", "base_loss", "loss"],
    )

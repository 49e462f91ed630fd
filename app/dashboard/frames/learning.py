"""What a learning curve is read by: the base's losses, where the facts end, and its end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from stores import Document, DomainDetail, Run

TRAINING, VALIDATION = "training", "validation"
WINDOW_SHARE = 0.05
"""Of a run's steps: the strong training line is a mean over so many."""
END_SHARE = 0.1
"""Of a run's steps: its end is a mean over so many, since one step's loss hangs on what it read."""

WEIGHTED = "Answers of facts weigh more in a step's loss, so it goes up and down with what is read."


def end_mean(losses: Sequence[float]) -> float | None:
    """Return the mean of the last tenth of a run's losses, or None where there are none.

    Example:
        >>> end_mean([9.0] * 18 + [2.0, 4.0]), end_mean([5.0, 3.0]), end_mean([])
        (3.0, 3.0, None)
    """
    if not losses:
        return None
    last = losses[-max(1, round(END_SHARE * len(losses))) :]
    return sum(last) / len(last)


def last_validation(run: Run) -> float | None:
    """Return a run's last loss on validation texts, nats a token; None: none was held out."""
    return next((nats for _, _, nats in reversed(run.losses) if nats is not None), None)


def base_losses(
    detail: DomainDetail, documents: Sequence[Document], test_nats: float | None
) -> pd.DataFrame:
    """Return what the base alone loses on what the live runs read, and on held-out texts.

    Args:
        detail: of a domain.
        documents: of its live version.
        test_nats: of the base on the domain's test texts, as the newest evaluation has it; the
            validation texts, which are of the same kind, are not scored without the pool.

    Returns: version ("" for the held-out texts), kind ("training" or "validation") and loss (nats
        a token). A document counts by its tokens and by how often its run read it.
    """
    labels = {segment.id: segment.label for segment in detail.chain}
    configs = {run.segment_id: run.config for run in detail.runs}
    sums: dict[str, float] = defaultdict(float)
    weights: dict[str, float] = defaultdict(float)
    for item in documents:
        if item.base_nats is not None and item.split == "train":
            passes = configs.get(item.segment_id, {}).get(f"{item.kind}_passes", 1.0)
            sums[item.segment_id] += passes * item.num_tokens * item.base_nats
            weights[item.segment_id] += passes * item.num_tokens
    rows = [(labels[key], TRAINING, sums[key] / weights[key]) for key in sums if weights[key]]
    if rows and test_nats is not None:
        rows.append(("", VALIDATION, test_nats))
    return pd.DataFrame(rows, columns=["version", "kind", "loss"])


def fact_ends(detail: DomainDetail, documents: Sequence[Document]) -> pd.DataFrame:
    """Return after about which step each live run reads texts alone: version, step.

    Args:
        detail: of a domain.
        documents: of its live version.
    """
    labels = {segment.id: segment.label for segment in detail.chain}
    tokens: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in documents:
        if item.split == "train":
            tokens[item.segment_id][item.kind] += item.num_tokens
    rows = []
    for run in detail.runs:
        if run.segment_id in labels:
            step = fact_end(run.config, tokens[run.segment_id], run.losses)
            rows += [(labels[run.segment_id], step)] if step is not None else []
    return pd.DataFrame(rows, columns=["version", "step"])


def fact_end(
    config: Mapping[str, Any], tokens: Mapping[str, int], losses: Sequence[Any]
) -> int | None:
    """Return after about which step a run reads texts alone, or None where it never does.

    Readings are spread evenly (`pipelines.batches.plan_steps`): n whole passes end together, and
    where a part of the texts is read once more, that part's readings go on beyond. So the curve
    rises there, though nothing is unlearned: facts, which are read often, are cheap by then.

    Args:
        config: the run's settings.
        tokens: of texts and of facts that were learned.
        losses: of the run, one a step.

    Example:
        >>> said = {"text_passes": 1.5, "fact_passes": 10.0, "least_steps": 30, "validations": 0}
        >>> fact_end(said, {"text": 4000, "fact": 400}, [0.0] * 100)
        90
        >>> fact_end(said, {"text": 4000}, [0.0] * 100) is None
        True
    """
    names = ("text_passes", "fact_passes", "least_steps", "validations")
    if not all(name in config for name in names) or not tokens.get("fact"):
        return None
    text_passes, fact_passes = float(config["text_passes"]), float(config["fact_passes"])
    part, is_whole = text_passes % 1, fact_passes % 1 == 0
    num_validations = sum(nats is not None for *_, nats in losses) if config["validations"] else 0
    was_stopped = 0 < num_validations < config["validations"]
    was_raised = len(losses) <= config["least_steps"]  # read more often than the settings say
    if not part or not is_whole or was_stopped or was_raised:
        return None
    after = tokens.get("text", 0) * part * (1 - part)
    every = tokens.get("text", 0) * text_passes + tokens["fact"] * fact_passes
    step = math.floor(len(losses) * (1 - after / every))
    return step if 0 < step < len(losses) else None

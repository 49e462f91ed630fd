"""The rows that a corpus is trained on, and when: the same for an ingest and for its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.batches import Row, plan_steps
from pipelines.fact_rows import read_times, varied_rows, with_answers
from pipelines.rewordings import reworded_rows

if TYPE_CHECKING:
    from pipelines.preparing import Learned
    from pipelines.settings import TrainingSettings


def training_rows(
    tokenizer: Any, learned: Learned, settings: TrainingSettings
) -> tuple[list[Row], list[Row]]:
    """Return the documents themselves as rows, and what is read besides, in other words.

    Args:
        tokenizer: the base's; its end token closes each row, where it has one.
        learned: the corpus.
        settings: how long a row is, and how much is read in other words.
    """
    end_id = tokenizer.eos_token_id
    rows = with_answers(
        tokenizer, learned.rows("train", settings.max_tokens, end_id), learned.facts
    )
    texts = [document.text for document in learned.of("train", ("text",))]
    varied = varied_rows(tokenizer, learned.facts, texts, settings, end_id)
    return rows, [*varied, *reworded_rows(tokenizer, learned, settings, end_id)]


def planned_steps(rows: Sequence[Row], settings: TrainingSettings) -> list[list[int]]:
    """Return which rows each step of a run reads; the plan depends on these and the seed alone."""
    times, width = read_times(settings), settings.tokens_per_step
    return plan_steps(rows, times, width, settings.seed, settings.least_steps)

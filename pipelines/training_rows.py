"""The rows that a corpus is trained on: the same for an ingest and for its rivals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.batches import Row
from pipelines.fact_rows import varied_rows, with_answers
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

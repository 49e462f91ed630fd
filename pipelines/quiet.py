"""Libraries' own bars and notices are silenced: they would tear our progress apart."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.memory import keep_freed_memory

QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What the environment says where the user's own settings, which win, do not."""


def quieten() -> None:
    """Quieten libraries; before they are imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("transformers")
    if loaded is not None:  # imported before, it has read the environment already
        loaded.utils.logging.disable_progress_bar()


@contextmanager
def errors_alone(*names: str) -> Iterator[None]:
    """Let these loggers tell errors alone inside, and what they told before afterwards."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def get_ready() -> None:
    """Quieten libraries, and let the C library keep freed memory, for a process that trains."""
    quieten()
    keep_freed_memory()

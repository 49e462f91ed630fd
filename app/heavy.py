"""What verbs that run the model do before they import it."""

from __future__ import annotations

import os
import sys

QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Libraries' own bars and notices would tear our progress apart; the user's settings win."""


def get_ready() -> None:
    """Quieten libraries, and let the C library keep freed memory."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("transformers")
    if loaded is not None:  # imported before, it has read the environment already
        loaded.utils.logging.disable_progress_bar()
    from pipelines.memory import keep_freed_memory

    keep_freed_memory()

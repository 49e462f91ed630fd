"""Data sets by name: of the Hugging Face hub, or a folder that `datasets` wrote or can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError

PREFIX = "hf:"


def load_rows(name: str, split: str | None) -> tuple[list[Any], str]:
    """Return the rows of a split, and what the dataset is called.

    Args:
        name: "hf:NAME" or "hf:NAME:CONFIG", where NAME is a name on the hub or a folder.
        split: its name, maybe with the first N rows alone, as in "train[:100]"; None: the only one,
            or "train".

    Raises: CorpusError: when there is no such dataset, configuration or split.
    """
    from datasets import load_dataset, load_from_disk

    path, _, config = name.removeprefix(PREFIX).partition(":")
    wanted = re.fullmatch(r"(\w[\w.-]*)(?:\[:(\d+)\])?", split or "train")
    if wanted is None:
        raise CorpusError(f"--split is NAME or NAME[:N], as train[:100], not {split!r}")
    side, first = wanted.groups()
    try:
        if any(Path(path, one).exists() for one in ("state.json", "dataset_dict.json")):
            splits = load_from_disk(path)
        else:
            splits = load_dataset(path, config or None, streaming=True)
        if not isinstance(splits, dict):  # saved without splits
            splits = {"train": splits}
        if split is None and len(splits) == 1:
            side = next(iter(splits))
        if side in splits:
            rows = splits[side]
            return [*(rows.take(int(first)) if first else rows)], Path(path).name
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CorpusError(f"dataset {name} cannot be read: {reason}") from None
    raise CorpusError(f"dataset {name} has no split {side!r}; it has {', '.join(splits)}")

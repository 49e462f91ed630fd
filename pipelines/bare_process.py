"""The bare base model in a process of its own: what equal bits are measured against."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from peer_cl.errors import DamageError
from peer_cl.model import PeerModel
from pipelines import bare_logits


def run_bare(
    source: str,
    rows: Sequence[Sequence[int]],
    attention: str | None,
    calls: Sequence[str] = bare_logits.CALLS,
) -> list[dict[str, str]]:
    """Return what the bare model says in a fresh process that loads nothing of this project.

    Args:
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        attention: the attention implementation.
        calls: which of `bare_logits.CALLS` to measure.

    Raises:
        DamageError: when the process fails, or had this project's code loaded.
    """
    wanted = {
        "source": source,
        "rows": [list(row) for row in rows],
        "num_threads": torch.get_num_threads(),
        "attention": attention,
        "calls": list(calls),
    }
    # -P keeps the script's own folder, which is this package, off the path.
    ran = subprocess.run(
        [sys.executable, "-P", str(Path(bare_logits.__file__))],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise DamageError(f"the bare model's process failed ({ran.returncode}): {last}")
    told: dict[str, Any] = json.loads(ran.stdout)
    if told["loaded"]:
        raise DamageError(f"the bare process had {', '.join(told['loaded'])} loaded: no proof")
    measured: list[dict[str, str]] = told["measured"]
    return measured


def equal_to_bare(model: PeerModel, source: str, rows: Sequence[Sequence[int]]) -> list[bool]:
    """Return for each text, given whole as a context, whether its logits are the bare model's bits.

    Args:
        model: the model with its pools; the shortlist decides which of them are asked.
        source: what transformers loads as the bare model.
        rows: token ids of texts.

    Raises:
        DamageError: when the bare model's process fails.
    """
    if not rows:
        return []
    bare = run_bare(source, rows, model.base.config._attn_implementation, ("alone",))
    ours = bare_logits.measure(
        lambda **inputs: model(ask="context", **inputs), model.generate, rows, ("alone",)
    )
    return [told == expected for told, expected in zip(ours, bare, strict=True)]

"""The bare base model in a process of its own: what equal bits are measured against."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from peer_cl.errors import DamageError
from peer_cl.model import PeerModel
from pipelines import bare_logits
from pipelines.progress import Progress, no_progress


def run_bare(
    source: str,
    rows: Sequence[Sequence[int]],
    attention: str | None,
    calls: Sequence[str] = bare_logits.CALLS,
    done: Callable[[], None] = lambda: None,
) -> list[dict[str, str]]:
    """Return what the bare model says in a fresh process that loads nothing of this project.

    Args:
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        attention: the attention implementation.
        calls: which of `bare_logits.CALLS` to measure.
        done: called after each text.

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
    command = [sys.executable, "-P", str(Path(bare_logits.__file__))]
    answer = ""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as errors:
        json.dump(wanted, given)
        given.seek(0)
        with subprocess.Popen(
            command, stdin=given, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            for line in process.stdout or ():
                if line == "done\n":
                    done()
                else:
                    answer += line
        if process.returncode != 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no message"])[-1]
            raise DamageError(f"the bare model's process failed ({process.returncode}): {last}")
    told: dict[str, Any] = json.loads(answer)
    if told["loaded"]:
        raise DamageError(f"the bare process had {', '.join(told['loaded'])} loaded: no proof")
    measured: list[dict[str, str]] = told["measured"]
    return measured


def equal_to_bare(
    model: PeerModel,
    source: str,
    rows: Sequence[Sequence[int]],
    progress: Progress = no_progress,
) -> list[bool]:
    """Return for each text, given whole as a context, whether its logits are the bare model's bits.

    Args:
        model: the model with its pools; the shortlist decides which of them are asked.
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        progress: told how far it is.

    Raises:
        DamageError: when the bare model's process fails.
    """
    if not rows:
        return []
    readings = count(1)  # each text is read twice: by the bare model and by ours

    def done() -> None:
        progress("comparing bits with the bare model", next(readings), 2 * len(rows), "")

    progress("comparing bits with the bare model", 0, 2 * len(rows), f"{len(rows)} documents")
    bare = run_bare(source, rows, model.base.config._attn_implementation, ("alone",), done)
    ours = bare_logits.measure(
        lambda **inputs: model(ask="context", **inputs), model.generate, rows, ("alone",), done
    )
    return [told == expected for told, expected in zip(ours, bare, strict=True)]

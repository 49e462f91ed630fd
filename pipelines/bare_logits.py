"""What a model makes of some texts, as hashes of its logits' bytes.

Run as a file in a process of its own (`python -P bare_logits.py`), it measures the bare base model
with transformers alone, and reports which of this project's packages are loaded there (none may
be). `run_bare` starts that process; `measure` does the same with any model.

The process reads a JSON object on stdin: source, rows, num_threads, attention, calls. On stdout it
writes the line "done" for each text, and then a JSON object.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("peer_cl", "stores", "pipelines", "app")
"""Must not be loaded in the bare process."""
CALLS = ("alone", "in a batch", "writing")
"""What can be measured of a text: alone, in a padded batch, and its continuation."""
NEW_TOKENS = 4
"""Tokens that continue each text."""


def bits(logits: torch.Tensor) -> str:
    """Return a hash over a tensor's type, shape and bytes."""
    about = f"{logits.dtype} {tuple(logits.shape)} ".encode()
    return hashlib.sha256(about + logits.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


@torch.no_grad()
def measure(
    forward: Callable[..., Any],
    generate: Callable[..., Any],
    rows: Sequence[Sequence[int]],
    calls: Sequence[str] = CALLS,
    done: Callable[[], None] = lambda: None,
) -> list[dict[str, str]]:
    """Return for each text the bits of each call.

    Args:
        forward: called as a causal language model is.
        generate: called as its `generate` is.
        rows: token ids of each text.
        calls: which of CALLS to measure.
        done: called after each text.
    """
    measured: list[dict[str, str]] = [{} for _ in rows]
    if "in a batch" in calls:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        together = forward(input_ids=ids, attention_mask=mask).logits
        for found, row, batched in zip(measured, rows, together, strict=True):
            found["in a batch"] = bits(batched[: len(row)])
    for found, row in zip(measured, rows, strict=True):
        prompt = torch.tensor([row])
        if "alone" in calls:
            found["alone"] = bits(forward(input_ids=prompt).logits)
        if "writing" in calls:
            found["writing"] = _continuation_bits(generate, prompt)
        done()
    return measured


def run_bare(
    source: str,
    rows: Sequence[Sequence[int]],
    attention: str | None,
    calls: Sequence[str] = CALLS,
    done: Callable[[], None] = lambda: None,
) -> list[dict[str, str]]:
    """Return what the bare model makes of texts in a fresh process without this project's code.

    Args:
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        attention: the attention implementation.
        calls: which of `CALLS` to measure.
        done: called after each text.

    Raises:
        DamageError: when the process fails, or had this project's code loaded.
    """
    from peer_cl.errors import DamageError  # which the bare process itself must not load

    wanted = {
        "source": source,
        "rows": [list(row) for row in rows],
        "num_threads": torch.get_num_threads(),
        "attention": attention,
        "calls": list(calls),
    }
    # -P keeps the script's own folder, which is this package, off the path.
    command = [sys.executable, "-P", str(Path(__file__))]
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
    found: dict[str, Any] = json.loads(answer)
    if found["loaded"]:
        raise DamageError(f"the bare process had {', '.join(found['loaded'])} loaded: no proof")
    measured: list[dict[str, str]] = found["measured"]
    return measured


def equal_to_bare(
    model: Any,
    source: str,
    rows: Sequence[Sequence[int]],
    done: Callable[[], None] = lambda: None,
) -> list[bool]:
    """Return for each text, given whole as a prompt, whether its logits are the bare model's bits.

    Args:
        model: a `PeerModel`; its router decides which domains are active.
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        done: called twice a text: after the bare model read it, and after ours did.

    Raises:
        DamageError: when the bare model's process fails.
    """
    if not rows:
        return []
    bare = run_bare(source, rows, model.config._attn_implementation, ("alone",), done)
    ours = measure(
        lambda **inputs: model(routing="prompt", **inputs), model.generate, rows, ("alone",), done
    )
    return [found == expected for found, expected in zip(ours, bare, strict=True)]


def _continuation_bits(generate: Callable[..., Any], prompt: torch.Tensor) -> str:
    written = generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=int(prompt[0, 0]),
        return_dict_in_generate=True,
        output_logits=True,
    )
    return bits(torch.stack(written.logits))


def _print_done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


def _main() -> None:
    import transformers

    wanted = json.load(sys.stdin)
    torch.set_num_threads(wanted["num_threads"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        wanted["source"],
        dtype=torch.float32,
        attn_implementation=wanted["attention"],
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
    measured = measure(model, model.generate, wanted["rows"], wanted["calls"], _print_done)
    loaded = [name for name in PACKAGES if name in sys.modules]
    json.dump({"loaded": loaded, "measured": measured}, sys.stdout)


if __name__ == "__main__":
    _main()

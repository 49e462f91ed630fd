"""What a model says of some texts, as hashes of its logits' bytes.

Run as a file in a process of its own (`python -P bare_logits.py`), it measures the bare base model
with transformers alone and refuses to go on where this project's code is loaded. `verify` calls
`measure` on the model with pools and compares.

It reads a JSON object on stdin: source, rows, num_threads, attention, calls. On stdout it writes
the line "done" for each text, and then a JSON object.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

FORBIDDEN = ("peer_cl", "stores", "pipelines", "app")
"""Packages that the bare process must not have loaded."""
CALLS = ("alone", "in a batch", "writing")
"""What can be measured of a text: alone, in a padded batch, and written on from."""
NEW_TOKENS = 4
"""Tokens that are written on from each text."""


def bits(logits: torch.Tensor) -> str:
    """Return a hash over a tensor's type, shape and bytes."""
    about = f"{logits.dtype} {tuple(logits.shape)} ".encode()
    return hashlib.sha256(about + logits.detach().contiguous().numpy().tobytes()).hexdigest()


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
        for told, row, batched in zip(measured, rows, together, strict=True):
            told["in a batch"] = bits(batched[: len(row)])
    for told, row in zip(measured, rows, strict=True):
        prompt = torch.tensor([row])
        if "alone" in calls:
            told["alone"] = bits(forward(input_ids=prompt).logits)
        if "writing" in calls:
            told["writing"] = _written_bits(generate, prompt)
        done()
    return measured


def _written_bits(generate: Callable[..., Any], prompt: torch.Tensor) -> str:
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
    loaded = [name for name in FORBIDDEN if name in sys.modules]
    json.dump({"loaded": loaded, "measured": measured}, sys.stdout)


if __name__ == "__main__":
    _main()

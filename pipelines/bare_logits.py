"""What a model makes of some texts, as hashes of its logits' bytes.

Run as a file in a process of its own (`python -P bare_logits.py`), it measures the bare base model
with transformers alone, and reports which of this project's packages are loaded there (none may
be). `run_bare` starts that process; `measure` does the same with any model.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("peer_cl", "stores", "pipelines", "app")
"""Must not be loaded in the bare process."""


def bits(logits: torch.Tensor) -> str:
    """Return a hash over a tensor's type, shape and bytes."""
    about = f"{logits.dtype} {tuple(logits.shape)} ".encode()
    whole = logits.detach().cpu().contiguous().view(torch.uint8)  # NumPy has no bf16
    return hashlib.sha256(about + whole.numpy().tobytes()).hexdigest()


@torch.no_grad()
def measure(
    forward: Callable[..., Any],
    rows: Sequence[Sequence[int]],
    generate: Callable[..., Any] | None = None,
    device: str = "cpu",
) -> list[dict[str, str]]:
    """Return for each text, given as token ids, the bits of its logits by how it is read.

    Each is read alone; where `generate` is given, also in a padded batch and with a continuation,
    whose greedy tokens stand there, too. Ids are given on `device`.
    """

    def tensor(values: Any) -> torch.Tensor:
        return torch.tensor(values, device=device)

    measured = [{"alone": bits(forward(input_ids=tensor([row])).logits)} for row in rows]
    if generate is None:
        return measured
    width = max(len(row) for row in rows)
    ids = tensor([[*row, *[row[0]] * (width - len(row))] for row in rows])
    mask = tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    together = forward(input_ids=ids, attention_mask=mask).logits
    for found, row, batched in zip(measured, rows, together, strict=True):
        found["in a batch"] = bits(batched[: len(row)])
        prompt = tensor([row])
        written = generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=row[0],
            return_dict_in_generate=True,
            output_logits=True,
        )
        found["writing"] = bits(torch.stack(written.logits))
        found["greedy tokens"] = " ".join(map(str, written.sequences[0].tolist()))
    return measured


def run_bare(
    source: str,
    rows: Sequence[Sequence[int]],
    model: Any,
    *,
    generates: bool = True,
    device: str = "",
) -> list[dict[str, str]]:
    """Return `measure` of the bare model, in a fresh process without this project's code.

    `source` is what transformers loads, in the dtype, with the attention and, unless a `device` is
    given, on the device of `model`.

    Raises: DamageError: when the process fails, or had this project's code loaded.
    """
    from peer_cl.errors import DamageError  # which the bare process itself must not load

    wanted = {
        "source": source,
        "rows": [list(row) for row in rows],
        "num_threads": torch.get_num_threads(),
        "attention": model.config._attn_implementation,
        "dtype": str(model.base.dtype).removeprefix("torch."),
        "generates": generates,
        "device": device or str(model.device),
        "is_int8": any(hasattr(one, "__tensor_flatten__") for one in model.base.parameters()),
    }
    # -P keeps the script's own folder, which is this package, off the path.
    command = [sys.executable, "-P", str(Path(__file__))]
    done = subprocess.run(
        command, input=json.dumps(wanted), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DamageError(f"the bare model's process failed ({done.returncode}): {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["loaded"]:
        raise DamageError(f"the bare process had {', '.join(found['loaded'])} loaded: no proof")
    measured: list[dict[str, str]] = found["measured"]
    return measured


def equal_to_bare(model: Any, source: str, rows: Sequence[Sequence[int]]) -> list[bool]:
    """Return for each text, given whole as a prompt, whether its logits are the bare model's bits.

    The router of the model, a `PeerModel`, decides which domains are active.
    """
    if not rows:
        return []
    bare = run_bare(source, rows, model, generates=False)
    ours = measure(lambda **inputs: model(routing="prompt", **inputs), rows)
    return [found == expected for found, expected in zip(ours, bare, strict=True)]


def _main() -> None:
    import transformers

    wanted = json.load(sys.stdin)
    torch.set_num_threads(wanted["num_threads"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    quantised = {}
    if wanted["is_int8"]:
        from torchao.quantization import Int8WeightOnlyConfig

        quantised["quantization_config"] = transformers.TorchAoConfig(Int8WeightOnlyConfig())
    model = transformers.AutoModelForCausalLM.from_pretrained(
        wanted["source"],
        dtype=getattr(torch, wanted["dtype"]),
        attn_implementation=wanted["attention"],
        trust_remote_code=False,
        use_safetensors=True,
        **quantised,
    ).eval()
    model.to(wanted["device"])
    generate = model.generate if wanted["generates"] else None
    measured = measure(model, wanted["rows"], generate, wanted["device"])
    loaded = [name for name in PACKAGES if name in sys.modules]
    json.dump({"loaded": loaded, "measured": measured}, sys.stdout)


if __name__ == "__main__":
    _main()

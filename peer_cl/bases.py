"""Which pretrained model stands underneath, and how it is known again.

A base is anything that `AutoModelForCausalLM` loads: a folder, or an id on a hub. It may be
anybody's, so none of its code is run and nothing of it is unpickled: weights are safetensors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from peer_cl.errors import InputError
from peer_cl.pool import BaseIdentity, dtype_name, tensors_sha256

_OFFLINE = "couldn't connect to"
"""What transformers says where the hub cannot be reached, or is not to be."""


@dataclass(frozen=True)
class Base:
    """A loaded base model with its tokenizer and identity."""

    name: str
    """The folder or hub id that it came from."""
    model: Any
    """The causal language model, in eval mode."""
    tokenizer: Any
    """Its tokenizer."""
    identity: BaseIdentity
    """The hashes of both."""


def reason_of(error: Exception) -> str:
    """Return the kind and the words of an error of transformers or below it, in one short line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:300]


def load_base(source: str, *, dtype: torch.dtype = torch.float32) -> Base:
    """Return the pretrained model and tokenizer in a folder or under a hub id.

    Args:
        source: a folder, or an id such as "HuggingFaceTB/SmolLM2-135M".
        dtype: of the weights; every promise about bits holds for one dtype at a time.

    Raises:
        InputError: when nothing can be loaded from there, the loader's own words follow; when
            weights are missing, pickled or of another model; when the tokenizer is one of another
            model; when the base wants code of its own to be run.
    """
    if not source.strip():
        raise InputError("no base is named; give a base model's folder, or a hub id")
    is_folder = Path(source).is_dir()
    if not is_folder and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise InputError(f"there is no folder {source}; give a base model's folder, or a hub id")
    if is_folder:
        _check_not_pickled(Path(source))
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # for damaged files its libraries raise errors of a dozen kinds
        if "trust_remote_code" in str(error):
            raise InputError(
                f"the base model in {source!r} wants Python code of its own to be run, and none is "
                "run here: give a base whose architecture transformers has itself"
            ) from error
        what_to_give = (
            "give a folder with safetensors weights and a tokenizer, or a hub id that this machine "
            "can reach"
        )
        if not is_folder and _OFFLINE in str(error):
            raise InputError(
                f"there is no folder {source!r}, and no model of that name in the cache (the hub "
                f"was not reached); {what_to_give}"
            ) from error
        what = (
            f"no base model can be loaded from {source!r}"
            if is_folder
            else f"there is no folder {source!r}, and as a hub id it cannot be loaded"
        )
        raise InputError(f"{what}: {reason_of(error)}; {what_to_give}") from error
    _check_whole(source, told)
    _check_vocabulary(source, model, tokenizer)
    model.eval()
    return Base(source, model, tokenizer, identify(model, tokenizer))


def _check_not_pickled(folder: Path) -> None:
    """Refuse a folder whose weights are pickles alone: loading those may run what is in them."""
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"the weights in {str(folder)!r} are pickled ({pickled[0]}), and nothing is unpickled "
            "here; where you trust them, write them as safetensors with transformers: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
        )


def _check_whole(source: str, told: dict[str, Any]) -> None:
    """Refuse weights that transformers made up: they would be others at the next load.

    Args:
        source: where the base came from.
        told: what transformers tells of a load.
    """
    for name, stored, wanted in sorted(told["mismatched_keys"]):
        raise InputError(
            f"the weights in {source!r} are not of the model in its config.json: {name} has shape "
            f"{tuple(stored)}, not {tuple(wanted)}; put the files of one model there"
        )
    missing = sorted(told["missing_keys"])
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"the weights in {source!r} lack {', '.join(missing[:3])}{more}, which would be made "
            "up at random: give a language model with its head, all files of it"
        )


def _check_vocabulary(source: str, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that gives ids which the model has no embedding for."""
    rows = model.get_input_embeddings().weight.shape[0]
    ends = (tokenizer.eos_token, tokenizer.bos_token)
    # A token that only pads is never read, and some tokenizers got one beyond the embedding.
    ids = [
        token_id
        for token, token_id in tokenizer.get_vocab().items()
        if token != tokenizer.pad_token or token in ends
    ]
    if max(ids, default=0) >= rows:
        raise InputError(
            f"the tokenizer in {source!r} has ids up to {max(ids)}, but the model's embedding has "
            f"{rows} rows: put the tokenizer there that the model was trained with"
        )


def identify(model: Any, tokenizer: Any | None) -> BaseIdentity:
    """Return the hashes that a pool or a store remembers its base by.

    Args:
        model: a loaded model; every parameter and persistent buffer is hashed by name.
        tokenizer: its tokenizer, or None where there is none (tests on random models).
    """
    found, *others = tokenizer_hashes(tokenizer)
    return BaseIdentity(
        tensors_sha256(model.state_dict()), found, frozenset(others), dtype_name(model)
    )


def context_length(model: Any) -> int | None:
    """Return how many tokens a base reads at most; None where its config names no end.

    Args:
        model: a causal language model of transformers.
    """
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "max_seq_len"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return None


def within_context(model: Any, num_tokens: int) -> int:
    """Return a number of tokens, or the base's context where that is shorter.

    Past its context a base with learned positions fails, and others say what they never learned.

    Args:
        model: a causal language model of transformers.
        num_tokens: how many are wanted.
    """
    return min(num_tokens, context_length(model) or num_tokens)


def tokenizer_hashes(tokenizer: Any | None) -> tuple[str, ...]:
    """Return the hashes by which a tokenizer may be known: the one of today first.

    It is over what a tokenizer does: its model, vocabulary and special tokens. Padding and
    truncation are left out: they are settings of a call, not of the tokenizer. Before, the padding
    token was not, and stores and pools of then remember that hash.
    """
    if tokenizer is None:
        return (hashlib.sha256(b"").hexdigest(),)
    special = {str(key): str(value) for key, value in tokenizer.special_tokens_map.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        about = json.loads(backend.to_str())
        about.pop("padding", None)
        about.pop("truncation", None)
    else:
        about = tokenizer.get_vocab()
    unpadded = {key: value for key, value in special.items() if key != "pad_token"}
    told = [
        hashlib.sha256(
            json.dumps([about, tokens], sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()
        for tokens in (unpadded, special)
    ]
    return tuple(dict.fromkeys(told))


def start_token_id(tokenizer: Any) -> int:
    """Return the token that stands before a document's first one.

    A tokenizer that adds one itself decides; otherwise it is the separator of pretraining, which
    models without a begin token call end-of-text.

    Raises:
        InputError: when the tokenizer has no special token at all.
    """
    ids = tokenizer("a").input_ids
    if ids and ids[0] in tokenizer.all_special_ids:
        return int(ids[0])
    separator = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    if isinstance(separator, int) and separator in tokenizer.all_special_ids:
        return separator
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token_id is not None:
            return int(token_id)
    raise InputError("the tokenizer has no begin, end or separator token to start a document with")

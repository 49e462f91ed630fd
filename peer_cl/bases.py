"""The pretrained model underneath: loading it, and recognising it again.

A base is anything that `AutoModelForCausalLM` loads: a folder, or an id on a hub. None of its own
code is run and nothing of it is unpickled: weights are safetensors.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

from peer_cl.devices import AUTO, pick_device
from peer_cl.errors import BaseMismatchError, DamageError, InputError

INT8 = "int8"
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    INT8: torch.bfloat16,
}
"""In which a base may be loaded, and computes; experts are trained in fp32, whatever the base is.
With int8 the weights of its linear layers are kept in 8 bits (torchao)."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model something was made for."""

    weights_sha256: str
    """Hash over every tensor of the base, by name."""
    tokenizer_sha256: str = ""
    """Hash over the tokenizer; empty where there is none."""

    def check(self, other: BaseIdentity, what: str) -> None:
        """Raise BaseMismatchError, with both hashes, when `what` was made for another base."""
        for kind in ("weights", "tokenizer"):
            ours, theirs = getattr(self, f"{kind}_sha256"), getattr(other, f"{kind}_sha256")
            if ours != theirs:
                raise BaseMismatchError(
                    f"{what} was made for a base whose {kind} hash to {theirs[:16] or 'nothing'}, "
                    f"this one's hash to {ours[:16] or 'nothing'}: load the base and tokenizer "
                    "that it was made with, in the same dtype"
                )


@dataclass(frozen=True)
class Base:
    """A loaded base model, in eval mode, with its tokenizer and identity."""

    name: str
    """The folder or hub id that it came from."""
    model: Any
    tokenizer: Any
    hashed: Future[BaseIdentity] = field(repr=False)

    @property
    def identity(self) -> BaseIdentity:
        """Its hashes; a thread takes them, and this waits for it."""
        return self.hashed.result()


def load_base(source: str, *, dtype: str = "fp32", device: str = AUTO) -> Base:
    """Return the pretrained model and tokenizer in a folder or under a hub id.

    Every promise about bits holds for one dtype on one device.

    Args:
        source: the folder or hub id. A quantised checkpoint is loaded as it is.
        dtype: in which the model is loaded, one of DTYPES.
        device: where it lies, as for `peer_cl.devices.pick_device`.

    Raises:
        InputError: when nothing can be loaded from there (the loader's own words follow), weights
            are missing or of another model, the tokenizer is another model's, there is no such
            device or dtype, or a library for it is not installed.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    place, quantised = pick_device(device), _quantisation() if dtype == INT8 else {}
    is_folder = Path(source).is_dir()
    if not source.strip() or (source.startswith((".", "/", "~")) and not is_folder):
        raise InputError(f"there is no folder {source!r}; give a base model's folder, or a hub id")
    thread = ThreadPoolExecutor(1)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES[dtype],
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            **quantised,
        )
        # It takes a second. What is hashed is picked here: the model may be moved meanwhile.
        weights_sha256 = thread.submit(tensors_sha256, model.state_dict())
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the libraries below raise a dozen kinds for damaged files
        where = "" if is_folder else ", which is no folder, as a hub id"
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
        raise InputError(
            f"no base model can be loaded from {source!r}{where}: {reason}; give a folder with "
            "safetensors weights and a tokenizer, or a hub id that this machine can reach"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"the weights in {source!r} lack {', '.join(missing[:3])}{more}, which would be drawn "
            "at random: give a language model with its head, all files of it"
        )
    num_known = model.get_input_embeddings().weight.shape[0]
    # A token that only pads is never read, and some tokenizers got one beyond the embedding.
    ids = [
        token_id
        for token, token_id in tokenizer.get_vocab().items()
        if token != tokenizer.pad_token or token in (tokenizer.eos_token, tokenizer.bos_token)
    ]
    if max(ids, default=0) >= num_known:
        raise InputError(
            f"the tokenizer in {source!r} has ids up to {max(ids)}, the model's embedding "
            f"{num_known} rows: put the tokenizer there that the model was trained with"
        )
    model.eval()
    hashed = thread.submit(
        lambda: BaseIdentity(weights_sha256.result(), _tokenizer_sha256(tokenizer))
    )
    if model.device.type != place.type or place.index is not None:  # some refuse to be moved
        model.to(place)
    return Base(source, model, tokenizer, hashed)


def _quantisation() -> dict[str, Any]:
    """Return what makes transformers keep the weights of linear layers in 8 bits."""
    try:
        from torchao.quantization import Int8WeightOnlyConfig
    except ImportError as error:
        raise InputError(f"int8 needs torchao ({error}): pip install 'peer-cl[int8]'") from error
    return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}


def identify(model: Any, tokenizer: Any | None = None) -> BaseIdentity:
    """Return the hashes by which a pool or a store recognises its base.

    Every parameter and persistent buffer of the model is hashed by name, and of the tokenizer its
    model, vocabulary and special tokens. Padding and truncation are settings of a call.
    """
    weights_sha256 = tensors_sha256(model.state_dict())
    return BaseIdentity(weights_sha256, "" if tokenizer is None else _tokenizer_sha256(tokenizer))


def _tokenizer_sha256(tokenizer: Any) -> str:
    special = {
        str(key): str(value)
        for key, value in tokenizer.special_tokens_map.items()
        if key != "pad_token"
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    about = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    about = {key: about[key] for key in about if key not in ("padding", "truncation")}
    text = json.dumps([about, special], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Return one hash over named tensors: names, types, shapes and bytes.

    Example:
        >>> one = tensors_sha256({"a": torch.zeros(2), "b": torch.ones(1)})
        >>> one == tensors_sha256({"b": torch.ones(1), "a": torch.zeros(2)})
        True
    """
    digest = hashlib.sha256()
    plain = dict(part for name, tensor in tensors.items() for part in _parts(name, tensor))
    for name in sorted(plain):
        tensor = plain[name].detach().to("cpu").contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(name: str, tensor: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a tensor by its name, or of a quantised one the tensors that it is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        for part in tensor.__tensor_flatten__()[0]:
            yield from _parts(f"{name}.{part}", getattr(tensor, part))
    elif isinstance(tensor, Tensor):
        yield name, tensor


def context_length(model: Any) -> int | None:
    """Return how many tokens a base reads at most; None where its config names no limit."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "max_seq_len"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return None


def within_context(model: Any, num_tokens: int) -> int:
    """Return a number of tokens, or the base's context where that is shorter."""
    return min(num_tokens, context_length(model) or num_tokens)


def start_token_id(tokenizer: Any) -> int:
    """Return the token that stands before a document's first one.

    A tokenizer that adds one itself decides; otherwise it is the separator of pretraining, which
    models without a begin token call end-of-text.
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


def seal(
    kind: str, about: dict[str, Any], tensors: dict[str, Tensor], identity: BaseIdentity
) -> bytes:
    """Return safetensors bytes with a header and a hash over all; equal content, equal bytes.

    Args:
        kind: the header's name in the file.
        about: the header; "format" says what the file is.
        tensors: on the CPU, contiguous.
        identity: of the base that they were made for.
    """
    about = {
        **about,
        "base_weights_sha256": identity.weights_sha256,
        "base_tokenizer_sha256": identity.tokenizer_sha256,
    }
    about["sha256"] = _checksum(about, tensors)
    # One entry only: safetensors writes several in any order, and equal content would differ.
    return save(tensors, metadata={kind: json.dumps(about, sort_keys=True)})


def unseal(
    data: bytes | Path, kind: str, form: str, identity: BaseIdentity, *, name: str, what: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors in bytes that `seal` wrote.

    Args:
        data: the bytes; or a file that holds them, already verified: its tensors are mapped into
            memory, and read when they are used.
        kind: the header's name in the file.
        form: its "format".
        identity: of the base that it is to be used with.
        name, what: what messages call the file, and what it should be.

    Raises:
        DamageError: when it is none, or any byte changed since it was written.
        BaseMismatchError: when it was made for another base or tokenizer; both hashes shown.
    """
    try:
        tensors = load_file(data) if isinstance(data, Path) else load(data)
        about: dict[str, Any] = json.loads(_header(data)["__metadata__"][kind])
        is_whole = about["format"] == form
        if not isinstance(data, Path):  # safetensors itself loads a flipped byte silently
            is_whole = is_whole and about["sha256"] == _checksum(about, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamageError(f"{name} cannot be read as {what}: {error!r:.200}") from error
    if not is_whole:
        raise DamageError(f"{name} is no {form}, or its bytes changed; fetch it again")
    made_for = BaseIdentity(about["base_weights_sha256"], about["base_tokenizer_sha256"])
    identity.check(made_for, name)
    return about, tensors


def _header(data: bytes | Path) -> dict[str, Any]:
    """Return the header of a safetensors file."""
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
        found: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return found


def _checksum(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return a hash over the tensors and all of the header but the hash itself."""
    rest = {key: value for key, value in about.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True) + tensors_sha256(tensors)
    return hashlib.sha256(text.encode()).hexdigest()

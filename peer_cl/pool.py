"""A domain's pool: a chain of segments, each with its own keys and rows in every host layer.

A segment's file is safetensors: tensors named `layers.<host layer>.<parameter>`, and a JSON header
with the pool's shape, its host layers, the base's hashes and a hash over all of it. Nothing is
ever unpickled.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from peer_cl.errors import BaseMismatchError, DamageError, InputError, UnsupportedError
from peer_cl.layer import INSIDE, REPLACE, PeerLayer, PoolShape
from peer_cl.signature import Signature
from peer_cl.whole import ascending, whole

FORMAT = "peer-cl-segment-1"
_NO_TOKENIZER = frozenset({"", hashlib.sha256(b"").hexdigest()})
"""What stands for a tokenizer's hash where nothing is known of one, or there is none."""
Files = str | Path | Sequence[str | Path]
"""One file, or several."""


@dataclass(frozen=True)
class BaseIdentity:
    """Which base model a pool was trained for."""

    weights_sha256: str
    """Hash over every tensor of the base, by name."""
    tokenizer_sha256: str
    """Hash over the tokenizer, as it is serialised."""
    tokenizer_also: frozenset[str] = field(default=frozenset(), compare=False)
    """Other hashes by which the same tokenizer may be known."""
    dtype: str = field(default="", compare=False)
    """Of the weights as they were hashed ("float32"); empty where that was not kept."""

    def check(self, other: BaseIdentity, what: str) -> BaseIdentity:
        """Refuse another base or tokenizer; return this one, named by the other's hashes.

        What is made on it then bears the same hashes as what was made before.

        Args:
            other: the identity that `what` was made for.
            what: what is being loaded, for the message.

        Raises:
            BaseMismatchError: naming both hashes.
        """
        also = {"tokenizer": self.tokenizer_also}
        for kind in ("weights", "tokenizer"):
            ours, theirs = getattr(self, f"{kind}_sha256"), getattr(other, f"{kind}_sha256")
            if ours != theirs and theirs not in also.get(kind, ()):
                if kind == "tokenizer" and _NO_TOKENIZER & {ours, theirs}:
                    self._check_has_tokenizer(other, what)
                    continue
                raise BaseMismatchError(
                    f"{what} was made for a base whose {kind} hash to {theirs[:16]}..., this one's "
                    f"hash to {ours[:16]}...; {self._what_to_load(other, kind)}"
                )
        known = self.tokenizer_also | {self.tokenizer_sha256}
        return BaseIdentity(other.weights_sha256, other.tokenizer_sha256, known, self.dtype)

    def _check_has_tokenizer(self, other: BaseIdentity, what: str) -> None:
        """Refuse one side's tokenizer where nothing is known of the other's; neither is no other.

        Raises:
            BaseMismatchError: saying which was made without one.
        """
        if other.tokenizer_sha256 not in _NO_TOKENIZER:
            raise BaseMismatchError(
                f"{what} was made with a tokenizer, and this model was made without one: make it "
                "with PeerModel(..., identity=identify(base, tokenizer)) (peer_cl.bases.identify), "
                "or identity=load_base(...).identity"
            )
        if self.tokenizer_sha256 not in _NO_TOKENIZER:
            raise BaseMismatchError(
                f"{what} was made without a tokenizer, and this model was made with one: leave out "
                "the tokenizer, or identity=..., as it was left out there"
            )

    def _what_to_load(self, other: BaseIdentity, kind: str) -> str:
        """Return what to do about weights or a tokenizer that hash to something else."""
        if kind == "weights" and self.dtype and other.dtype and self.dtype != other.dtype:
            return (
                f"it was made for {other.dtype}, and this one is {self.dtype}: load it with "
                f"dtype=torch.{other.dtype}"
            )
        own = (
            f", in its dtype: this one is {self.dtype}" if kind == "weights" and self.dtype else ""
        )
        return f"load the base that it was trained on{own}"


def pool_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names of pools as a tuple; a word alone is one name, not as many as it has letters.

    Example:
        >>> pool_names("law"), pool_names(["law", "medicine"])
        (('law',), ('law', 'medicine'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def pool_key(name: str) -> str:
    """Return the key of a pool's module, by which `state_dict` knows it: its name, escaped.

    A number would do until the weights of one model are loaded into another, whose pools came in
    another order. A user's words may hold dots, which module names may not.

    Example:
        >>> pool_key("law"), pool_key("v1.2, new")
        ('pool_law', 'pool_v1%2E2%2C%20new')
    """
    return "pool_" + quote(name, safe="", errors="surrogatepass").replace(".", "%2E")


class Segment(nn.Module):
    """The PEER layers of one ingest, one a host layer. Frozen once it is trained.

    Args:
        width: D of the base.
        host_layers: which decoder layers carry it, ascending.
        shape: the layers' shape.
        inner_width: how many numbers the input projections of the base's feed-forwards give a
            token; 0: they have none in common, and no segment can write there.

    Raises:
        InputError: when the host layers are empty, repeated, not ascending or no whole numbers.
        UnsupportedError: when it is to write inside feed-forwards that have no such width.
    """

    def __init__(
        self,
        *,
        width: int,
        host_layers: Sequence[int],
        shape: PoolShape,
        inner_width: int = 0,
    ) -> None:
        super().__init__()
        host_layers, inner_width = ascending(host_layers), whole("inner_width", inner_width)
        if shape.mode == INSIDE and inner_width < 1:
            raise UnsupportedError(
                "no pool can write inside this base's feed-forwards: their input projections are "
                "missing, or of several sizes; take mode 'augment', beside them"
            )
        self.width, self.host_layers, self.shape = whole("width", width), host_layers, shape
        self.inner_width = inner_width if shape.mode == INSIDE else 0
        self.layers = nn.ModuleDict(
            {
                str(layer): PeerLayer(width=width, shape=shape, out_width=self.inner_width or width)
                for layer in host_layers
            }
        )

    def layer(self, host_layer: int) -> PeerLayer:
        """Return the PEER layer that sits at a host layer."""
        layer = self.layers[str(host_layer)]
        if not isinstance(layer, PeerLayer):
            raise InputError(f"host layer {host_layer} holds a {type(layer).__name__}")
        return layer

    def peer_layers(self) -> Iterator[PeerLayer]:
        """Yield the PEER layers, from the lowest host layer up."""
        for host_layer in self.host_layers:
            yield self.layer(host_layer)

    def on_gpu(self) -> bool:
        """Return whether the weights lie on a CUDA device."""
        return next(self.parameters()).is_cuda

    def to_bytes(self, base: BaseIdentity) -> bytes:
        """Return the segment as safetensors bytes; equal segments give equal bytes."""
        tensors = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in sorted(self.state_dict().items())
        }
        about = {
            "format": FORMAT,
            "width": self.width,
            "host_layers": list(self.host_layers),
            "shape": self.shape.to_dict(),
            "base_weights_sha256": base.weights_sha256,
            "base_tokenizer_sha256": base.tokenizer_sha256,
        }
        if self.inner_width:  # left out elsewhere: segments have the bytes that they always had
            about["inner_width"] = self.inner_width
        about["sha256"] = _checksum(about, tensors)
        # One entry only: safetensors writes several in any order, and equal segments would differ.
        return save(tensors, metadata={"segment": json.dumps(about, sort_keys=True)})

    def sha256(self) -> str:
        """Return a hash over every tensor, by name: equal exactly when the weights are."""
        return tensors_sha256(self.state_dict())


def dtype_name(model: nn.Module) -> str:
    """Return the name of a base's dtype, which its first float weight has, as torch has it.

    Example:
        >>> dtype_name(nn.Linear(1, 1).half()), dtype_name(nn.ReLU())
        ('float16', '')
    """
    floats = (weight.dtype for weight in model.parameters() if weight.is_floating_point())
    return str(next(floats, "")).removeprefix("torch.")


def weights_identity(model: nn.Module) -> BaseIdentity:
    """Return what a base is known by where nothing is known of its tokenizer.

    Args:
        model: a loaded model; every parameter and persistent buffer is hashed by name.
    """
    return BaseIdentity(tensors_sha256(model.state_dict()), "", dtype=dtype_name(model))


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Return one hash over named tensors: names, types, shapes and bytes.

    Example:
        >>> one = tensors_sha256({"a": torch.zeros(2), "b": torch.ones(1)})
        >>> one == tensors_sha256({"b": torch.ones(1), "a": torch.zeros(2)})
        True
        >>> one == tensors_sha256({"a": torch.zeros(1), "b": torch.ones(1)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu").contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_segment(source: Path | bytes, base: BaseIdentity, *, name: str = "") -> Segment:
    """Return the segment in a file or in bytes, checked tensor by tensor.

    Args:
        source: what `Segment.to_bytes` wrote, or a file of it.
        base: the base that it is to be used with.
        name: what messages call it; default: the file's name.

    Raises:
        DamageError: when the file is no segment, tensors are missing, unexpected, of another shape
            or not finite, or any byte changed since it was written.
        BaseMismatchError: when it was trained for another base or tokenizer; both hashes shown.
    """
    about, tensors = _read_segment(source, name := name or _name(source))
    if about.get("format") != FORMAT:
        raise DamageError(f"{name} has format {about.get('format')!r}, not {FORMAT!r}")
    try:
        made_for = BaseIdentity(about["base_weights_sha256"], about["base_tokenizer_sha256"])
        base.check(made_for, name)
        # It is drawn at random first: the caller's draws stay the same. No device is woken for it.
        with torch.random.fork_rng(devices=[]):
            segment = Segment(
                width=about["width"],
                host_layers=about["host_layers"],
                shape=PoolShape(**about["shape"]),
                inner_width=about.get("inner_width", 0),
            )
    except BaseMismatchError:
        raise
    except (KeyError, TypeError, ValueError, UnsupportedError) as error:
        raise DamageError(f"{name} has a damaged header: {error!r}") from error
    _check_tensors(name, segment.state_dict(), tensors)
    found = _checksum(about, tensors)
    if found != about.get("sha256"):
        raise DamageError(
            f"{name} was written with hash {str(about.get('sha256'))[:16]}..., and now "
            f"hashes to {found[:16]}...: its bytes changed; fetch it again"
        )
    segment.load_state_dict(tensors, strict=True, assign=True)
    return segment.requires_grad_(False)


def _name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "the segment"


def _read_segment(source: Path | bytes, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        if isinstance(source, bytes):
            tensors = {key: tensor.clone() for key, tensor in load(source).items()}
            size = int.from_bytes(source[:8], "little")  # load has checked that it is one
            header = json.loads(source[8 : 8 + size]).get("__metadata__") or {}
        else:
            with safe_open(source, framework="pt") as file:
                header = file.metadata() or {}
                # Copies: what safetensors gives is the file mapped into memory, and would change
                # with it after it was checked.
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamageError(f"{name} cannot be read as safetensors: {error}") from error
    try:
        about = json.loads(header.get("segment", ""))
    except ValueError as error:
        raise DamageError(f"{name} has no header of a segment: {error}") from error
    if not isinstance(about, dict):
        raise DamageError(f"{name} has no header of a segment: it holds {about!r:.40}")
    return about, tensors


def _checksum(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return a hash over tensors and header: safetensors itself loads a flipped byte silently."""
    rest = {key: value for key, value in about.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True) + tensors_sha256(tensors)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_tensors(name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise DamageError(f"{name}: missing tensors {missing[:4]}, unexpected {extra[:4]}")
    for key, tensor in found.items():
        if tensor.shape != expected[key].shape:
            raise DamageError(
                f"{name}: {key} has shape {tuple(tensor.shape)}, not {tuple(expected[key].shape)}"
            )
        if not tensor.is_floating_point():
            raise DamageError(f"{name}: {key} has type {tensor.dtype}, which no weight has")
        if not torch.isfinite(tensor).all():
            raise DamageError(f"{name}: {key} holds values that are not finite")


def check_modes(name: str, chain: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Refuse segments of which one keeps another from speaking.

    What stands in place of a feed-forward drops what is written inside it, whichever came first.

    Args:
        name: the pool's, for the message.
        chain: of each segment, oldest first, its mode and its host layers.

    Raises:
        UnsupportedError: naming both and the first layer that they share.
    """
    numbered = list(enumerate(chain, 1))
    inside = [(number, layers) for number, (mode, layers) in numbered if mode == INSIDE]
    replacing = [(number, layers) for number, (mode, layers) in numbered if mode == REPLACE]
    for (first, own), (second, others) in itertools.product(inside, replacing):
        shared = sorted(set(own) & set(others))
        if shared:
            raise UnsupportedError(
                f"pool {name!r}: segment {second} stands in place of layer {shared[0]}'s "
                f"feed-forward (mode {REPLACE}), inside which segment {first} writes (mode "
                f"{INSIDE}) and would not be heard; let the domain grow in mode augment, or in "
                "that of its first segment"
            )


class ExpertPool(nn.Module):
    """One domain's knowledge: its segments, oldest first, and the signature that asks for it.

    Args:
        name: the pool's name, shown to people; it never names a file.
        segments: at least one; all on the same base.
        signature: what the shortlist compares a text with; None: asked only by name or by `all`.

    Raises:
        InputError: when there is no segment, or their widths differ.
        UnsupportedError: when one keeps another from speaking.
    """

    def __init__(
        self, name: str, segments: Sequence[Segment], signature: Signature | None = None
    ) -> None:
        super().__init__()
        if not segments:
            raise InputError(f"pool {name!r} has no segment")
        widths = {segment.width for segment in segments}
        if len(widths) > 1:
            raise InputError(f"pool {name!r} has segments of widths {sorted(widths)}")
        check_modes(name, [(segment.shape.mode, segment.host_layers) for segment in segments])
        self.name = name
        self.segments = nn.ModuleList(segments)
        self.signature = signature

    @property
    def host_layers(self) -> tuple[int, ...]:
        """Every host layer that one of the segments uses, ascending."""
        return tuple(sorted({layer for s in self.chain() for layer in s.host_layers}))

    def chain(self) -> list[Segment]:
        """Return the segments, oldest first."""
        return [segment for segment in self.segments if isinstance(segment, Segment)]

    def num_parameters(self) -> int:
        """Return how many numbers the pool holds."""
        return sum(parameter.numel() for parameter in self.parameters())


def read_pool(
    name: str, files: Files, base: BaseIdentity, signature: Signature | None = None
) -> ExpertPool:
    """Return the pool whose segments are in these files, oldest first.

    Args:
        name: its name.
        files: one file or several; a name is no sequence of letters.
        base: the base that it is to be used with.
        signature: what it is asked by.

    Raises: as `load_segment` and `ExpertPool`; InputError: when there is no such file.
    """
    several = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    for file in several:
        if not file.is_file():
            what = "is no file" if file.exists() else "does not exist"
            raise InputError(f"pool {name!r}: {file} {what}; give a segment's file, or several")
    return ExpertPool(name, [load_segment(file, base) for file in several], signature)

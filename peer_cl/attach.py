"""Hooks that let a pool speak inside a model's own forward, and let it start at the tap.

Nothing here is written for one architecture. A decoder layer is a member of the model's list of
layers, its feed-forward is found by name, and both are only listened to. With no pool on, every
hook returns None: the model computes exactly what it computes without them.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import Tensor, nn

from peer_cl.errors import InputError, ShapeError, StateError, UnsupportedError
from peer_cl.inside import inner_width, input_projections
from peer_cl.layer import INSIDE, REPLACE
from peer_cl.pool import ExpertPool, Segment
from peer_cl.served import (
    check_caches,
    check_causal,
    check_states,
    check_takes_cache,
    unheard,
    width_of,
)
from peer_cl.uncopied import no_copy

FEED_FORWARD_NAMES = ("mlp", "feed_forward", "ffn", "ff")
"""What decoder layers call their feed-forward."""

Watch = Callable[[Segment, int, Tensor, Tensor, Tensor], None]
"""Told, in a branch, each segment that speaks, its host layer, what it reads (T, D), and the
router's weights and ids (T, H, K)."""


_turns: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_asking_for_turns = threading.Lock()


def _turn_on(layers: nn.Module) -> threading.RLock:
    """Return the lock of a base: whatever is attached to its layers runs it in turns.

    Layers are the key, since a wrapper (PEFT's) shares them with the model inside; and a base holds
    no lock itself, since it is to be copied and pickled again once nothing is attached.
    """
    with _asking_for_turns:
        return _turns.setdefault(layers, threading.RLock())


class _StopError(Exception):
    """Ends a forward where all that was asked for is known."""


@dataclass
class _Pass:
    """What one forward of the model is for."""

    segments: Sequence[Segment] = ()
    watch: Watch | None = None
    start_from: Tensor | None = None
    stop_at: str | None = None
    keeps: bool = False
    keeps_inputs: Sequence[int] = ()
    tap: Tensor | None = None
    signature: Tensor | None = None
    feed_forward_inputs: dict[int, Tensor] = field(default_factory=dict)
    inside: dict[int, Tensor] = field(default_factory=dict)
    """What is written inside a layer's feed-forward, (B, T, F), while that runs."""
    written: set[int] = field(default_factory=set)
    """Layers whose feed-forwards took what was to be written inside."""


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the model's list of decoder layers.

    Raises:
        UnsupportedError: when no list is as long as the config says, with feed-forwards in it.
    """
    config: Any = model.config
    depth = config.get_text_config(decoder=True).num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            layers = list(module)
            if all(_feed_forward_name(layer) for layer in layers):
                return module
    raise UnsupportedError(
        f"{type(model).__name__} has no list of {depth} decoder layers with a feed-forward called "
        f"one of {', '.join(FEED_FORWARD_NAMES)}; this architecture is not served"
    )


def _feed_forward_name(layer: nn.Module) -> str | None:
    names = dict(layer.named_children())
    return next((name for name in FEED_FORWARD_NAMES if name in names), None)


def feed_forward_of(layer: nn.Module) -> nn.Module:
    """Return the feed-forward of one of `decoder_layers`."""
    return layer.get_submodule(_feed_forward_name(layer) or "")


def _hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


class Attachment:
    """A model with listening hooks on the layers from the tap up.

    The base's `requires_grad` flags are left alone: torch's matmul looks at them, even under
    `no_grad`, when it chooses a kernel, so touching them moves bits. `frozen` sets them to train.

    Args:
        model: a causal language model of transformers.
        tap: the first host layer; what lies below is shared by the base and every branch.
        signature_layer: the layer whose output signatures read.

    Raises:
        InputError: when a layer does not exist.
        UnsupportedError: when the architecture is not served.

    Cost: one token is read up to the higher of the two layers, to see what the layers hand on, and
        two texts of a few tokens through all of them, to see that none looks ahead.
    """

    def __init__(self, model: nn.Module, *, tap: int, signature_layer: int) -> None:
        self.model = model
        self.layers = decoder_layers(model)
        for what, layer in (("tap", tap), ("signature layer", signature_layer)):
            if not 0 <= layer < len(self.layers):
                raise InputError(
                    f"{what} {layer} does not exist: the base has layers 0..{len(self.layers) - 1}"
                )
        check_caches(model, tap)
        self.tap, self.signature_layer = tap, signature_layer
        self._projections = {
            number: input_projections(feed_forward_of(self.layers[number]), self.width)
            for number in range(tap, len(self.layers))
        }
        self.inner_width = inner_width(list(self._projections.values()))
        """F, the numbers that a feed-forward's input projections give a token; 0: no such."""
        self._pass = _Pass()
        self._lock = _turn_on(self.layers)
        self._returns_tuple = False
        with self._lock:  # a forward in another thread is going through the hooks
            self._handles = list(self._register())
        try:
            self._read_a_token()
        except BaseException:  # a refused model keeps no hooks
            self.detach()
            raise

    @property
    def width(self) -> int:
        """D, the width of the hidden states."""
        return width_of(self.model)

    @property
    def is_attached(self) -> bool:
        """Whether the hooks are still there."""
        return bool(self._handles)

    def _register(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        tap_layer, signature_layer = self.layers[self.tap], self.layers[self.signature_layer]
        yield tap_layer.register_forward_pre_hook(self._at_tap, with_kwargs=True)
        yield signature_layer.register_forward_hook(self._keep_signature)
        for number in range(self.tap, len(self.layers)):
            layer = self.layers[number]
            feed_forward = feed_forward_of(layer)
            # No closures: who copies or pickles the base must come upon this object, which refuses.
            read, replace, add = (
                functools.partial(hook, number) for hook in (self._read, self._replace, self._add)
            )
            yield feed_forward.register_forward_pre_hook(read, with_kwargs=True)
            yield feed_forward.register_forward_hook(replace)
            yield layer.register_forward_hook(add)
            start = 0
            for projection, size in self._projections[number]:
                part = slice(start, start := start + size)
                write = functools.partial(self._write_inside, number, part)
                yield projection.register_forward_hook(write)

    def _at_tap(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        run = self._pass
        if run.start_from is not None:
            if args:
                return (run.start_from, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": run.start_from}
        if run.keeps:
            run.tap = _hidden_states(args, kwargs)
        if run.stop_at == "tap":
            raise _StopError
        return None

    def _keep_signature(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        self._returns_tuple = isinstance(output, tuple)
        if self._pass.keeps:
            self._pass.signature = output[0] if isinstance(output, tuple) else output
        if self._pass.stop_at == "signature":
            raise _StopError

    def _read(
        self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        run = self._pass
        if number in run.keeps_inputs or any(
            number in segment.host_layers for segment in run.segments
        ):
            run.feed_forward_inputs[number] = _hidden_states(args, kwargs)
            written = self._pool_output(number, mode=INSIDE)
            if written is not None:
                run.inside[number] = written

    def _write_inside(
        self, number: int, part: slice, _: nn.Module, __: tuple[Any, ...], output: Tensor
    ) -> Tensor | None:
        written = self._pass.inside.get(number)
        if written is None:
            return None
        self._pass.written.add(number)
        # Some feed-forwards flatten rows and tokens before they read them.
        return output + written[..., part].reshape(output.shape)

    def _replace(self, number: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        said = self._pool_output(number, mode=REPLACE)
        if said is not None and isinstance(output, tuple):  # with what a router told
            return (said, *output[1:])
        return said

    def _add(self, number: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        run = self._pass
        if run.inside.pop(number, None) is not None and number not in run.written:
            raise unheard(self.model, number)
        added = self._pool_output(number, mode="augment")
        if added is None:
            return None
        if isinstance(output, tuple):
            return (output[0] + added, *output[1:])
        return output + added

    def _pool_output(self, number: int, mode: str) -> Tensor | None:
        """Return what the pool's segments say at one host layer, or None where none speaks."""
        run = self._pass
        speaking = [segment for segment in run.segments if number in segment.host_layers]
        if speaking and number not in run.feed_forward_inputs:
            raise unheard(self.model, number)
        here = [segment for segment in speaking if segment.shape.mode == mode]
        if not here:
            return None
        inputs_BTD = run.feed_forward_inputs[number]
        flat_TD = inputs_BTD.reshape(-1, inputs_BTD.shape[-1])
        total_TD: Tensor = self._spoken(here[0], number, flat_TD)
        for segment in here[1:]:
            total_TD = total_TD + self._spoken(segment, number, flat_TD)
        return total_TD.view(*inputs_BTD.shape[:-1], -1)

    @torch.no_grad()
    def turned(self, number: int, inputs_TD: Tensor, written_TF: Tensor) -> Tensor:
        """Return what a layer's feed-forward says more, (T, D), with something written inside it.

        Args:
            number: a layer from the tap up.
            inputs_TD: what it reads.
            written_TF: what is added to what its input projections give.
        """
        feed_forward = feed_forward_of(self.layers[number])
        with self._running(_Pass()):
            bare_TD: Tensor = feed_forward(inputs_TD[None])[0]
        with self._running(_Pass(inside={number: written_TF[None]})):
            turned_TD: Tensor = feed_forward(inputs_TD[None])[0]
        return turned_TD - bare_TD

    def _spoken(self, segment: Segment, number: int, inputs_TD: Tensor) -> Tensor:
        """Return what one segment adds at a host layer, and let who watches know."""
        watch = self._pass.watch
        told = functools.partial(watch, segment, number) if watch is not None else None
        output_TD: Tensor = segment.layer(number)(inputs_TD, told)
        return output_TD

    @contextmanager
    def _running(self, run: _Pass) -> Iterator[_Pass]:
        with self._lock:
            if not self._handles:
                raise StateError(
                    "this model was detached from its base and reads no more: make a new one on it"
                )
            before, self._pass = self._pass, run
            try:
                yield run
            finally:
                run.feed_forward_inputs.clear()
                run.inside.clear()
                run.written.clear()
                self._pass = before

    @contextmanager
    def listening(
        self, *, stop_at: str | None = None, keeps_inputs: Sequence[int] = ()
    ) -> Iterator[_Pass]:
        """Run the bare model inside; its states at the tap and for signatures are kept.

        Args:
            stop_at: "tap" or "signature": end the forward there; what lies above does not run.
            keeps_inputs: layers, from the tap up, of which the feed-forward's inputs are kept.
        """
        with self._running(_Pass(stop_at=stop_at, keeps=True, keeps_inputs=keeps_inputs)) as run:
            try:
                yield run
            except _StopError:
                if stop_at is None:
                    raise

    @contextmanager
    def branching(
        self, segments: Sequence[Segment], tap_BTD: Tensor, watch: Watch | None = None
    ) -> Iterator[None]:
        """Run a branch inside: layers below the tap pass through, the tap reads `tap_BTD`.

        Args:
            segments: whose PEER layers are on; none: the base's own upper layers.
            tap_BTD: the saved hidden states at the tap.
            watch: told what each segment reads; nothing that it does reaches the model.

        Raises:
            ShapeError: when a segment's widths or host layers do not fit the base and the tap.
        """
        for segment in segments:
            if segment.width != self.width or segment.host_layers[0] < self.tap:
                raise ShapeError(
                    f"segment of width {segment.width} at layers {segment.host_layers} does not "
                    f"fit a base of width {self.width} with the tap at layer {self.tap}"
                )
            if segment.host_layers[-1] >= len(self.layers):
                raise ShapeError(
                    f"segment at layer {segment.host_layers[-1]}: the base has {len(self.layers)}"
                )
            if segment.inner_width not in (0, self.inner_width):
                raise ShapeError(
                    f"segment that writes {segment.inner_width} numbers a token inside each feed-"
                    f"forward: the base's take {self.inner_width}"
                )
        run = _Pass(segments=segments, watch=watch, start_from=tap_BTD)
        with self._running(run), self._passing_through():
            yield

    @contextmanager
    def _passing_through(self) -> Iterator[None]:
        def pass_through(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            return (hidden_states,) if self._returns_tuple else hidden_states

        skipped = list(self.layers[: self.tap])
        own = [layer.__dict__.get("forward") for layer in skipped]
        for layer in skipped:
            layer.__dict__["forward"] = pass_through
        try:
            yield
        finally:
            for layer, forward in zip(skipped, own, strict=True):
                if forward is None:
                    del layer.__dict__["forward"]
                else:
                    layer.__dict__["forward"] = forward

    @torch.no_grad()
    def _read_a_token(self) -> None:
        """Learn by one token whether layers return tuples, and check what the tap reads; then read
        two short texts, to check that no token looks ahead."""
        token = torch.zeros(1, 1, dtype=torch.long, device=next(self.model.parameters()).device)
        last = "signature" if self.signature_layer >= self.tap else "tap"
        with self.listening(stop_at=last) as run:
            self.model(input_ids=token, use_cache=False)
        check_states(self.model, run.tap, run.signature)
        with self.listening():
            check_causal(self.model)
        check_takes_cache(self.model)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Ask for no gradient of the base inside, so that training a pool computes none."""
        flags = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)

    def __reduce_ex__(self, _: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled, alone or with the base."""
        raise no_copy("base with pools attached")

    def detach(self) -> None:
        """Remove every hook."""
        with self._lock:
            for handle in self._handles:
                handle.remove()
            self._handles.clear()


def pool_segments(pool: ExpertPool | None) -> list[Segment]:
    """Return the segments that speak for a pool; none for the base."""
    return pool.chain() if pool is not None else []

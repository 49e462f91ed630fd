"""Hooks under which a model's own forward runs as the bare base, or as the branch of a pool.

Decoder layers and feed-forwards are found by structure and name, in any architecture. Hooks exist
on them only inside a context; outside, the model is untouched.

Shape suffixes: B rows, T tokens, D model width, V vocabulary, X chosen positions of all rows.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from peer_cl.errors import InputError, ShapeError, StateError, UnsupportedError
from peer_cl.layer import AUGMENT, REPLACE
from peer_cl.own import OwnExperts
from peer_cl.pool import Segment

FEED_FORWARD_NAMES = (
    "mlp",
    "feed_forward",
    "ffn",
    "ff",
    "block_sparse_moe",
    "mlp_block",
    "fc1",
)
"""What decoder layers call their feed-forward, or the first part of one that is no module."""
_REGISTERED: dict[str, tuple[str, str]] = {}
"""By model type: the path of the list of decoder layers, and the feed-forward's name in a layer."""

Watch = Callable[[Segment, int, Tensor, Tensor, Tensor], None]
"""Called in a branch with each segment, its host layer, what it reads there (T, D), and the weights
and ids of retrieval (T, H, K)."""


@dataclass
class Seen:
    """What the bare model's forward leaves behind inside `Hooks.bare`."""

    state_BTD: Tensor = field(default_factory=lambda: torch.empty(0))
    """Hidden states after the state layer."""
    feed_forward_inputs: dict[int, Tensor] = field(default_factory=dict)
    """By layer of `keep_inputs`, what its feed-forward read, (B, T, D)."""
    states: dict[int, Tensor] = field(default_factory=dict)
    """By layer of `keep_states`, hidden states after it, (B, T, D)."""


class Hooks:
    """A base model whose forward can be observed, and run with a pool's experts.

    The base's `requires_grad` flags are left alone: torch's matmul looks at them, even under
    `no_grad`, when it chooses a kernel, so touching them moves bits. `frozen` sets them to train.

    Only one context is open at a time, and other threads wait; plain calls of the base beside other
    threads need `lock`. Two objects on one base do not know of each other.

    The router reads the output of `state_layer`; default: two thirds of the depth.

    Raises:
        InputError: when the base is no loaded language model, or has no such layer.
        StateError: when the base is in training mode: dropout would change every call.
        UnsupportedError: when no hook can be attached, or the model is no causal language model.
    """

    def __init__(self, base: Any, state_layer: int | None = None) -> None:
        self.base = base
        if not isinstance(base, nn.Module):
            raise InputError(
                f"the base must be a loaded causal language model, not a {type(base).__name__}: "
                "load it with peer_cl.load_base(...).model"
            )
        if any(module.training for module in base.modules()):
            raise StateError(
                "the base, or a part of it, is in training mode: call base.eval() first"
            )
        if any(hasattr(module, "_orig_mod") for module in base.modules()):
            raise UnsupportedError("hooks need the base as it was before torch.compile: give that")
        self.layers = decoder_layers(base)
        self._feed_forwards = [feed_forward_of(layer, base) for layer in self.layers]
        self.state_layer = (2 * len(self.layers)) // 3 if state_layer is None else state_layer
        self.check_layers([self.state_layer])
        self.width = int(self.base.config.get_text_config(decoder=True).hidden_size)
        self.lock, self._is_open = threading.RLock(), False
        # Of a layer, beside its states; None: it returns these alone, in no tuple.
        self._num_more: int | None = None
        self._check_base()

    @property
    def device(self) -> torch.device:
        """Where the base reads tokens."""
        device: torch.device = self.base.get_input_embeddings().weight.device
        return device

    @contextmanager
    def bare(
        self, keep_inputs: Sequence[int] = (), keep_states: Sequence[int] = ()
    ) -> Iterator[Seen]:
        """Run the bare model inside; its state is kept, and its bits are its own."""
        seen = Seen()

        def keep_state(layer: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            self._num_more = len(output) - 1 if isinstance(output, tuple) else None
            seen.states[layer] = output[0] if isinstance(output, tuple) else output
            if layer == self.state_layer:
                seen.state_BTD = seen.states[layer]

        with self._open() as stack:
            for layer in sorted({self.state_layer, *keep_states}):
                hook = functools.partial(keep_state, layer)
                stack.callback(self.layers[layer].register_forward_hook(hook).remove)
            for layer in keep_inputs:
                self._keep_inputs(stack, layer, seen.feed_forward_inputs)
            yield seen

    @contextmanager
    def branch(
        self,
        segments: Sequence[Segment],
        watch: Watch | None = None,
        *,
        own: Sequence[OwnExperts] = (),
        items_BT: Tensor | None = None,
        alike: bool = False,
    ) -> Iterator[None]:
        """Run a branch inside: the whole model, with experts in their host layers.

        Args:
            segments: whose shared experts take part.
            watch: called with what each segment reads.
            own: own experts, numbered one list after the other,
            items_BT: and which of them are active at which token of what is read first. What comes
                after it, a cached step's token for example, has the last token's; of beams, each
                row's.
            alike: rows are as `OwnExperts.read_alike` needs them.
        """
        self.check_segments(segments)
        inputs: dict[int, Tensor] = {}
        hosts = {layer for segment in segments for layer in segment.host_layers}
        touched: list[tuple[int, OwnExperts]] = []
        if items_BT is not None:
            # A store may hold many lists; those without an active item cost nothing.
            active, first = items_BT.unique().tolist(), 0
            for one in own:
                if any(first <= item < first + len(one.items) for item in active):
                    touched.append((first, one))
                first += len(one.items)
            items_BT = items_BT.to(self.device)
            hosts |= {layer for _, one in touched for layer in one.host_layers}
        self.check_layers(sorted(hosts) or [0])
        with self._open() as stack:
            for number in sorted(hosts):
                self._keep_inputs(stack, number, inputs)
                places = {REPLACE: self._feed_forwards[number], AUGMENT: self.layers[number]}
                for mode, module in places.items():
                    here = [s for s in segments if s.shape.mode == mode and number in s.host_layers]
                    if here:
                        hook = functools.partial(_add_experts, here, number, inputs, watch)
                        stack.callback(module.register_forward_hook(hook).remove)
                if items_BT is not None and any(number in one.host_layers for _, one in touched):
                    hook = functools.partial(_add_own, touched, number, inputs, items_BT, alike)
                    stack.callback(self.layers[number].register_forward_hook(hook).remove)
            yield

    @contextmanager
    def _open(self) -> Iterator[ExitStack]:
        """Wait for other threads; what is pushed on the stack is undone at the end."""
        with self.lock:
            if self._is_open:
                raise StateError(  # its hooks would act on what is read here, too
                    "a pool's branch, or a bare reading, of this model is running: read texts "
                    "after it has ended, not from inside (a streamer?)"
                )
            self._is_open = True
            try:
                with ExitStack() as stack:
                    yield stack
            finally:
                self._is_open = False

    @contextmanager
    def above(self, first: int, states_BTD: Tensor) -> Iterator[None]:
        """Skip the layers below layer `first` inside, which reads these states instead.

        For training on the same rows in every step: the base's lower layers say the same each time.
        """
        passed_on = self._returned(states_BTD)
        with self._replaced(list(self.layers)[:first], lambda *_, **__: passed_on):
            yield

    @contextmanager
    def below(self, first: int) -> Iterator[None]:
        """Skip layer `first` and those above it inside: for reading states that lie below."""

        def pass_on(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            return self._returned(hidden_states)

        with self._replaced(list(self.layers)[first:], pass_on):
            yield

    def _returned(self, states_BTD: Tensor) -> Any:
        """Return states as a layer does; what it returns beside them is not read in training."""
        if self._num_more is None:
            return states_BTD
        return (states_BTD, *[None] * self._num_more)

    @contextmanager
    def _replaced(self, layers: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
        own = [layer.__dict__.get("forward") for layer in layers]  # accelerate gives them one
        try:
            for layer in layers:
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer, before in zip(layers, own, strict=True):
                del layer.__dict__["forward"]
                if before is not None:
                    layer.__dict__["forward"] = before

    @contextmanager
    def head_at(self, places_BT: Tensor) -> Iterator[None]:
        """Compute logits at some positions alone inside: in training most count for nothing.

        Given as bool (B, T), X positions in all, they come as (1, X, V); given as int64 (B, P),
        the numbers of P positions of each row, as (B, P, V).
        """

        def select(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            states_BTD = args[0]
            if places_BT.dtype == torch.bool:
                return (states_BTD[places_BT].unsqueeze(0), *args[1:])
            rows_B1 = torch.arange(len(places_BT), device=places_BT.device)[:, None]
            return (states_BTD[rows_B1, places_BT], *args[1:])

        handle = self.base.get_output_embeddings().register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def head_of(self, tokens_GV: Tensor) -> Iterator[None]:
        """Compute the logits of some tokens alone inside: for training, where few of them matter.

        Rows must come in G groups of one size, each with V tokens of its own; logits come as
        (B, T, V). What a model does to logits after its head must treat every token alike.
        """
        head = self.base.get_output_embeddings()
        # The rows of a quantised head cannot be taken apart.
        is_plain = type(head) is nn.Linear and not hasattr(head.weight, "__tensor_flatten__")
        whole = cast(Callable[[Tensor], Tensor], head.forward)
        weights_GVD: Tensor | None = head.weight.detach()[tokens_GV] if is_plain else None
        biases_G1V = (
            head.bias.detach()[tokens_GV][:, None] if is_plain and head.bias is not None else 0
        )

        def product(states_BTD: Tensor) -> Tensor:
            if weights_GVD is None:
                logits_BTW = whole(states_BTD)
                tokens_BV = tokens_GV.repeat_interleave(len(logits_BTW) // len(tokens_GV), 0)
                return logits_BTW.gather(-1, tokens_BV[:, None].expand(-1, logits_BTW.shape[1], -1))
            states_GXD = states_BTD.reshape(len(tokens_GV), -1, states_BTD.shape[-1])
            logits_GXV: Tensor = states_GXD @ weights_GVD.transpose(1, 2) + biases_G1V
            return logits_GXV.view(*states_BTD.shape[:2], -1)

        with self._replaced([head], product):
            yield

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Compute no gradient of the base inside; its flags come back as they were at the end."""
        trained = [parameter for parameter in self.base.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse host layers that are not ascending, or that the base does not have."""
        if not layers or list(layers) != sorted(set(layers)):
            raise InputError(
                f"host layers must be ascending, at least one and each once, not {list(layers)}"
            )
        for layer in layers:
            if not 0 <= layer < len(self.layers):
                raise InputError(
                    f"layer {layer} does not exist: the base has layers 0..{len(self.layers) - 1}"
                )

    def check_segments(self, segments: Sequence[Segment]) -> None:
        """Refuse segments that do not fit the base: their width, host layers or mode."""
        for segment in segments:
            if segment.width != self.width:
                raise ShapeError(
                    f"a segment of width {segment.width} does not fit a base of width {self.width}"
                )
            self.check_layers(segment.host_layers)
            if segment.shape.mode == REPLACE and self._adds_residual:
                raise UnsupportedError(
                    f"mode {REPLACE!r} would drop the residual, which the feed-forwards of "
                    f"{type(self.base).__name__} add themselves: use mode {AUGMENT!r}"
                )
            if segment.shape.mode == REPLACE and isinstance(self._feed_forwards[0], nn.Linear):
                raise UnsupportedError(
                    f"mode {REPLACE!r} needs feed-forwards that are modules, and those of "
                    f"{type(self.base).__name__} are parts of its layers: use mode {AUGMENT!r}"
                )

    def _keep_inputs(self, stack: ExitStack, layer: int, inputs: dict[int, Tensor]) -> None:
        """Keep what a layer's feed-forward reads, until the stack is undone."""

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[layer] = args[0] if args else kwargs["hidden_states"]

        handle = self._feed_forwards[layer].register_forward_pre_hook(keep, with_kwargs=True)
        stack.callback(handle.remove)

    @torch.no_grad()
    def _check_base(self) -> None:
        """Refuse a base on which hooks would not fire, or would not mean what they mean here.

        The base reads two texts of two tokens, to see that they do and that no token looks ahead.
        """
        kind = type(self.base).__name__
        if getattr(self.base, "get_output_embeddings", lambda: None)() is None:
            raise UnsupportedError(
                f"a {kind} gives no logits of tokens: load it with AutoModelForCausalLM"
            )
        own = inspect.signature(self._feed_forwards[0].forward).parameters
        self._adds_residual = any(name.startswith("residual") for name in own)  # BLOOM, MPT
        ids_BT = torch.tensor([[2, 3], [2, 4]], device=self.device)
        with self.bare(keep_inputs=range(len(self.layers))) as seen:
            logits_BTV = self.base(input_ids=ids_BT, use_cache=False).logits
        silent = [n for n in range(len(self.layers)) if n not in seen.feed_forward_inputs]
        if silent:
            raise UnsupportedError(
                f"layers {silent} of {kind} never call their feed-forward as a module (a compiled "
                "base?): no pool can be attached; give another base, or this one uncompiled"
            )
        read = (seen.state_BTD, *seen.feed_forward_inputs.values())
        shapes = {tuple(getattr(one, "shape", ())) for one in read}
        # Some feed-forwards read rows and tokens as one dimension.
        if not shapes <= {(2, 2, self.width), (4, self.width)}:
            raise UnsupportedError(
                f"the layers of {kind} pass on states of shapes {sorted(map(str, shapes))} for two "
                f"texts of two tokens, not (2, 2, {self.width}): this architecture is not supported"
            )
        first_V, other_V = logits_BTV[:, 0].float()
        change = float((other_V - first_V).norm() / (first_V - first_V.mean()).norm())
        if change > max(1e-3, 8 * torch.finfo(logits_BTV.dtype).eps):  # a kernel rounds less
            raise UnsupportedError(
                f"{kind} looks ahead: the logits of a token moved by {change:.1%} with the token "
                "after it; give a causal language model"
            )


def register_decoder(model_type: str, *, layers: str, feed_forward: str) -> None:
    """Say where the decoder layers of an architecture are, whose structure tells too little.

    Args:
        model_type: as the base's config has it ("opt").
        layers: the path from the base to the list of its layers ("model.decoder.layers").
        feed_forward: what a layer calls its feed-forward ("fc1"), or the first module of it: what
            this reads, experts read.
    """
    _REGISTERED[model_type] = (layers, feed_forward)


def decoder_layers(base: Any) -> nn.ModuleList:
    """Return a model's list of decoder layers.

    It is searched below the language decoder, so that a vision tower of equal depth is never taken.
    """
    config = base.config.get_text_config(decoder=True)
    if registered := _REGISTERED.get(config.model_type):
        try:
            return cast(nn.ModuleList, base.get_submodule(registered[0]))
        except AttributeError as error:
            raise UnsupportedError(
                f"{type(base).__name__} was registered with layers at {registered[0]!r}: {error}"
            ) from None
    depth = config.num_hidden_layers
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    for module in decoder.modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module) == depth
            and all(_named(layer, FEED_FORWARD_NAMES) is not None for layer in module)
        ):
            return module
    raise UnsupportedError(
        f"{type(base).__name__} has no list of {depth} decoder layers with a feed-forward called "
        f"one of {', '.join(FEED_FORWARD_NAMES)}: say where they are with "
        f"peer_cl.register_decoder({config.model_type!r}, layers=..., feed_forward=...)"
    )


def feed_forward_of(layer: nn.Module, base: Any) -> nn.Module:
    """Return the feed-forward of a base's decoder layer, found by its name."""
    registered = _REGISTERED.get(base.config.get_text_config(decoder=True).model_type)
    names = FEED_FORWARD_NAMES if registered is None else (registered[1],)
    found = _named(layer, names)
    if found is None:
        raise UnsupportedError(
            f"a layer of {type(base).__name__} has no module called {' or '.join(names)}, but "
            f"{', '.join(name for name, _ in layer.named_children())}"
        )
    return found


def _named(layer: nn.Module, names: Sequence[str]) -> nn.Module | None:
    named = dict(layer.named_children())
    return next((named[name] for name in names if name in named), None)


def _add_experts(
    segments: Sequence[Segment],
    number: int,
    inputs: dict[int, Tensor],
    watch: Watch | None,
    _: nn.Module,
    __: tuple[Any, ...],
    output: Any,
) -> Any:
    """Return a module's output with what the segments' experts add, or that alone to replace it.

    The segments are all of one mode: the module is host layer `number` (augment), or the
    feed-forward there (replace).
    """
    flat_TD = inputs[number].flatten(0, -2)
    added = []
    for segment in segments:
        layer_watch = None if watch is None else functools.partial(watch, segment, number)
        added.append(segment.layer(number)(flat_TD, layer_watch))
    total_TD = functools.reduce(torch.add, added)
    states = output[0] if isinstance(output, tuple) else output
    total = total_TD.view(states.shape)
    changed = total if segments[0].shape.mode == REPLACE else states + total
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _add_own(
    own: Sequence[tuple[int, OwnExperts]],
    number: int,
    inputs: dict[int, Tensor],
    items_BT: Tensor,
    alike: bool,
    _: nn.Module,
    __: tuple[Any, ...],
    output: Any,
) -> Any:
    """Return a layer's output with what the active items' experts add.

    Each list of own experts comes with the number of its first item.
    """
    states_BTD = output[0] if isinstance(output, tuple) else output
    rows, num_tokens = states_BTD.shape[:2]
    items_BT = items_BT.repeat_interleave(rows // len(items_BT), 0)
    num_more = num_tokens - items_BT.shape[1]
    if num_more > 0:  # all is read again, without a cache
        items_BT = torch.cat([items_BT, items_BT[:, -1:].expand(-1, num_more)], 1)
    elif num_more < 0:
        items_BT = items_BT[:, -1:].expand(-1, num_tokens)
    inputs_BTD = inputs[number].view(states_BTD.shape)
    for first, one in own:
        if number in one.host_layers:
            here_BT = torch.where(items_BT < first + len(one.items), items_BT - first, -1)
            added = one.read_alike if alike else one
            states_BTD = states_BTD + added(inputs_BTD, number, here_BT)
    return (states_BTD, *output[1:]) if isinstance(output, tuple) else states_BTD

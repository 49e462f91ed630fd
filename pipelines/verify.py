"""Proof that a store keeps its promises about bits, by measurement.

The bare model runs in a fresh process that has never loaded this project's code; where no domain is
active, the model with pools must give the same bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from peer_cl.bases import load_base
from peer_cl.devices import CPU
from peer_cl.errors import PeerError
from peer_cl.model import PeerModel
from peer_cl.read import read
from pipelines.bare_logits import measure, run_bare
from pipelines.batches import tokenise
from pipelines.loading import load, load_pool, resolve_base, store_identity
from pipelines.progress import Progress, no_progress
from pipelines.words import several
from stores.fsck import check
from stores.registry import Registry

TEXTS = (
    "The train left the station at noon and reached the coast before dark.",
    "She opened the window, looked at the garden and said nothing for a while.",
    "In 1969 the first people walked on the moon.",
    "To make bread you need flour, water, salt and a little patience.",
    "The committee will meet again next week to discuss the budget.",
    "def add(a, b):\n    return a + b",
    "Once upon a time there was",
    "Yes.",
)
"""Background texts; none comes from a corpus that the project ingests."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    what: str
    verdict: Literal["good", "failed", "skipped"]
    note: str = ""


@dataclass(frozen=True)
class VerifyReport:
    """All checks of a store."""

    snapshot: int | None
    """The live one; None: the registry's database is damaged."""
    checks: tuple[Check, ...]

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return all(one.verdict != "failed" for one in self.checks)


def verify(registry: Registry, *, progress: Progress = no_progress) -> VerifyReport:
    """Return whether stored bytes, base, pools and logits are what they should be."""
    progress("checking stored bytes", 0, 0, "")
    errors = [found for found in check(registry) if found.severity == "error"]
    checks = [Check(one.kind, "failed", f"{one.what}; {one.action}") for one in errors]
    if any(one.what == "database" for one in checks):  # nothing else can be relied on
        return VerifyReport(None, tuple(checks))
    if not errors:
        checks.append(Check("database and the sha256 of every object", "good"))
    progress("checking the base", 0, 0, "")
    source = resolve_base(registry.config.base_id)
    base = load_base(source, dtype=registry.config.dtype, device=registry.device)
    identity = base.identity
    what, note = "sha256 of the base's weights and tokenizer", identity.weights_sha256[:16]
    checks.append(_tried(what, note, identity.check, store_identity(registry), "the store"))
    live = registry.queries.live()
    for state in live.domains:
        note = f"{len(registry.queries.chain(state.version))} segments"
        what = f"pool of {state.domain} {state.label}"
        checks.append(_tried(what, note, load_pool, registry, state.domain, state.version))
    del base  # a second one is loaded with the pools
    try:
        model, tokenizer = load(registry)
    except PeerError as error:
        checks.append(Check("bits of the bare model", "failed", f"no model to compare: {error}"))
    else:
        rows = tokenise(tokenizer, TEXTS)
        checks += compare_with_bare(model, source, rows, progress)
        if model.device.type != CPU:
            checks.append(compare_with_processor(model, source, rows, progress))
    return VerifyReport(live.id, tuple(checks))


def compare_with_bare(
    model: PeerModel, source: str, rows: Sequence[Sequence[int]], progress: Progress = no_progress
) -> list[Check]:
    """Compare the model, no domain active, with the bare model in a fresh process, bit by bit."""
    progress("running the bare model in a fresh process", 0, 0, "")
    bare = run_bare(source, rows, model)
    progress("comparing bits", 0, 0, "")
    named = measure(
        functools.partial(model, domains=[]), rows, functools.partial(model.generate, domains=[])
    )
    with model.disable_pool():
        disabled = measure(model, rows, model.generate)
    everything = range(len(rows))
    checks = [
        _compare("no domain named", bare, named, everything),
        _compare("pools disabled", bare, disabled, everything),
    ]
    found = [read(model, torch.tensor([row]), routing="prompt").entries_PBU.any() for row in rows]
    inactive = [number for number in everything if not found[number]]
    if not inactive:
        note = f"a domain is found in each of {len(rows)} texts"
        return [*checks, Check("bits of the bare model, routed", "skipped", note)]
    routed = measure(functools.partial(model, routing="prompt"), rows, model.generate)
    return [*checks, _compare("routed", bare, routed, inactive)]


def compare_with_processor(
    model: PeerModel, source: str, rows: Sequence[Sequence[int]], progress: Progress = no_progress
) -> Check:
    """Compare what the model writes greedily, no domain named, with the bare model on the CPU.

    Other kernels round otherwise, so bits may differ between devices.
    """
    progress("running the bare model on the processor", 0, 0, "")
    bare = run_bare(source, rows, model, device=CPU)
    forward, generate = (functools.partial(one, domains=[]) for one in (model, model.generate))
    ours = measure(forward, rows, generate)
    equal = sum(
        one["greedy tokens"] == other["greedy tokens"]
        for one, other in zip(bare, ours, strict=True)
    )
    note = f"{equal} of {len(rows)} texts go on alike on {model.device} and on the processor"
    return Check("greedy tokens of the processor", "good" if equal == len(rows) else "failed", note)


def _tried(what: str, note: str, act: Callable[..., object], *parts: Any) -> Check:
    """Return whether something passes, with a note, or its error's line."""
    try:
        act(*parts)
    except PeerError as error:
        return Check(what, "failed", str(error))
    return Check(what, "good", note)


def _compare(
    how: str, bare: list[dict[str, str]], ours: list[dict[str, str]], numbers: Sequence[int]
) -> Check:
    """Return whether the bits of these texts are equal in every call."""
    what = f"bits of the bare model, {how}"
    for number in numbers:
        for call, expected in bare[number].items():
            if (found := ours[number][call]) != expected:
                note = f"text {number + 1} ({call}): {found[:16]}... is not the bare model's "
                return Check(what, "failed", f"{note}{expected[:16]}...")
    note = f"the same in {several(len(numbers), 'text')}, alone, in a batch and with a continuation"
    if others := len(bare) - len(numbers):
        note += f"; in {several(others, 'other text')} a domain is found, which may change the bits"
    return Check(what, "good", note)

"""Proof that a store keeps its promises about bits, by measurement.

The bare model runs in a fresh process that has never loaded this project's code; where no domain is
active, the model with pools must give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from peer_cl.bases import BaseIdentity, load_base
from peer_cl.errors import PeerError
from peer_cl.model import PeerModel
from peer_cl.read import read
from pipelines import bare_logits
from pipelines.batches import tokenise
from pipelines.loading import load, load_pool, resolve_base
from pipelines.progress import Progress, no_progress
from stores.fsck import check
from stores.queries import DomainState
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
    """Return whether stored bytes, base, pools and logits are what they should be.

    Raises:
        InputError: when the base can no longer be loaded at all.
    """
    progress("checking stored bytes", 0, 0, "")
    checks = [*_check_bytes(registry)]
    if any(one.what == "database" for one in checks):  # nothing else can be relied on
        return VerifyReport(None, tuple(checks))
    progress("checking the base", 0, 0, "")
    source = resolve_base(registry.config.base_id)
    checks.append(_check_base(registry, load_base(source).identity))
    live = registry.queries.live()
    checks += [_check_pool(registry, state) for state in live.domains]
    try:
        model, tokenizer = load(registry)
    except PeerError as error:
        checks.append(Check("bits of the bare model", "failed", f"no model to compare: {error}"))
    else:
        checks += compare_with_bare(model, source, tokenise(tokenizer, TEXTS), progress)
    return VerifyReport(live.id, tuple(checks))


def compare_with_bare(
    model: PeerModel, source: str, rows: Sequence[Sequence[int]], progress: Progress = no_progress
) -> list[Check]:
    """Compare the model, no domain active, with the bare model in a fresh process, bit by bit.

    Args:
        model: the model with its pools.
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        progress: called as it goes.
    """
    progress("running the bare model in a fresh process", 0, 0, "")
    bare = bare_logits.run_bare(source, rows, model.config._attn_implementation)
    progress("comparing bits", 0, 0, "")
    named = bare_logits.measure(
        lambda **inputs: model(domains=[], **inputs),
        lambda ids, **options: model.generate(ids, domains=[], **options),
        rows,
    )
    with model.disable_pool():
        disabled = bare_logits.measure(model, model.generate, rows)
    everything = range(len(rows))
    checks = [
        _compare("no domain named", bare, named, everything),
        _compare("pools disabled", bare, disabled, everything),
    ]
    inactive = [number for number in everything if not _is_found(model, rows[number])]
    if not inactive:
        note = f"a domain is found in each of {len(rows)} texts"
        return [*checks, Check("bits of the bare model, routed", "skipped", note)]
    routed = bare_logits.measure(
        lambda **inputs: model(routing="prompt", **inputs), model.generate, rows
    )
    return [*checks, _compare("routed", bare, routed, inactive)]


def _check_bytes(registry: Registry) -> Iterator[Check]:
    """Yield what the store's own check found: database, objects' hashes, references."""
    errors = [found for found in check(registry) if found.severity == "error"]
    for found in errors:
        yield Check(found.kind, "failed", f"{found.what}; {found.action}")
    if not errors:
        yield Check("database and the sha256 of every object", "good")


def _check_base(registry: Registry, identity: BaseIdentity) -> Check:
    """Return whether weights and tokenizer are those that the store was made for."""
    what = "sha256 of the base's weights and tokenizer"
    config = registry.config
    try:
        identity.check(
            BaseIdentity(config.base_weights_sha256, config.base_tokenizer_sha256), "the store"
        )
    except PeerError as error:
        return Check(what, "failed", str(error))
    return Check(what, "good", identity.weights_sha256[:16])


def _check_pool(registry: Registry, state: DomainState) -> Check:
    """Return whether every segment of a live domain, and its router key, load."""
    what = f"pool of {state.domain} {state.label}"
    try:
        pool = load_pool(registry, state.domain, state.version)
    except PeerError as error:
        return Check(what, "failed", str(error))
    return Check(what, "good", f"{len(pool.segments)} segments")


def _is_found(model: PeerModel, row: Sequence[int]) -> bool:
    """Return whether the router finds any domain in a text, given as a prompt."""
    return bool(read(model, torch.tensor([row]), routing="prompt").entries_PBU.any())


def _compare(
    how: str, bare: list[dict[str, str]], ours: list[dict[str, str]], numbers: Sequence[int]
) -> Check:
    """Return whether the bits of these texts are equal in every call."""
    what = f"bits of the bare model, {how}"
    for number in numbers:
        for call, expected in bare[number].items():
            found = ours[number][call]
            if found != expected:
                note = f"text {number + 1} ({call}): {found[:16]}... is not the "
                return Check(what, "failed", f"{note}bare model's {expected[:16]}...")
    return Check(what, "good", f"{len(numbers)} of {len(bare)} texts, {3 * len(numbers)} calls")

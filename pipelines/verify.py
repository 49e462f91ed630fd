"""Proof that a store keeps its promises about bits, from measurement and not from inference.

The bare model runs in a fresh process that has never loaded this project's code; where no pool is
asked, the model with pools must give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from peer_cl.bases import load_base
from peer_cl.errors import PeerError
from peer_cl.pool import BaseIdentity
from peer_cl.signature import Signature
from pipelines import bare_logits
from pipelines.bare_process import run_bare
from pipelines.base_models import resolve_base
from pipelines.batches import tokenise
from pipelines.loading import load_chain
from pipelines.progress import Progress, no_progress
from stores import DomainState, Registry
from stores.doctoring import DATABASE

if TYPE_CHECKING:
    from peer_cl import PeerModel
    from pipelines.store import Store

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
"""Ordinary texts; none comes from a corpus that the project ingests."""

Verdict = Literal["good", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class VerifyReport:
    """All checks of a store."""

    snapshot: int | None
    """The live one; None: the registry is too damaged to tell."""
    checks: tuple[Check, ...]

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return all(check.verdict != "failed" for check in self.checks)


def verify(store: Store, *, progress: Progress = no_progress) -> VerifyReport:
    """Return whether bytes, base, pools and logits are what they should be.

    Args:
        store: the store.
        progress: told what runs.

    Raises:
        InputError: when the base can no longer be loaded at all.
    """
    registry = store.registry
    progress("checking stored bytes", 0, 0, "")
    checks = [*check_bytes(registry)]
    if any(check.what == DATABASE for check in checks):  # no row of it can be relied on
        return VerifyReport(None, tuple(checks))
    progress("checking the base", 0, 0, "")
    source = resolve_base(registry.config.base_id)
    identity = load_base(source).identity
    checks.append(check_base(registry, identity))
    live = registry.live()
    checks += [check_pool(registry, state, identity) for state in live.domains]
    try:
        model, tokenizer = store.load()
    except PeerError as error:
        checks.append(Check("bits of the bare model", "failed", f"no model to compare: {error}"))
    else:
        checks += compare_with_bare(model, source, tokenise(tokenizer, TEXTS), progress)
    return VerifyReport(live.id, tuple(checks))


def check_bytes(registry: Registry) -> Iterator[Check]:
    """Yield what the registry's own check found: sha256 of every object, rows, references."""
    errors = [found for found in registry.doctor() if found.severity == "error"]
    for found in errors:
        yield Check(found.kind, "failed", f"{found.what}; {found.action}")
    if not errors:
        yield Check("registry and the sha256 of every object", "good")


def check_base(registry: Registry, identity: BaseIdentity) -> Check:
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


def check_pool(registry: Registry, state: DomainState, identity: BaseIdentity) -> Check:
    """Return whether every segment of a live domain, and its signature, load tensor by tensor."""
    what = f"pool of {state.domain} {state.label}"
    try:
        chain = registry.chain(state.version)
        segments = load_chain(registry, state.domain, chain, identity)
        Signature.from_bytes(registry.objects.read(chain[-1].signature_object))
    except PeerError as error:
        return Check(what, "failed", str(error))
    masks = f", {len(chain) - len(segments)} masks" if len(chain) > len(segments) else ""
    return Check(what, "good", f"{len(segments)} segments{masks}")


def compare_with_bare(
    model: PeerModel, source: str, rows: Sequence[Sequence[int]], progress: Progress = no_progress
) -> list[Check]:
    """Compare the model, no pool asked, with the bare model in a fresh process, bit by bit.

    Args:
        model: the model with its pools.
        source: what transformers loads as the bare model.
        rows: token ids of texts.
        progress: told what runs.
    """
    progress("running the bare model in a fresh process", 0, 0, "")
    bare = run_bare(source, rows, model.base.config._attn_implementation)
    progress("comparing bits", 0, 0, "")
    everyone = range(len(rows))
    ordered = bare_logits.measure(
        lambda **inputs: model(domains=[], **inputs),
        lambda ids, **options: model.generate(ids, domains=[], **options),
        rows,
    )
    checks = [_compare("no domain named", bare, ordered, everyone)]
    with model.disable_pool():
        disabled = bare_logits.measure(model, model.generate, rows)
    checks.append(_compare("pools disabled", bare, disabled, everyone))
    silent = [number for number in everyone if not _asked(model, rows[number])]
    if model.background is None or not silent:
        note = f"each of {len(rows)} texts asks a pool"
        return [*checks, Check("bits of the bare model, pools by shortlist", "skipped", note)]
    chosen = bare_logits.measure(
        lambda **inputs: model(ask="context", **inputs), model.generate, rows
    )
    return [*checks, _compare("pools by shortlist", bare, chosen, silent)]


def _asked(model: PeerModel, row: Sequence[int]) -> bool:
    """Return whether a text, given as a context, asks any pool."""
    if model.background is None:
        return False
    scores = model.score(torch.tensor([row]), ask="context")
    return bool(scores.entries_PBU.sum() > 0)


def _compare(
    how: str, bare: list[dict[str, str]], ours: list[dict[str, str]], numbers: Sequence[int]
) -> Check:
    """Return whether the bits of these texts are equal in every call."""
    what = f"bits of the bare model, {how}"
    for number in numbers:
        for call, expected in bare[number].items():
            if ours[number][call] != expected:
                note = f"text {number + 1} ({call}): {ours[number][call][:16]}... is not the "
                return Check(what, "failed", f"{note}bare model's {expected[:16]}...")
    return Check(what, "good", f"{len(numbers)} of {len(bare)} texts, {3 * len(numbers)} calls")

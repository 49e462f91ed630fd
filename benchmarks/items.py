"""Many items: what 20,000 facts beside those that were learned do to finding these.

The stream's 800 learned facts are asked among more and more stand-ins: real facts of the same
packages, with their own subjects, and with the relation keys of a learned fact of their relation.
They have no experts: none is needed to be found. Fresh negatives are questions that no fact answers
(`--data FOLDER`: ARC-easy, PIQA, NaturalQuestions as ZsRE's edits have them).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from app.output import show_progress
from benchmarks import corpora
from benchmarks.prompts import batches
from benchmarks.results import Figure
from benchmarks.stream.data import Prepared
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.run import Stream
from peer_cl.items import ItemIndex, RelationStates
from peer_cl.model import PeerModel
from peer_cl.own import Item, OwnExperts
from peer_cl.read import relation_states
from pipelines.batches import tokenise
from pipelines.packages import cache_folder
from pipelines.relations import subject_spellings

COUNTS = (800, 2_000, 5_000, 10_000, 20_000)
NEGATIVES = 200
"""Of each set."""
MOST_OF_DOMAIN = 8_000
"""Stand-ins of one domain: one of the packages has ten times as many."""
REPEATS = 3


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what is found among more and more items; needs the store that `stream` made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks items")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=cache_folder() / "stream")
    options = parser.parse_args(list(arguments))
    with show_progress() as progress:
        stream = Stream(RawFolder(), options.work, progress=progress)
        with stream.store() as store:
            model, tokenizer = store.load()
            stand_ins = _stand_ins(model, tokenizer, stream.prepared)
            return list(_figures(model, tokenizer, stream.prepared, stand_ins, options.data))


def _stand_ins(model: PeerModel, tokenizer: Any, domains: Sequence[Prepared]) -> OwnExperts:
    """Return items of all facts of the packages that are not among the learned ones, shuffled."""
    items, keys = [], []
    for one in domains:
        index = model.pool(one.name).items
        places = {item.item_id: number for number, item in enumerate(index.items)}
        relations = {fact.relation: places[fact.document_id] for fact in one.facts}
        # A second answer to one question would be no wrong item.
        others = {(fact.subject, fact.relation): fact for fact in corpora.candidates(one.name)}
        for fact in one.facts:
            others.pop((fact.subject, fact.relation), None)
        chosen = [fact for (_, relation), fact in others.items() if relation in relations]
        random.Random(0).shuffle(chosen)
        for fact in chosen[:MOST_OF_DOMAIN]:
            items.append(Item(fact.document_id, subject_spellings(fact.subject, tokenizer), 0))
            keys.append(index.relations[relations[fact.relation]])
    order = list(range(len(items)))
    random.Random(0).shuffle(order)
    return OwnExperts(
        [items[n] for n in order],
        torch.stack([keys[n] for n in order]),
        host_layers=(0,),
        width=model.hooks.width,
        num_experts=0,
    )


@torch.no_grad()
def _figures(
    model: PeerModel,
    tokenizer: Any,
    domains: Sequence[Prepared],
    stand_ins: OwnExperts,
    data: Path,
) -> Iterator[Figure]:
    asked = [(q, one.asked[key]) for one in domains for key, q in one.questions.items()]
    questions = [q.ids[: q.num_prompt] for q, _ in asked]
    negatives = list(_negatives(tokenizer, data))
    every = [own for one in domains for own in model.pool(one.name).own_experts()]
    learned = [own for own in every if not own.texts]  # facts; no question repeats a passage
    num_learned = sum(len(own.items) for own in learned)
    base_seconds, read = _read(model, [*questions, *negatives])
    num_tokens = sum(map(len, [*questions, *negatives]))
    first: dict[str, float] = {}
    for count in COUNTS:
        more = count - num_learned
        if more > len(stand_ins.items):
            continue
        index = ItemIndex([*learned, *([stand_ins.at(range(more))] if more > 0 else [])])
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            found = _nearest(index, read)
            times.append(time.perf_counter() - began)
        right = {
            wording: fmean(
                found.get(n, ("", 0.0))[0] == fact.document_id
                for n, (q, fact) in enumerate(asked)
                if q.wording == wording
            )
            for wording in ("taught", "paraphrase")
        }
        space = model.background.relations if model.background is not None else None
        least = 1.0 if space is None else space.threshold
        scores = [found.get(len(asked) + n, ("", -1.0))[1] for n in range(len(negatives))]
        values = {
            "right item first, paraphrase (share)": right["paraphrase"],
            "right item first, taught (share)": right["taught"],
            "false alarms on fresh questions (share)": fmean(s >= least for s in scores),
            "base and search (ms a token)": 1000 * (base_seconds + median(times)) / num_tokens,
            "search alone (ms a token)": 1000 * median(times) / num_tokens,
        }
        first = first or values
        for name, value in values.items():
            yield Figure(f"{count:,} items: {name}", value)
    last = f"{count:,} items against {num_learned}"
    yield Figure(
        f"{last}: time a token (ratio)",
        values["base and search (ms a token)"] / first["base and search (ms a token)"],
        most=1.2,
    )
    lost = first["right item first, paraphrase (share)"]
    lost -= values["right item first, paraphrase (share)"]
    yield Figure(f"{last}: right first lost, paraphrase (share)", lost, most=0.10)
    alarms = values["false alarms on fresh questions (share)"]
    yield Figure(f"{last}: false alarms (share)", alarms, most=0.05)
    own = learned[0]
    size = sum(one[0].numel() * 2 for one in (own.down_ILRD, own.up_ILRD, own.relations_IKE))
    yield Figure("bytes an item, keys included", float(size), most=200_000.0)


Read = list[tuple[list[int], torch.Tensor, torch.Tensor, RelationStates]]
"""Of each batch the numbers of its prompts, their ids and lengths, and their states."""


def _read(model: PeerModel, prompts: Sequence[Sequence[int]]) -> tuple[float, Read]:
    """Return the seconds that the base takes for prompts, and what it makes of them."""
    seconds, read = 0.0, []
    for group, ids_BT, mask_BT in batches(prompts):
        began = time.perf_counter()
        states = relation_states(model, ids_BT, mask_BT)
        seconds += time.perf_counter() - began
        if states is not None:
            read.append((group, ids_BT, mask_BT.sum(1), states))
    return seconds, read


def _nearest(index: ItemIndex, read: Read) -> dict[int, tuple[str, float]]:
    """Return each prompt's nearest item and its score, whatever it is."""
    return {
        group[one.row]: (index.items[one.item].item_id, one.score)
        for group, ids_BT, lengths_B, states in read
        for one in index.find(states, ids_BT, lengths_B, is_given=True)
    }


def _negatives(tokenizer: Any, data: Path) -> Iterator[list[int]]:
    for name, column, prefix in (
        ("arc_easy", "query", "Question: "),
        ("piqa", "query", "Question: "),
        ("zsre_1000", "locality_prompt", "nq question: "),
    ):
        lines = (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:NEGATIVES]
        texts = [json.loads(line)[column].strip().removeprefix(prefix) for line in lines]
        yield from tokenise(tokenizer, texts)

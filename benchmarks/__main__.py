"""python -m benchmarks NAME [OPTIONS]: measure, print a table, and keep it in docs/results/."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.results import table, write_results
from peer_cl.errors import PeerError, StateError, unknown_name

BENCHMARKS = {
    "stream": "eight domains learned in turn, ours beside what people know",
    "asking": "people's own words to `ask`, about organisations that nobody knows",
    "reader": "how the reader of a base is taught, and what it then tells",
    "start": "where own experts begin to learn, made once for a base",
    "answers": "questions that people asked about articles: memory, reading, both, RAG",
    "pages": "thirty pages of pdf, docx, html, md and csv: how long they take",
    "lora": "one LoRA a corpus beside it: what it answers, and how long it takes",
    "edits": "1,000 facts of ZsRE learned one after another, and what else they change",
    "items": "what 20,000 facts beside the learned ones do to finding these",
    "prompts": "general prompts, sentences that only name a subject, near-domain text",
    "prose": "how often nothing is found in ordinary prose",
    "ability": "ARC-easy, PIQA, HellaSwag and LAMBADA beside a store, by lm-evaluation-harness",
    "efficiency": "routing efficiency at 128 tokens, and after 32 tokens of context",
    "provenance": "whether the experts that a document owns hold what it taught",
    "erase": "how long it takes until a document is gone",
    "speed": "the layer beside PEER-pytorch, a model beside its base, acts, commands",
    "gpu": "the same on an accelerator",
    "claims": "PEER's own claims: small language models from scratch, their feed-forwards replaced",
    "size": "the code in figures: lines, words, files that an act runs through",
}
"""By module name; each has `measure(arguments) -> list[Figure]`."""
_FOLDERS = ("--data", "--work", "--store")
"""Options whose values are somebody's folders."""


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmark, or list them all."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [OPTIONS]")
        for name, what in BENCHMARKS.items():
            print(f"  {name:11} {what}")
        return 0
    name = arguments[0]
    try:
        if name not in BENCHMARKS:
            raise unknown_name("benchmark", name, BENCHMARKS)
        module = importlib.import_module(f"benchmarks.{name}")
        figures = module.measure(arguments[1:])
        if not figures:
            raise StateError("the store holds nothing to measure: ingest a domain first")
        command = typed(arguments)
        print(table(figures, command))
        # What is learned makes another measurement, with results of its own.
        part = ["facts"] if "--facts" in arguments else []
        part += [
            *_values(arguments, "--study"),
            *(f"seed{seed}" for seed in _values(arguments, "--seed")),
            *_values(arguments, "--part"),
            *_values(arguments, "--base"),
            *_values(arguments, "--encoder"),
            *(f"memory-{world}" for world in _values(arguments, "--memory")),
        ]
        kept = "-".join([name, *part])
        print(f"kept in {write_results(kept, figures, command)}")
    except PeerError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def typed(arguments: Sequence[str]) -> str:
    """Return the command that was typed, folders left out.

    Example:
        >>> typed(["answers", "--data", "/home/ada/squad", "--articles", "3"])
        'python -m benchmarks answers --data FOLDER --articles 3'
    """
    pairs = zip(["", *arguments], arguments, strict=False)
    shown = ["FOLDER" if before in _FOLDERS else one for before, one in pairs]
    return " ".join(["python -m benchmarks", *shown])


def _values(arguments: Sequence[str], option: str) -> list[str]:
    return [value for one, value in pairwise(arguments) if one == option]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

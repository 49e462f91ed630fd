"""What each method is called in tables and pictures."""

from __future__ import annotations

from benchmarks.stream.matrices import FORCED, GATE, GUIDED, NAMED
from benchmarks.stream.pieces import APART, JOINT, POOLS, SPARING

SPARES = {SPARING: ", ordinary text spared as by ours"}
WORDS = {
    POOLS: "ours",
    f"{POOLS} {NAMED}": "ours, names count",
    f"{POOLS} {GUIDED}": "ours, names count, answers guided",
    f"{POOLS} {FORCED}": "ours, right pool forced on",
    f"{POOLS} {GATE}": "ours, behind the best hard gate",
    "lora": "LoRA r16, sequential",
    "lora-replay": "LoRA r16, 10 % replay",
    "osf": "OSF",
    "full": "full finetuning",
    "sparse": "sparse memory finetuning, adapted",
    "rag": "RAG",
    **{
        f"{name}{way}": f"one LoRA r{rank} a domain{SPARES.get(name, '')}, {how}"
        for name, rank in APART.items()
        for way, how in (
            ("", "our mixture"),
            (f" {NAMED}", "our mixture, names count"),
            (f" {GUIDED}", "our mixture, names count, answers guided"),
            (f" {FORCED}", "right one forced on"),
            (f" {GATE}", "behind the best hard gate"),
        )
    },
    JOINT: "one LoRA, all domains at once",
}
"""By method, and way to use its branches."""

"""How fast it is: the PEER layer beside PEER-pytorch, a store's model beside its bare base, acts
among 1,000 domains, and commands; and what memory an ingest takes that is ten times as large.

Rivals take turns in one process, after one turn that is not counted; figures are medians, and
ratios of medians. Threads are pinned (`--threads`). `--part` measures one part; "store" and
"command" need a store that holds something (`--store FOLDER`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.corpora.questions import general_prompts
from benchmarks.results import Figure
from peer_cl.devices import pick_device
from peer_cl.errors import StateError
from peer_cl.layer import PeerLayer, PoolShape
from peer_cl.model import PeerModel
from peer_cl.own import Item, OwnExperts, load_own
from peer_cl.pool import ExpertPool, Segment
from peer_cl.read import read
from peer_cl.router import DomainWords, RouterKey, TokenCounts
from peer_cl.sparse import PoolOptimiser
from pipelines import init_store, open_store
from pipelines.batches import tokenise
from pipelines.erase import erase
from pipelines.growing import group_of
from pipelines.loading import index_search, resolve_base, store_identity
from pipelines.passage_training import passage_host_layers
from pipelines.settings import TrainingSettings, freed_memory_kept
from stores.config import StoreConfig
from stores.records import NewDocument, NewSegment
from stores.registry import Registry

PARTS = ("layer", "own", "store", "domains", "memory", "command")
TURNS = 15
WIDTH, HEADS, TOP_K, KEY_WIDTH = 576, 8, 16, 128
FEW_ITEMS, MANY_ITEMS, ITEMS_A_FILE = 13, 15_000, 250
"""Passages of 80 own experts each: some 1,000 experts, and 1,200,000."""
NUM_DOMAINS, ITEMS_A_DOMAIN, OWN_EXPERTS = 1_000, 10, 80
DOCUMENTS = (50, 500)
SCORED_TOKENS, PROMPT_TOKENS, NEW_TOKENS = 128, 32, 32
Turn = Callable[[], object]


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of some parts (`--part`, default: all)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--store", type=Path, default=Path("knowledge"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(options.threads)
    figures: list[Figure] = []
    with freed_memory_kept():  # for all rivals alike
        for part in options.part or PARTS:
            if part == "layer":
                figures += _layer()
            elif part == "own":
                figures += _own()
            elif part == "store":
                figures += _store(options.store)
            elif part == "domains":
                figures += [*_live(), *_acts()]
            elif part == "memory":
                figures += _memory()
            else:
                figures += _commands(options.store, options.threads)
    return figures


def in_turn(turns: Mapping[str, Turn], num: int = TURNS) -> dict[str, float]:
    """Return the median seconds of some acts, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(num + 1):
        for name, act in turns.items():
            began = time.perf_counter()
            act()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return {name: median(found[1:]) for name, found in seconds.items()}


# The layer


def _ours(num_experts: int) -> PeerLayer:
    shape = PoolShape(num_experts=num_experts, num_heads=HEADS, top_k=TOP_K, key_width=KEY_WIDTH)
    return PeerLayer(width=WIDTH, shape=shape)


def _theirs(num_experts: int) -> nn.Module:
    """Return PEER-pytorch's layer as the paper has it: a softmax over what a head chose."""
    from PEER_pytorch import PEER

    layer: nn.Module = PEER(
        dim=WIDTH,
        heads=HEADS,
        num_experts=num_experts,
        num_experts_per_head=TOP_K,
        dim_key=KEY_WIDTH // 2,
        non_competing_scores=False,
    )
    return layer


def _step(layer: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor) -> Turn:
    def act() -> None:
        layer(inputs).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return act


def _layer() -> Iterator[Figure]:
    torch.manual_seed(0)
    device = pick_device()
    ours, theirs = _ours(16_384).to(device), _theirs(16_384).to(device)
    for num_tokens in (128, 2_048):
        inputs = torch.randn(num_tokens, WIDTH, device=device)
        with torch.no_grad():
            found = in_turn(
                {"ours": partial(ours, inputs), "theirs": partial(theirs, inputs[None])}
            )
        said = f"forward, 16,384 experts, {num_tokens:,} tokens"
        yield Figure(f"{said} (ms)", 1000 * found["ours"])
        yield Figure(
            f"{said}: times as fast as PEER-pytorch", found["theirs"] / found["ours"], least=1.5
        )
    inputs = torch.randn(128, WIDTH, device=device)
    ours, theirs = _ours(65_536).to(device), _theirs(65_536).to(device)
    found = in_turn(
        {
            "ours": _step(ours, PoolOptimiser(ours.parameters()), inputs),
            "theirs": _step(theirs, torch.optim.AdamW(theirs.parameters()), inputs[None]),
        }
    )
    said = "forward, backward and step, 65,536 experts, 128 tokens"
    yield Figure(f"{said} (ms)", 1000 * found["ours"])
    yield Figure(
        f"{said}: times as fast as PEER-pytorch with AdamW",
        found["theirs"] / found["ours"],
        least=6.0,
    )
    del ours, theirs
    small, large = _ours(16_384).to(device), _ours(1_048_576).to(device)
    found = in_turn(
        {
            "small": _step(small, PoolOptimiser(small.parameters()), inputs),
            "large": _step(large, PoolOptimiser(large.parameters()), inputs),
        }
    )
    said = "forward, backward and step, 1,048,576 experts, 128 tokens"
    yield Figure(f"{said} (ms)", 1000 * found["large"])
    yield Figure(f"{said}: times that of 16,384", found["large"] / found["small"], most=2.5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    yield Figure("most memory of the process so far (GB)", peak, most=16.0)
    # Down and up of the chosen rows are read twice, and written with their gradients.
    num_bytes = 4 * WIDTH * 128 * HEADS * TOP_K
    limit = 1000 * 8 * num_bytes / _bandwidth(device)
    yield Figure(f"{said}: limit, bytes of touched experts over measured bandwidth (ms)", limit)


def _bandwidth(device: torch.device) -> float:
    """Return the bytes a second that a sum over a large tensor reads."""
    large = torch.ones(64_000_000, device=device)
    return 4 * len(large) / in_turn({"sum": large.sum})["sum"]


# Own experts


def _own() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        with init_store(Path(folder) / "store") as store:
            few, tokenizer = store.load_base()
        many = _again(few)
        texts = _texts(len(tokenizer))
        few.add_pool("own", ExpertPool("own", own=_random_own(few, texts[:FEW_ITEMS], folder)))
        lists = _random_own(few, texts, folder)
        held = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e9
        before = _resident_files()
        many.add_pool("own", ExpertPool("own", own=lists))
        ids_BT = texts[0][None].long()  # repeats an item, which is then active
        for model in (few, many):
            assert read(model, ids_BT).items["own"], "the text must find its item"  # noqa: S101
        found = in_turn(
            {"few": partial(read, few, ids_BT), "many": partial(read, many, ids_BT)}, num=15
        )
        num = sum(one.down_ILRD[..., 0].numel() for one in lists)
        said = f"{num:,} own experts, {held:.1f} GB in files"
        yield Figure(f"{said}: a token of a text that finds one (ms)",
                     1000 * found["many"] / ids_BT.shape[1])  # fmt: skip
        yield Figure(
            f"{said}: times that of {FEW_ITEMS * num // len(texts):,}",
            found["many"] / found["few"],
            most=1.2,
        )
        yield Figure(f"{said}: of files, resident afterwards (GB)", _resident_files() - before)


def _again(model: PeerModel, **options: Any) -> PeerModel:
    """Return another model on a model's base, without pools."""
    return PeerModel(
        model.base,
        host_layers=model.host_layers,
        identity=model.identity,
        background=model.background,
        special_ids=model.special_ids.tolist(),
        **options,
    )


def _texts(num_tokens: int) -> list[Tensor]:
    """Return random texts of a hundred tokens, the start token first."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(100, num_tokens, (MANY_ITEMS, 101), generator=generator).int()
    drawn[:, 0] = 0
    return [*drawn]


def _random_own(model: PeerModel, texts: Sequence[Tensor], folder: str) -> list[OwnExperts]:
    """Return random own experts of passages, mapped from files."""
    layers, width = passage_host_layers(len(model.hooks.layers)), model.hooks.width
    settings, found = TrainingSettings(), list[OwnExperts]()
    generator = torch.Generator().manual_seed(1)
    for begin in range(0, len(texts), ITEMS_A_FILE):
        some = texts[begin : begin + ITEMS_A_FILE]
        shape = (len(some), len(layers), settings.passage_experts, width)
        down, up = (torch.randn(shape, generator=generator).bfloat16() / 30 for _ in range(2))
        own = OwnExperts(
            [Item(str(begin + number)) for number in range(len(some))],
            torch.empty(len(some), 0, 0),
            some,
            [torch.zeros(1, 384).half() for _ in some],
            host_layers=layers,
            width=width,
            num_experts=settings.passage_experts,
            weights=(down, up),
        )
        path = Path(folder) / f"{len(texts)}-{begin}.safetensors"
        path.write_bytes(own.to_bytes(model.identity))
        found.append(load_own(path, model.identity))
    return found


def _resident_files() -> float:
    """Return how much of mapped files lies in memory, GB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("RssFile:")[1].split()[0]) / 1e6


# A store's model


def _store(folder: Path) -> Iterator[Figure]:
    with open_store(folder) as store:
        model, tokenizer = store.load()
        queries = store.registry.queries
        learned = [
            (state.domain, queries.document_text(one))
            for state in queries.live().domains
            for one in queries.documents(state.domain, split="train", kind="text")
            if one.text_object is not None
        ]
    yield from _beside_base(model, _general_text(tokenizer), "where nothing is found", 1.10, 1.10)
    long = (
        (domain, torch.tensor(tokenise(tokenizer, [text])))
        for domain, text in sorted(
            learned, key=lambda one: hashlib.sha256(one[1].encode()).digest()
        )
    )
    domain, own_BT = next(
        (domain, ids_BT[:, :SCORED_TOKENS])
        for domain, ids_BT in long
        if ids_BT.shape[1] > SCORED_TOKENS
    )
    model.set_pool(domain)
    yield from _beside_base(model, own_BT, "in a learned document", 2.2, 1.25)


def _beside_base(
    model: PeerModel, ids_BT: Tensor, said: str, most_scoring: float, most_decoding: float
) -> Iterator[Figure]:
    base = model.base
    mask_BT = torch.ones_like(ids_BT[:, :PROMPT_TOKENS])
    plain = {"do_sample": False, "attention_mask": mask_BT, "pad_token_id": 0, "eos_token_id": None}

    def writes(one: Any, num: int, **more: Any) -> Turn:
        given = {**plain, **more, "max_new_tokens": num, "min_new_tokens": num}
        return lambda: one.generate(ids_BT[:, :PROMPT_TOKENS], **given)

    @torch.no_grad()
    def read_by_base() -> object:
        return base(ids_BT, use_cache=False).logits

    found = in_turn(
        {
            "score": lambda: model(ids_BT),
            "base scores": read_by_base,
            "first": writes(model, 1),
            "base's first": writes(base, 1),
            "all": writes(model, 1 + NEW_TOKENS),
            "base's all": writes(base, 1 + NEW_TOKENS),
        }
    )
    yield Figure(
        f"{said}: scoring {SCORED_TOKENS} tokens, times the bare base",
        found["score"] / found["base scores"],
        most=most_scoring,
    )
    yield Figure(
        f"{said}: {PROMPT_TOKENS} tokens and one new one, times the bare base",
        found["first"] / found["base's first"],
    )
    own, bare = found["all"] - found["first"], found["base's all"] - found["base's first"]
    yield Figure(
        f"{said}: a token behind the prompt, times the bare base", own / bare, most=most_decoding
    )


# Acts among many domains


def _live() -> Iterator[Figure]:
    """Yield what scoring takes beside many live domains, where none is found."""
    with tempfile.TemporaryDirectory() as folder, init_store(Path(folder) / "store") as store:
        one, tokenizer = store.load_base()
    many = _again(one, capacity=NUM_DOMAINS)
    generator = torch.Generator().manual_seed(0)
    for number in range(NUM_DOMAINS):
        pool = _random_pool(many, len(tokenizer), generator)
        many.add_pool(f"domain-{number}", pool)
        if not number:
            one.add_pool("domain-0", pool)
    for model in (one, many):
        model.search = index_search(model)
    ids_BT = _general_text(tokenizer)
    found = in_turn({"one": partial(read, one, ids_BT), "many": partial(read, many, ids_BT)})
    yield Figure(
        f"scoring {SCORED_TOKENS} tokens among {NUM_DOMAINS:,} domains, times among one",
        found["many"] / found["one"],
        most=1.1,
    )


def _random_pool(model: PeerModel, num_tokens: int, generator: torch.Generator) -> ExpertPool:
    """Return a small random pool, with a key of a thousand words and four facts."""

    def drawn(*shape: int) -> Tensor:
        return torch.randint(100, num_tokens, shape, generator=generator)

    assert model.background is not None  # noqa: S101
    shape = PoolShape(num_experts=16, num_heads=1, top_k=4, key_width=8)
    segment = Segment(width=model.hooks.width, host_layers=model.host_layers[::9], shape=shape)
    centroids_CD = model.background.centroids_CD[::8] + 0.3 * torch.randn(
        32, model.hooks.width, generator=generator
    )
    counts = TokenCounts.of([[*drawn(2_000).tolist()]])
    key = RouterKey(centroids_CD, 0.0, words=(DomainWords(counts, 1.0),))
    items = [Item(str(n), (tuple(drawn(3).tolist()),), 4) for n in range(4)]
    assert model.background.relations is not None  # noqa: S101
    width = len(model.background.relations.offset_E)
    own = OwnExperts(
        items,
        torch.randn(4, 3, width, generator=generator),
        host_layers=(model.host_layers[-1],),
        width=model.hooks.width,
        num_experts=8,
    )
    return ExpertPool("", [segment], key, [own])


def _general_text(tokenizer: Any) -> Tensor:
    """Return token ids (1, T) of text that no domain teaches."""
    rows = tokenise(tokenizer, [one.prompt for one in general_prompts()])
    return torch.tensor([[token for row in rows for token in row[1:]][:SCORED_TOKENS]])


def _acts() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        config = StoreConfig(
            base_id="invented",
            base_weights_sha256="a" * 64,
            base_tokenizer_sha256="b" * 64,
            architecture="llama",
            num_layers=4,
            width=WIDTH,
            host_layers=(0, 2),
            state_layer=2,
            capacity=NUM_DOMAINS,
        )
        with Registry.create(Path(folder) / "store", config, b"background", "ann") as registry:
            names = [f"domain-{number}" for number in range(NUM_DOMAINS)]
            items = {name: _add(registry, name)[0] for name in names}
            twice, others = iter(names[: TURNS + 1]), iter(names[TURNS + 1 :])
            for name in names[: TURNS + 1]:  # which have a version to roll back to
                _add(registry, name)
            acts: dict[str, Turn] = {
                "roll back": lambda: registry.roll_back_domain(next(twice), "v1", "ann"),
                "freeze": lambda: registry.switch("freeze", next(others), "ann"),
                "remove": lambda: registry.remove(next(others), "ann"),
                f"erase one of {ITEMS_A_DOMAIN} documents": lambda: erase(
                    registry, name := next(others), items[name], author="ann"
                ),
            }
            for act, seconds in in_turn(acts).items():
                yield Figure(f"{act}, among {NUM_DOMAINS:,} domains (ms)", 1000 * seconds, most=100)


def _add(registry: Registry, domain: str) -> list[str]:
    """Add a segment of invented documents to a domain, with own experts, and return their ids."""
    texts = [f"{domain} {number} {time.monotonic_ns()}" for number in range(ITEMS_A_DOMAIN)]
    ids = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    documents = [
        NewDocument(
            document_id=document_id,
            title=text,
            source=f"{domain}.txt",
            split="train",
            num_tokens=10,
            near_group=document_id,
            text_object=stored,
        )
        for document_id, text, stored in zip(
            ids, texts, registry.objects.put_texts(texts), strict=True
        )
    ]
    identity, shape = store_identity(registry), (len(ids), 2, OWN_EXPERTS, WIDTH)
    own = OwnExperts(
        [Item(document_id) for document_id in ids],
        torch.empty(len(ids), 0, 0),
        [torch.arange(10).int()] * len(ids),
        [torch.zeros(1, 384).half()] * len(ids),
        host_layers=registry.config.host_layers,
        width=WIDTH,
        num_experts=OWN_EXPERTS,
        weights=(torch.zeros(shape).bfloat16(), torch.zeros(shape).bfloat16()),
    )
    state = registry.queries.live().state(domain)
    segment = NewSegment(
        domain=domain,
        objects={
            "shared.0": registry.objects.put_bytes(domain.encode()),
            f"passages.{group_of(ids[0])}": registry.objects.put_bytes(own.to_bytes(identity)),
        },
        host_layers=registry.config.host_layers,
        num_experts=16,
        size_bytes=1,
        num_tokens=10,
        parent=None if state is None else state.version,
        documents=documents,
        config={"num_shards": 1},
    )
    registry.add_segment(segment, "ann")
    return ids


# Memory

_INGEST = """
import random, sys
from pipelines import init_store
from pipelines.settings import TrainingSettings
folder, num = sys.argv[1], int(sys.argv[2])
draw = random.Random(num)
words = ["".join(draw.choices("abcdefghijklmnop", k=5)) for _ in range(5_000)]
texts = [{"text": " ".join(draw.choices(words, k=30)) + "."} for _ in range(num)]
with init_store(f"{folder}/store-{num}", base="smollm2") as store:
    store.ingest("words", texts, settings=TrainingSettings(passage_readings=1, study_questions=0))
"""


def _memory() -> Iterator[Figure]:
    """Yield what memory learning takes, beside the default base."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_peak(sys.executable, "-c", _INGEST, folder, str(num)) for num in DOCUMENTS)
    yield Figure(f"ingest of {DOCUMENTS[0]:,} documents: most memory, files left out (GB)", few)
    yield Figure(f"ingest of {DOCUMENTS[1]:,} documents: times that", many / few, most=1.1)


def _peak(*command: str) -> float:
    """Return the most memory that a command takes, but for mapped files, GB."""
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(OSError, IndexError):  # it ends meanwhile
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) / 1e6)
            time.sleep(0.1)
    if process.returncode:
        raise StateError(f"an ingest failed with exit code {process.returncode}")
    return peak


# Commands

_BARE = """
import sys, torch, transformers
torch.set_num_threads(int(sys.argv[2]))
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("What is known about it?", return_tensors="pt")
print(model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0))
"""


def _commands(folder: Path, threads: int) -> Iterator[Figure]:
    with open_store(folder) as store:
        source = resolve_base(store.registry.config.base_id)
        model, _ = store.load()
        every = (
            question
            for name in model.active_pools
            for item in model.pool(name).items.items
            for question, _, _ in item.questions
        )
        learned = next(every, None)
    if learned is None:
        raise StateError(f"the store in {folder} has learned no question: ingest a text first")
    del model
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def runs(*command: str) -> Turn:
        def act() -> None:
            done = subprocess.run(command, check=True, capture_output=True, env=environment)
            assert done.stdout, f"{command} printed nothing"  # noqa: S101

        return act

    def begins(*command: str) -> Turn:
        """Run a command until it prints."""

        def act() -> None:
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                assert process.stdout is not None  # noqa: S101
                assert process.stdout.read(1), f"{command} printed nothing"  # noqa: S101
                process.kill()

        return act

    cli = (sys.executable, "-c", "import sys; from app.cli import main; sys.exit(main())")
    store_of = ("--store", str(folder))
    found = in_turn(
        {
            "help": runs(*cli, "--help"),
            "domains": runs(*cli, "domains", *store_of),
            "ask": begins(*cli, "ask", learned, *store_of),
            "ask, nothing found": begins(*cli, "ask", "What is known about it?", *store_of),
            "bare": begins(sys.executable, "-c", _BARE, source, str(threads)),
        },
        num=5,
    )
    yield Figure("peer-cl --help (s)", found["help"], most=0.5)
    yield Figure("peer-cl domains (s)", found["domains"], most=0.5)
    yield Figure("peer-cl ask, a learned question, first words (s)", found["ask"])
    yield Figure("peer-cl ask, nothing found, first words (s)", found["ask, nothing found"])
    yield Figure("the bare base loaded by transformers, one token (s)", found["bare"])
    for what in ("ask", "ask, nothing found"):
        yield Figure(
            f"peer-cl {what}: first words, times loading the bare base and writing one token",
            found[what] / found["bare"],
            most=1.5,
        )

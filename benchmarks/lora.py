"""One LoRA a corpus, of as many numbers as the first version's pools: what it answers, and when.

Part "articles": four of the articles of `answers`, which must have run in the same `--work`. A LoRA
an article reads the rows that its passages read, and answers where our router finds one of them.

Part "domains": domains of the stream. How long an ingest takes against training one LoRA on the
same documents and facts, what each foresees of unseen text and of other prose, and which
paraphrases it answers. Part "hurry": the same of an ingest in a hurry.

PEFT's LoRA on all linear layers, rank 27; AdamW; the rate that two domains in a row chose
(docs/LOG.md).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor
from torch.nn import functional

from app.output import show_progress
from benchmarks import corpora
from benchmarks.answers import (
    ASKED,
    Article,
    KeptAnswers,
    contains,
    read_articles,
    sample,
    write_line,
)
from benchmarks.prompts import batches, row_logits
from benchmarks.results import Figure
from benchmarks.stream.data import Prepared, prepare_domain
from peer_cl.bases import Base, load_base
from peer_cl.errors import StateError
from peer_cl.read import read, token_log_probs
from pipelines import init_store
from pipelines.background import load_background
from pipelines.batches import Row, num_shared, pad, pieces, plan_steps, tokenise
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact, changed_prompt
from pipelines.forms import question_ids
from pipelines.growing import Chain, prepare, studied
from pipelines.loading import SMOLLM2, resolve_base
from pipelines.packages import cache_folder
from pipelines.passage_training import Passage
from pipelines.progress import Progress
from pipelines.recall import Question, answer, is_right
from pipelines.settings import TrainingSettings, cast_once, resolve_precision

RANK, RATE, WARMUP_STEPS = 27, 1e-3, 10
FACT_PASSES, ARTICLE_PASSES, ANSWER_WEIGHT = 10, 5, 4.0
"""Five readings of an article take about as long as ours."""
ARTICLES, DOMAINS = 4, 1
HURRIED = TrainingSettings(
    own_steps=12,
    passage_readings=0,
    study_questions=0,
    background_kl_weight=0,
    background_output_weight=0,
)
"""Half the steps of a fact, passages that are read instead of learned, and shared experts that, as
a LoRA, see nothing but what they learn."""
PROSE_TEXTS, PROSE_TOKENS = 8, 256
"""Of each source of background text for measuring."""


@dataclass(frozen=True)
class Weighed(Row):
    """A row that is learned, with how much each of its tokens counts but for the first."""

    weights: tuple[float, ...]


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of one part (`--part`); `--data` and `--work` are those of `answers`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lora")
    parser.add_argument("--part", choices=("articles", "domains", "hurry"), required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=cache_folder() / "answers")
    parser.add_argument("--articles", type=int, default=ARTICLES)
    parser.add_argument("--domains", type=int, default=DOMAINS)
    options = parser.parse_args(list(arguments))
    with show_progress() as progress:
        if options.part != "articles":
            names = corpora.NAMES[: options.domains]
            settings = HURRIED if options.part == "hurry" else TrainingSettings()
            return list(_domains(names, settings, progress))
        if options.data is None:
            parser.error("--part articles needs --data FOLDER, with squad_stream.jsonl")
        articles = read_articles(options.data / "squad_stream.jsonl")[: options.articles]
        return list(_articles(articles, options.work / "built-in-0", progress))


# Training one


def _train(
    base: Base, rows: Sequence[Weighed], steps: Sequence[Sequence[int]], progress: Progress
) -> Any:
    """Return the base with a LoRA that was trained on rows."""
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )

    def rate(step: int) -> float:
        return min((step + 1) / WARMUP_STEPS, 1 - step / len(steps))

    is_half = resolve_precision("auto", torch.device("cpu")) == "bf16"
    with cast_once(base.model, "bf16" if is_half else "fp32"):
        # Inside: a LoRA's own matrices are trained and must not be cast once.
        model: Any = peft.get_peft_model(base.model, config).eval()
        trained = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        for number, step in enumerate(steps, start=1):
            ids_BT, mask_BT = pad([rows[one].ids for one in step], pad_id=0)
            weights_BT = torch.zeros(ids_BT.shape)
            for place, one in enumerate(step):
                weights_BT[place, 1 : len(rows[one].ids)] = torch.tensor(rows[one].weights)
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT).logits
            is_weighed_BT = weights_BT[:, 1:] > 0
            losses_X = functional.cross_entropy(
                logits_BTV[:, :-1][is_weighed_BT].float(),
                ids_BT[:, 1:][is_weighed_BT],
                reduction="none",
            )
            weights_X = weights_BT[:, 1:][is_weighed_BT]
            loss = (losses_X * weights_X).sum() / weights_X.sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            progress("training a LoRA", number, len(steps), f"loss {float(loss.detach()):.2f}")
    return model


def _text_row(ids: Sequence[int]) -> Weighed:
    return Weighed("", tuple(ids), (1.0,) * (len(ids) - 1))


def _answer_row(prompt: Sequence[int], rest: Sequence[int], prompt_weight: float) -> Weighed:
    weights = (prompt_weight,) * (len(prompt) - 1) + (ANSWER_WEIGHT,) * len(rest)
    return Weighed("", (*prompt, *rest), weights)


# Articles


def _articles(articles: Sequence[Article], place: Path, progress: Progress) -> Iterator[Figure]:
    kept = KeptAnswers(place / "answers.jsonl").found
    path, settings = resolve_base(SMOLLM2), TrainingSettings()
    hits: dict[str, list[bool]] = {"memory": [], "LoRA": []}
    for article in articles:
        asked = sample(article.questions, ASKED)
        if any(one.key not in kept for one in asked):
            raise StateError(
                f"{place} lacks answers about {article.name}: run `python -m benchmarks answers` "
                "there first"
            )
        base = load_base(path)
        rows = [row for one in _passages(base, article, settings) for row in _study_rows(one)]
        steps = plan_steps(rows, ARTICLE_PASSES, settings.tokens_per_step, seed=0)
        model = _train(base, rows, steps, progress)
        for one in asked:
            said = kept[one.key]
            hits["memory"].append(contains(said.memory, one.answer))
            # Another article's LoRA would answer what is found there: it says nothing of this one.
            is_own = said.found in article.passages
            ids = question_ids(base.tokenizer, one.question)[0]
            told = write_line(model, base.tokenizer, ids) if is_own else ""
            hits["LoRA"].append(contains(told, one.answer))
            progress(f"asking {article.name}", len(hits["LoRA"]), len(asked) * len(articles), "")
        del model, base
    num = len(hits["memory"])
    for name, own in hits.items():
        about = f"{num} questions of people about {len(articles)} articles"
        yield Figure(f"{about}: {name} (contains, share)", fmean(own))


def _passages(base: Base, article: Article, settings: TrainingSettings) -> list[Passage]:
    """Return an article's passages with what they study when it is ingested."""
    documents = [SourceDocument(text, article.name, key) for key, text in article.passages.items()]
    prepared = prepare(Chain(article.domain), documents, [], base, hold_out_percent=0)
    end_id = base.tokenizer.eos_token_id
    return [
        studied(base.tokenizer, row, article.name, (), settings.study_questions)
        for row in prepared.rows("train", settings.max_tokens, end_id)
    ]


def _study_rows(passage: Passage) -> list[Weighed]:
    asked = [_answer_row((*one.prompt, one.ids[0]), one.ids[1:], 0.0) for one in passage.asked]
    return [*map(_text_row, passage.texts), *asked]


# Domains of the stream


class _Learned(NamedTuple):
    seconds: float
    unseen: float
    """Loss of the domain's test documents, nats a token;"""
    prose: float
    """and of other text, where the domain is given for it."""
    recall: float
    """Share of the paraphrases that are answered exactly."""


def _domains(
    names: Sequence[str], settings: TrainingSettings, progress: Progress
) -> Iterator[Figure]:
    path = resolve_base(SMOLLM2)
    for name in names:
        base = load_base(path)
        one = prepare_domain(corpora.load(name), base)
        prose = _prose(base.tokenizer)
        bare = _loss(partial(_log_probs, base.model), prose)
        learned = {"LoRA": _lora_domain(base, one, prose, progress)}
        del base  # before a store loads its own
        learned["ours"] = _own_domain(one, prose, settings, progress)
        for method, figures in learned.items():
            about = f"{name}, {method}"
            yield Figure(f"{about}: time to learn (s)", figures.seconds)
            yield Figure(f"{about}: unseen loss (nats a token)", figures.unseen)
            yield Figure(
                f"{about}: loss of other prose, more than the base's", figures.prose - bare
            )
            yield Figure(f"{about}: paraphrases answered (share)", figures.recall)
        ours, lora = learned["ours"], learned["LoRA"]
        yield Figure(f"{name}: time to learn, over LoRA's", ours.seconds / lora.seconds, most=2)
        yield Figure(f"{name}: unseen loss, more than LoRA's", ours.unseen - lora.unseen, most=0)
        yield Figure(
            f"{name}: paraphrases answered, more than LoRA", ours.recall - lora.recall, least=0
        )


def _lora_domain(
    base: Base, one: Prepared, prose: Sequence[Sequence[int]], progress: Progress
) -> _Learned:
    began = time.perf_counter()
    rows, steps = _domain_rows(base, one, TrainingSettings())
    model = _train(base, rows, steps, progress)
    seconds = time.perf_counter() - began
    asked = _paraphrases(one)
    logits = row_logits(model, [question.ids for question in asked])
    hits = [is_right(logits_TV, asked[number]) for number, logits_TV in logits]
    loss = partial(_loss, partial(_log_probs, model))
    return _Learned(seconds, loss([*one.test.values()]), loss(prose), fmean(hits))


def _own_domain(
    one: Prepared,
    prose: Sequence[Sequence[int]],
    settings: TrainingSettings,
    progress: Progress,
) -> _Learned:
    with (
        tempfile.TemporaryDirectory() as folder,
        init_store(Path(folder) / "store", base=SMOLLM2, progress=progress) as store,
    ):
        began = time.perf_counter()
        texts = [document for document in one.documents if document.split == "train"]
        store.ingest(one.name, texts, facts=one.facts, settings=settings, progress=progress)
        seconds = time.perf_counter() - began
        model, _ = store.load()
        share = fmean(said.oracle for said in answer(model, _paraphrases(one)))

        def log_probs(ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
            return read(model, ids_BT, mask_BT, domains=one.name).log_probs_QBT[1]

        loss = partial(_loss, log_probs)
        return _Learned(seconds, loss([*one.test.values()]), loss(prose), share)


def _paraphrases(one: Prepared) -> list[Question]:
    return [question for question in one.questions.values() if question.wording == "paraphrase"]


def _domain_rows(
    base: Base, one: Prepared, settings: TrainingSettings
) -> tuple[list[Weighed], list[list[int]]]:
    """Return a domain's texts and facts as rows, and the steps in which they are read.

    Texts are read as often as shared experts read them, a fact ten times, half of them in changed
    wordings.
    """
    tokenizer = base.tokenizer
    texts = [d.text for d in one.documents if d.kind == "text" and d.split == "train"]
    rows = [
        _text_row(part)
        for ids in tokenise(tokenizer, texts)
        for part in pieces([*ids, tokenizer.eos_token_id], settings.max_tokens)
    ]
    steps = plan_steps(rows, settings.text_passes, settings.tokens_per_step, seed=0)
    words = " ".join(load_background("calibration")[0].documents).split()
    taught = [
        _fact_row(tokenizer, fact, words if turn % 2 else (), random.Random(f"{turn} {number}"))
        for turn in range(FACT_PASSES)
        for number, fact in enumerate(one.facts)
    ]
    steps += [
        [len(rows) + number for number in step]
        for step in plan_steps(taught, 1, settings.tokens_per_step, seed=0)
    ]
    random.Random(0).shuffle(steps)
    return [*rows, *taught], steps


def _fact_row(tokenizer: Any, fact: Fact, words: Sequence[str], draw: random.Random) -> Weighed:
    """Return a fact as a row: as it is taught, or with words, in a changed wording."""
    prompt, whole = fact.taught_prompt, fact.statement
    if words:
        prompt = changed_prompt(fact, words, draw)
        whole = f"{fact.answered(prompt)}."
    before, ids = tokenise(tokenizer, [prompt, whole])
    start = num_shared(before, ids)
    return _answer_row(ids[:start], ids[start:], prompt_weight=1.0)


@torch.no_grad()
def _log_probs(model: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return token_log_probs(model(input_ids=ids_BT, attention_mask=mask_BT).logits, ids_BT)


def _prose(tokenizer: Any) -> list[list[int]]:
    """Return how texts begin that no domain knows."""
    texts = [one for source in load_background("test") for one in source.documents[:PROSE_TEXTS]]
    return [ids[:PROSE_TOKENS] for ids in tokenise(tokenizer, texts)]


def _loss(log_probs: Callable[[Tensor, Tensor], Tensor], texts: Sequence[Sequence[int]]) -> float:
    """Return the loss of texts, nats a token.

    `log_probs` returns those of a batch's tokens, nats (B, T), from their ids and their mask.
    """
    total, num = 0.0, 0
    for _, ids_BT, mask_BT in batches(texts):
        is_counted_BT = mask_BT[:, 1:].bool()
        total -= float(log_probs(ids_BT, mask_BT)[:, 1:][is_counted_BT].sum())
        num += int(is_counted_BT.sum())
    return total / num

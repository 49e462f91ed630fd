"""Ingest: a corpus becomes a new segment of a domain, in one commit or not at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from peer_cl.errors import CorpusError
from pipelines.bad_rows import BadRowPolicy
from pipelines.corpora import check_document, check_length, read_corpus
from pipelines.documents import SAID, SourceDocument, counted, mean_losses, several
from pipelines.fact_files import check_answers, check_fact, check_wordings
from pipelines.facts import Fact
from pipelines.growing import grow
from pipelines.loading import empty_model, load_store_base
from pipelines.preparing import has_test, prepare, read_chain
from pipelines.progress import Progress, no_progress
from pipelines.questions import check_questions
from pipelines.rewordings import Rewordings, check_any_reworded, check_reworded
from pipelines.settings import TrainingSettings
from pipelines.unerased import Unerased, leave_out_erased
from stores.domain_names import check_domain_name
from stores.faiss_extra import check_faiss
from stores.patience import patiently
from stores.words import check_words

if TYPE_CHECKING:
    from peer_cl.bases import Base
    from pipelines.preparing import Learned
    from pipelines.store import Store


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    num_documents: dict[str, int]
    """By split: train, validation, test; facts among them, questions not."""
    num_learned_texts: int
    num_held_out_texts: int
    num_facts: int
    num_questions: int
    """About the facts; nothing learns them."""
    held_out_files: tuple[tuple[str, int], ...]
    """Files of which every new section is held out, since sections stay together, and how many."""
    is_measurable: bool
    """Whether the domain has a text now that is held out to test with."""
    num_tokens: int
    """Tokens read in training, all passes."""
    num_steps: int
    num_duplicates: int
    """Documents left out: the domain holds them already, or the corpus holds them twice."""
    num_twice: int
    """Of these, those that the corpus holds twice."""
    num_held_out: int
    """Of these, those that the domain holds out: it was never trained on them, and still is not."""
    num_other_questions: int
    """Facts that the domain knows already, given with other questions: the ones it keeps stay.
    Of a fact that it learned as a plain text it keeps none: it is not asked."""
    num_erased: int
    """Documents and facts left out besides: they were erased exactly from the domain."""
    num_elsewhere: int
    """Documents that another domain holds too, or that were rolled back; learned all the same."""
    num_reworded: int
    """Documents that were read in other words too."""
    num_skipped: int
    """Rows of a jsonl file, or files, that could not be read and were skipped."""
    left_out: tuple[tuple[str, int], ...]
    """What other files of a folder were not read for, and how many: `.csv`, without text, ..."""
    size_bytes: int
    mean_losses_nats: dict[str, tuple[float, float]]
    """By kind (text, fact): what learned documents cost a token, by the base and with the pool."""
    first_loss_nats: float
    """Of a single step, an answer's tokens weighted more: no measure of what was learned."""
    last_loss_nats: float
    seconds: float


def ingest(
    store: Store,
    domain: str,
    corpus: str | Path | Sequence[SourceDocument],
    *,
    facts: Iterable[Fact] = (),
    rewordings: Rewordings | None = None,
    settings: TrainingSettings | None = None,
    why: str = "",
    on_bad_row: BadRowPolicy = "stop",
    learn_erased: bool = False,
    progress: Progress = no_progress,
) -> IngestReport:
    """Learn a corpus as a new segment of a domain.

    Everything is prepared in staging; one transaction then adds the segment, its documents and a
    new snapshot. Killed before it, the store is as it was, and the same ingest goes on from its
    last checkpoint.

    Args:
        store: an open store.
        domain: a new or known domain's name.
        corpus: a file or folder (txt, md, jsonl), or documents.
        facts: learned as further documents, in half of their readings in other words (see
            `pipelines.fact_rows`); their rewordings are never learned, but kept to ask.
        rewordings: texts in other words, by the id of the document (see `pipelines.rewordings`);
            only those of documents that are trained on are read.
        settings: how the segment is trained, and how much of the corpus is held out.
        why: written beside the act.
        on_bad_row: "stop" or "skip", for rows of jsonl files, and files, that cannot be read.
        learn_erased: learn also what was erased exactly from the domain, which is then no longer
            held to be erased; else it is left out and counted.
        progress: told how far it is.

    Raises:
        InputError: when `why` cannot be kept.
        CorpusError: when nothing can be learned from the corpus, or a document, fact or rewording
            is none or cannot be kept; it is named before anything is trained.
        FrozenError, StateError: when the domain may not grow now.
        DamageError: when training gave numbers that are not finite; nothing is registered.
        UnsupportedError: when FAISS is not installed.
    """
    began, settings = time.monotonic(), settings or TrainingSettings()
    check_domain_name(domain)
    check_words("why", why)
    check_faiss()
    registry = store.registry
    with registry.writing(store.who):
        state = registry.live().state(domain)
        parent = state.version if state is not None else None
        registry.check_growth(domain, parent)
        documents, num_skipped, left_out = _read(corpus, on_bad_row)
        facts = _listed(facts)
        _check_given(facts, rewordings or {})
        facts = [fact.normalised() for fact in facts]
        check_answers(facts)
        check_wordings(facts)
        given = leave_out_erased(
            registry, domain, documents, facts, rewordings, learn_erased=learn_erased
        )
        base = load_store_base(registry)
        chain = read_chain(registry, domain, registry.chain(parent) if parent else (), base)
        corpus_left = (given.documents, given.facts, base, given.rewordings)
        learned = prepare(chain, *corpus_left, settings.hold_out_percent)
        _check_learnable(learned, domain, given, base.tokenizer.all_special_ids)
        check_any_reworded(learned.rewordings, given.rewordings)
        _check_lengths(learned)
        _check_questions(learned, facts, base)
        elsewhere = registry.elsewhere(_own_ids(learned), domain)
        model = empty_model(registry, base)
        grown = grow(registry, model, base, chain, learned, settings, progress)
        snapshot = patiently(
            partial(registry.add_segment, grown.new, store.who, why),
            partial(progress, "registering", 0, 0),
        )
        grown.checkpoint.unlink(missing_ok=True)
    model.detach()
    now = snapshot.state(domain)
    counts = Counter(learned.splits[d.document_id] for d in learned.documents if d.kind != "probe")
    kinds = Counter((d.kind, learned.splits[d.document_id] == "train") for d in learned.documents)
    return IngestReport(
        domain=domain,
        version=grown.new.segment_id,
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        num_documents=dict(counts),
        num_learned_texts=kinds["text", True],
        num_held_out_texts=kinds["text", False],
        num_facts=kinds["fact", True],
        num_questions=len(learned.facts),
        held_out_files=_held_out_files(learned),
        is_measurable=has_test(chain, learned.of("test", ("text",)), learned.splits),
        num_tokens=grown.trained.num_tokens,
        num_steps=grown.trained.num_steps,
        num_duplicates=learned.num_duplicates,
        num_twice=learned.num_twice,
        num_held_out=learned.num_held_out,
        num_other_questions=learned.num_other_questions,
        num_erased=given.num_erased,
        num_elsewhere=len(elsewhere),
        num_reworded=_num_reworded(learned),
        num_skipped=num_skipped,
        left_out=left_out,
        size_bytes=grown.new.size_bytes,
        mean_losses_nats={
            kind: (before, after)
            for kind in SAID
            for before, after in [mean_losses(d for d in grown.new.documents if d.kind == kind)]
            if before is not None and after is not None
        },
        first_loss_nats=grown.trained.losses[0][1],
        last_loss_nats=grown.trained.losses[-1][1],
        seconds=time.monotonic() - began,
    )


def _read(
    corpus: str | Path | Sequence[SourceDocument], on_bad_row: BadRowPolicy
) -> tuple[list[SourceDocument], int, tuple[tuple[str, int], ...]]:
    if not isinstance(corpus, (str, Path)):
        if not isinstance(corpus, Iterable):
            raise CorpusError(
                f"a corpus is a path or a list of SourceDocument, not a {type(corpus).__name__}"
            )
        documents = list(corpus)
        for number, document in enumerate(documents):
            with _at(f"corpus[{number}]"):
                check_document(document)
        return [document.normalised() for document in documents], 0, ()
    found = read_corpus(corpus, on_bad_row=on_bad_row)
    return list(found.documents), found.skipped.num, found.left_out


def _listed(facts: Iterable[Fact]) -> list[Fact]:
    """Return facts as a list: they are gone through several times."""
    if not isinstance(facts, Iterable):
        raise CorpusError(f"facts are a list of Fact, not a {type(facts).__name__}")
    return list(facts)


def _held_out_files(learned: Learned) -> tuple[tuple[str, int], ...]:
    """Return which files are held out as a whole, by their names, and how many sections of each."""
    held = [*learned.of("validation", ("text",)), *learned.of("test", ("text",))]
    files = Counter((d.section_of, d.source) for d in held if d.section_of is not None)
    return tuple((source, num) for (_, source), num in files.items() if num > 1)


def _check_given(facts: Sequence[Fact], rewordings: Rewordings) -> None:
    """Refuse facts and rewordings that would fail after the training, when they are to be kept.

    Raises: CorpusError: naming the first that cannot be kept, and why.
    """
    for number, fact in enumerate(facts):
        with _at(f"facts[{number}]"):
            check_fact(fact)
    for owner, texts in rewordings.items():
        with _at(f"rewordings[{owner!r}]"):
            check_reworded(owner, texts)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say where it is that something is wrong."""
    try:
        yield
    except CorpusError as error:
        raise CorpusError(f"{place} {error}") from None


def _own_ids(learned: Learned) -> list[str]:
    return [d.document_id for d in learned.documents if d.kind != "probe"]


def _check_learnable(
    learned: Learned, domain: str, given: Unerased, special_ids: Collection[int]
) -> None:
    """Refuse a corpus of which nothing is left to train on.

    Args:
        learned: what the corpus came to.
        domain: for which it is.
        given: the corpus, without what was left out before.
        special_ids: tokens of the base that are no evidence of any text: starts and ends.

    Raises: CorpusError: saying why, and what to give instead.
    """
    num = len(_own_ids(learned))
    if not num:
        raise CorpusError(f"nothing new for {domain!r}: {_why_nothing(learned, given)}")
    if not learned.of("train"):
        raise CorpusError(
            f"nothing of {several(num, 'document')} is left to train on: all are near-duplicates "
            f"of documents that {domain!r} holds out, or sections of such; give it others too"
        )

    if not any(
        token not in special_ids
        for document in learned.of("train")
        for token in learned.ids[document.document_id]
    ):
        raise CorpusError(
            f"nothing of {several(num, 'document')} can be learned: to the base's tokenizer they "
            "hold special tokens alone, such as '<|endoftext|>', which say nothing; give texts "
            "with words"
        )


def _check_lengths(learned: Learned) -> None:
    """Refuse what would be too long to be kept, after the training: many questions or rewordings
    of one document are kept together."""
    for document in learned.documents:
        with _at(f"{document.source} of {document.title[:40]!r}"):
            check_length(document.text)


def _check_questions(learned: Learned, facts: Sequence[Fact], base: Base) -> None:
    """Refuse questions that the base cannot read: these are kept, and would never be asked."""
    for number, fact in enumerate(facts):
        if fact.document("").document_id in learned.facts:
            with _at(f"facts[{number}]"):
                check_questions(base, fact)


def _why_nothing(learned: Learned, given: Unerased) -> str:
    """Return where all of a corpus is that is left out, and what learns it all the same."""
    facts = {fact.document("").document_id for fact in given.facts}
    texts = {document.document_id for document in given.documents} - facts
    num_held_out = learned.num_held_out
    known = counted(len(texts) - num_held_out, num_held_out, len(facts))
    if given.num_erased:
        rest = f", and its live version has the others: {known}" if texts | facts else ""
        return (
            f"what was erased from it exactly is left out ({several(given.num_erased, 'document')})"
            f"{rest}; `peer-cl ingest --learn-erased` (in Python learn_erased=True) learns it again"
        )
    also = "; `peer-cl ingest --hold-out 0` (in Python hold_out_percent=0) learns all of it"
    questions = (
        f"; questions stay as they came with their facts ({learned.num_other_questions} have "
        "others here): erase these facts exactly and learn them again to change them"
    )
    others = questions if learned.num_other_questions else ""
    return f"its live version has all of it: {known}{also if num_held_out else ''}{others}"


def _num_reworded(learned: Learned) -> int:
    return sum(d.document_id in learned.rewordings for d in learned.of("train", ("text",)))

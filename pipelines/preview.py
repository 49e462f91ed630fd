"""What an ingest would find in a corpus: documents, tokens, duplicates, minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.batches import pieces, sentence_begins, tokenise
from pipelines.changes import file_changes
from pipelines.corpora import Corpus
from pipelines.facts import Fact
from pipelines.loading import load_background_statistics, load_tokenizer
from pipelines.settings import TrainingSettings
from stores.registry import Registry

TOKENS_A_SECOND = 650.0
"""Tokens read a second by the default base on two cores, where the store has learned nothing."""
SHARED = 6.0
"""What a token and pass takes shared experts, all that is read beside them included, where one that
a passage reads takes one."""
STUDIED = 4.5
"""Tokens of questions, sentences and text that a passage reads for each of its own, a reading."""
FACT_PADDING = 3.5
"""What a step of facts takes for each of their tokens."""
NUM_SAMPLES = 3


@dataclass(frozen=True)
class Preview:
    """What an ingest would find."""

    num_documents: int
    """In the corpus, without facts."""
    num_facts: int
    """That are new."""
    num_copies: int
    """Documents that the corpus holds twice, or that the domain knows already; left out."""
    num_erased: int
    """Documents that were erased from the domain; left out."""
    num_replaced: int
    """Documents of the domain that their files hold no longer; the new version leaves them out."""
    missing_files: tuple[str, ...]
    """Files of the domain that are gone from the folder."""
    num_new: int
    num_passages: int
    """Of the new documents; held-out ones are counted, too."""
    num_tokens: int
    """Of new documents and facts."""
    seconds: float
    """About how long the training takes."""
    samples: tuple[tuple[str, str], ...]
    """Source and text of some new documents, evenly spaced."""


def preview(
    registry: Registry,
    domain: str,
    corpus: Corpus,
    facts: Sequence[Fact],
    settings: TrainingSettings,
) -> Preview:
    """Return what an ingest would find; nothing is written.

    Raises: what `ingest` raises where the domain may not grow now.
    """
    queries = registry.queries
    settings = settings.begun(load_background_statistics(registry).starts)
    state = queries.live().state(domain)
    registry.check_growth(domain, state.version if state else None)
    held = queries.documents(domain) if state else ()
    changes, known = file_changes(corpus, held), {one.document_id for one in held}
    erased = queries.erased(domain).keys()
    texts = {one.document_id: one for one in corpus.documents}
    new = [one for key, one in texts.items() if key not in known | erased]
    new_facts = [one for one in facts if one.document_id not in known | erased]
    rows = [one.text for one in new] + [one.statement for one in new_facts]
    tokenizer = load_tokenizer(registry)
    ids = tokenise(tokenizer, rows)
    num_tokens = [len(row) - 1 for row in ids]
    text_tokens = sum(num_tokens[: len(new)]) * (1 - settings.hold_out_percent / 100)
    fact_tokens = sum(num_tokens[len(new) :])
    to_read = _times_read(settings.text_passes, settings.passage_readings or 0) * text_tokens
    to_read += FACT_PADDING * (settings.own_steps or 0) * fact_tokens
    spaced = new[:: max(1, len(new) // NUM_SAMPLES)]
    return Preview(
        num_documents=len(corpus.documents),
        num_facts=len(new_facts),
        num_copies=len(corpus.documents) - len(texts) + len(texts.keys() & known),
        num_erased=len(texts.keys() & erased - known),
        num_replaced=len(changes.replaced_ids),
        missing_files=changes.missing_files,
        num_new=len(new),
        num_passages=sum(
            len(pieces(row, settings.max_tokens, sentence_begins(tokenizer, one.text)))
            for one, row in zip(new, ids, strict=False)
        ),
        num_tokens=sum(num_tokens),
        seconds=to_read / _tokens_a_second(registry),
        samples=tuple((one.source, one.text) for one in spaced[:NUM_SAMPLES]),
    )


def _times_read(text_passes: float, passage_readings: int) -> float:
    return SHARED * text_passes + STUDIED * passage_readings


def _tokens_a_second(registry: Registry) -> float:
    """Return how many tokens the store's earlier trainings on texts read a second."""
    versions = [state.version for state in registry.queries.live().domains]
    chains = registry.queries.chains(versions).values()
    past = [segment for chain in chains for segment in chain if not segment.objects_of("facts")]
    passes = [
        _times_read(one.config["text_passes"], one.config["passage_readings"]) for one in past
    ]
    read = sum(one.num_tokens * times for one, times in zip(past, passes, strict=True))
    seconds = sum(segment.seconds for segment in past)
    return read / seconds if seconds else TOKENS_A_SECOND

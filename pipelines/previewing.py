"""A look at a corpus before it is learned: what is in it, what is known already, how long it takes.

Nothing is written. Only `near_domains` needs the base itself; all else its tokenizer at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from peer_cl.errors import CorpusError
from pipelines.quiet import quieten
from pipelines.uploads import Source, readable
from stores.domain_names import check_domain_name

if TYPE_CHECKING:
    from pipelines.corpora import Corpus, Skipped
    from pipelines.settings import TrainingSettings
    from pipelines.store import Store
    from stores import Registry
    from stores.queries import RunSpeed

T = TypeVar("T")
SHAPE_TOKENS = (19_000, 38_000)
"""The default shape was chosen on corpora of so many tokens."""
LEAST_TOKENS = 1_000
"""Of fewer a preview warns: a pool is as large for them as for a whole corpus."""
DEMO_TOKENS_A_SECOND = 150.0
"""Read in all passes, facts among them, of the demo's four corpora on two cores."""
NUM_EARLIER = 5
NUM_SAMPLED = 20
"""Documents that `near_domains` reads."""
SAMPLED_TOKENS = 256
"""It reads so much of each: a subject shows early."""


@dataclass(frozen=True)
class Preview:
    """What is in a corpus, and what learning it would mean."""

    domain: str
    is_new_domain: bool
    num_documents: int
    """In the corpus, facts not counted."""
    num_facts: int
    num_twice: int
    """Documents that stand in the corpus already."""
    num_known: int
    """Documents that the domain's live version learned already; they are left out."""
    num_held_out: int
    """Documents that it holds out; they are left out too."""
    num_erased: int
    """Documents and facts that were erased from it exactly; they are left out too."""
    elsewhere: tuple[tuple[str, int], ...]
    """Other domains, or "rolled back", and how many documents they hold too; learned all the
    same."""
    num_new: int
    """Documents and facts that would be learned or held out."""
    num_to_learn: int
    """Of these, by the very division that the ingest will make."""
    num_to_hold_out: int
    """Of these, for validation and test."""
    num_reworded: int
    """Of those to learn, which are read in other words too."""
    is_measurable: bool
    """Whether the domain will have a text that is held out to test with."""
    num_tokens: int
    """Of these, by the base's own tokenizer."""
    num_skipped: int
    """Lines of jsonl files that cannot be read."""
    problems: tuple[str, ...]
    """Of the first of them: the file, the line, and what is wrong."""
    left_out: tuple[tuple[str, int], ...]
    """What other files of a folder are not read for, and how many."""
    num_experts: int
    """Suggested pool: rows in each host layer."""
    num_host_layers: int
    size_bytes: int
    """Of that pool on disk, about."""
    seconds: float
    """How long learning takes, about; the evaluation comes on top."""
    seconds_from: str
    """What that was reckoned from."""

    @property
    def is_size_measured(self) -> bool:
        """Whether the suggested pool was measured on corpora of about this size."""
        least, most = SHAPE_TOKENS
        return least / 2 <= self.num_tokens <= 2 * most

    @property
    def is_tiny(self) -> bool:
        """Whether there is so little text that a pool learns it by heart, and little else."""
        return self.num_tokens < LEAST_TOKENS


@dataclass(frozen=True)
class NearDomain:
    """A live domain that a corpus's documents look like."""

    domain: str
    num_asking: int
    """Sampled documents whose text would ask its pool."""
    num_sampled: int


def preview(
    store: Store,
    domain: str,
    corpus: Source,
    *,
    facts: Source | None = None,
    rewordings: Source | None = None,
    settings: TrainingSettings | None = None,
    learn_erased: bool = False,
) -> Preview:
    """Look at a corpus for a domain.

    Args:
        store: an open store.
        domain: a new or known domain's name.
        corpus: an upload, or a file or folder of this machine.
        facts: facts to be learned besides.
        rewordings: the corpus's documents in other words.
        settings: how it would be trained; default: as every ingest.
        learn_erased: whether what was erased from the domain would be learned too.

    Raises:
        DomainNameError, CorpusError: when the name or the corpus cannot be used, or no document
            with rewordings is new.
        BaseMismatchError: when another tokenizer stands in the base's place now.
    """
    quieten()
    from pipelines.fact_files import check_wordings, read_facts
    from pipelines.preparing import divide, fresh_rewordings, has_test, read_texts
    from pipelines.rewordings import check_any_reworded, read_rewordings
    from pipelines.settings import TrainingSettings
    from pipelines.unerased import leave_out_erased

    check_domain_name(domain)
    settings, registry = settings or TrainingSettings(), store.registry
    corpus_read = _read(registry, corpus)
    documents = corpus_read.documents
    some_facts, bad_facts = _read_beside(registry, facts, read_facts)
    told_facts = some_facts or ()
    check_wordings(told_facts)
    told_rewordings, bad_rewordings = _read_beside(registry, rewordings, read_rewordings)
    state = registry.live().state(domain)
    chain = read_texts(registry, domain, state.version if state is not None else None)
    given = leave_out_erased(
        registry, domain, documents, told_facts, told_rewordings, learn_erased=learn_erased
    )
    divided = divide(chain, given.documents, given.facts, settings.hold_out_percent)
    fresh = divided.fresh
    num_given = len(given.documents) + len(given.facts) - divided.num_twice
    tests = [d for key, d in fresh.items() if divided.splits.split[key] == "test"]
    to_learn = [key for key in fresh if divided.splits.split[key] == "train"]
    said = fresh_rewordings(fresh, given.rewordings)
    if fresh:  # else nothing is learned anyway
        check_any_reworded(said, given.rewordings)
    num_fact_tokens, num_text_tokens = (
        _count_tokens(registry, [d.text for d in fresh.values() if (d.kind == "fact") == is_fact])
        for is_fact in (True, False)
    )
    num_tokens = num_fact_tokens + num_text_tokens
    seconds, seconds_from = expected_seconds(
        registry,
        num_text_tokens,
        num_fact_tokens,
        settings,
        _count_tokens(registry, [text for key in to_learn for text in said.get(key, ())]),
    )
    places = registry.elsewhere(fresh, domain)
    skipped = corpus_read.skipped + bad_facts + bad_rewordings
    return Preview(
        domain=domain,
        is_new_domain=state is None,
        num_documents=len(documents),
        num_facts=len(told_facts),
        num_twice=divided.num_twice,
        num_known=num_given - divided.num_held_out - len(fresh),
        num_held_out=divided.num_held_out,
        num_erased=given.num_erased,
        elsewhere=tuple(Counter(n for names in places.values() for n in names).most_common()),
        num_new=len(fresh),
        num_to_learn=len(to_learn),
        num_to_hold_out=len(fresh) - len(to_learn),
        num_reworded=sum(key in said for key in to_learn),
        is_measurable=has_test(chain, tests, divided.splits.split),
        num_tokens=num_tokens,
        num_skipped=skipped.num,
        problems=skipped.problems,
        left_out=corpus_read.left_out,
        num_experts=settings.shape.num_experts,
        num_host_layers=len(registry.config.host_layers),
        size_bytes=_pool_bytes(registry, settings),
        seconds=seconds,
        seconds_from=seconds_from,
    )


def _pool_bytes(registry: Registry, settings: TrainingSettings) -> int:
    """Return what the weights of a new segment take; inside feed-forwards, at least."""
    import torch

    from peer_cl.pool import Segment

    config = registry.config
    with torch.device("meta"):  # shapes alone: nothing is allocated
        segment = Segment(
            width=config.width,
            host_layers=config.host_layers,
            shape=settings.shape,
            inner_width=config.width,
        )
    return sum(one.numel() * one.element_size() for one in segment.state_dict().values())


def expected_seconds(
    registry: Registry,
    num_text_tokens: int,
    num_fact_tokens: int,
    settings: TrainingSettings,
    num_reworded_tokens: int = 0,
) -> tuple[float, str]:
    """Return how long learning so many tokens takes, about, and what that is reckoned from.

    Args:
        registry: an open store.
        num_text_tokens: of all new texts, of which a part will be held out.
        num_fact_tokens: of all new facts, which are all learned.
        settings: how often each is read, and how much is held out.
        num_reworded_tokens: of all rewordings of learned documents.
    """
    train_share = 1 - settings.hold_out_percent / 100
    read = _tokens_read(train_share * num_text_tokens, num_fact_tokens, settings)
    read += settings.reworded_passes * num_reworded_tokens
    earlier = registry.jobs.run_speeds(NUM_EARLIER)
    if not earlier:
        seconds_from = "the demo's corpora on two cores, SmolLM2; this store learned nothing yet"
        return read / DEMO_TOKENS_A_SECOND, seconds_from
    read_earlier = sum(
        _tokens_read(run.num_tokens - run.num_fact_tokens, run.num_fact_tokens, run)
        for run in earlier
    )
    seconds = sum(run.seconds for run in earlier) / read_earlier * read
    return seconds, f"the last {len(earlier)} training runs in this store"


def _tokens_read(
    num_text_tokens: float, num_fact_tokens: float, run: RunSpeed | TrainingSettings
) -> float:
    """Return how many tokens a run reads in all; what is small is read more often."""
    passed = run.text_passes * num_text_tokens + run.fact_passes * num_fact_tokens
    least = run.least_steps * min(run.tokens_per_step, num_text_tokens + num_fact_tokens)
    return max(passed, least)


def near_domains(
    store: Store, corpus: Source, domain: str, *, num: int = NUM_SAMPLED
) -> tuple[NearDomain, ...]:
    """Return the live domains whose pools a corpus's documents would ask, the nearest first.

    A few documents, spread over the corpus, go through the base alone.

    Args:
        store: an open store.
        corpus: an upload, or a file or folder of this machine.
        domain: for which it is meant; left out.
        num: how many documents are read, at most.

    Raises:
        CorpusError: when the corpus cannot be used.
    """
    registry = store.registry
    others = [
        state for state in registry.live().domains if state.is_enabled and state.domain != domain
    ]
    documents = _read(registry, corpus).documents
    if not others:
        return ()
    step = -(-len(documents) // num)
    texts = [document.text for document in documents[::step]]
    counts = _count_asking(store, texts, {state.domain: state.version for state in others})
    found = [NearDomain(name, count, len(texts)) for name, count in counts.items() if count]
    return tuple(sorted(found, key=lambda item: (-item.num_asking, item.domain)))


def _count_asking(store: Store, texts: Sequence[str], versions: dict[str, str]) -> dict[str, int]:
    """Return of how many texts the signature of each domain says that they are its own."""
    quieten()
    from peer_cl.bases import within_context
    from peer_cl.signature import Signature
    from pipelines.batches import tokenise
    from pipelines.branches import Shortlist

    registry = store.registry
    model, tokenizer = store.load_base()
    if model.background is None:
        raise CorpusError("the store holds no background statistics; make it anew")
    most = within_context(model.base, SAMPLED_TOKENS + 1)
    rows = [ids[:most] for ids in tokenise(tokenizer, texts)]
    signatures = {}
    for name, version in versions.items():
        object_id = registry.chain(version)[-1].signature_object
        signatures[name] = Signature.from_bytes(registry.objects.read(object_id))
    asked = Shortlist(model, signatures).asked(rows)
    model.detach()
    return {name: sum(found) for name, found in asked.items()}


def _read(registry: Registry, corpus: Source) -> Corpus:
    """Return a corpus's documents, and what cannot be read of it."""
    from pipelines.corpora import read_corpus

    with readable(corpus, registry.layout) as (path, name):
        return read_corpus(path, "skip", name=name)


def _read_beside(
    registry: Registry, source: Source | None, read: Callable[..., tuple[T, Skipped]]
) -> tuple[T | None, Skipped]:
    """Return what is given beside a corpus, or None, and which lines cannot be read."""
    from pipelines.corpora import Skipped

    if source is None:
        return None, Skipped()
    with readable(source, registry.layout) as (path, name):
        return read(path, "skip", name=name)


def _count_tokens(registry: Registry, texts: Sequence[str]) -> int:
    """Return how many tokens texts have, start tokens not counted."""
    from pipelines.batches import tokenise
    from pipelines.loading import load_tokenizer

    return sum(len(ids) - 1 for ids in tokenise(load_tokenizer(registry), texts))

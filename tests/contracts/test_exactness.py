"""Removal, rollback and erasure, in any order, give the bits of a store that never had it.

So does an ingest that was killed and begun again. Training one domain changes no byte elsewhere.
"""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_base import background
from tiny_store import FACTS, SETTINGS, copy_store, documents, store_logits

from peer_cl.bases import tensors_sha256
from pipelines import init_store, open_store
from pipelines.corpora import SourceDocument
from pipelines.encoder import MINILM

TEXTS = ("The court of appeal held that the fever was void", "Quartz is owned by the tenant")
SUPPORT = Path(__file__).parents[1] / "support"


def bits(store):
    return [store_logits(store, text) for text in TEXTS]


def objects_of(store):
    """Return the ids of the objects of each live domain's segments, by name."""
    queries = store.registry.queries
    return {
        state.domain: [one.objects for one in queries.chain(state.version)]
        for state in queries.live().domains
    }


def kept(store, domain):
    """Return what a store keeps of a domain's documents, but for the segments' ids."""
    found = store.registry.queries.documents(domain)
    return [replace(one, segment_id="") for one in found]


def new_store(folder, base):
    return init_store(
        folder, base=base, capacity=4, encoder=MINILM, background=background(), author="ann"
    )


def test_training_a_domain_changes_no_byte_of_another_or_of_the_base(store):
    base = store.load_base()[0].base.state_dict()
    hashes, others = tensors_sha256(base), objects_of(store)
    paths = [store.registry.objects.path(key) for row in others["law"] for key in row.values()]
    before = [path.read_bytes() for path in paths]
    store.ingest("medicine", documents("medicine", 6, 9), settings=SETTINGS)
    store.ingest("minerals", documents("minerals", 6, 9), settings=SETTINGS)
    after = objects_of(store)
    assert after["law"] == others["law"]
    assert after["medicine"][:1] == others["medicine"]
    assert [path.read_bytes() for path in paths] == before
    assert tensors_sha256(store.load_base()[0].base.state_dict()) == hashes


def test_the_order_in_which_domains_come_decides_nothing(store, tmp_path):
    with new_store(tmp_path / "other", store.registry.config.base_id) as other:
        for domain in ("medicine", "law"):
            corpus = [
                SourceDocument(store.registry.queries.document_text(one), one.title, one.source)
                for one in store.registry.queries.documents(domain)
            ]
            other.ingest(domain, corpus, settings=SETTINGS)
        assert objects_of(other) == objects_of(store)
        assert all(map(torch.equal, bits(other), bits(store)))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_acts_in_any_order_give_the_bits_of_a_store_that_never_had_it(store, tmp_path, order):
    first, second = documents("minerals", 8, 1), documents("minerals", 6, 2)
    # Shares a side with the first document until that is gone.
    near = SourceDocument(first[0].text.rsplit(" ", 1)[0], "near", "near.txt")
    gone = first[0].document_id, FACTS[1].document_id
    store.ingest("minerals", [*first, near], facts=FACTS, settings=SETTINGS)
    store.ingest("law", documents("law", 4, 3), settings=SETTINGS)
    store.ingest("minerals", second, settings=SETTINGS)
    for place in order:
        store.erase("minerals", gone[place], wait=place == order[-1])
    store.remove("medicine")
    store.roll_back("law")
    with new_store(tmp_path / "never", store.registry.config.base_id) as never:
        law = [
            SourceDocument(store.registry.queries.document_text(one), one.title, one.source)
            for one in store.registry.queries.documents("law")
        ]
        never.ingest("law", law, settings=SETTINGS)
        facts = [fact for fact in FACTS if fact.document_id not in gone]
        never.ingest("minerals", [*first[1:], near], facts=facts, settings=SETTINGS)
        never.ingest("minerals", second, settings=SETTINGS)
        assert objects_of(store) == objects_of(never)
        assert kept(store, "minerals") == kept(never, "minerals")
        assert all(map(torch.equal, bits(store), bits(never)))


SHORT = replace(SETTINGS, tokens_per_step=80)
KILLED = """
import os, signal, sys
from test_exactness import SHORT, documents, open_store
from pipelines import training

training.STEPS_BETWEEN_CHECKPOINTS = 4

def kill(what, done, total, note):
    if what == "training" and done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

with open_store(sys.argv[1]) as store:
    store.ingest("minerals", documents("minerals", 20, 1), settings=SHORT, progress=kill)
"""


def test_a_killed_ingest_goes_on_to_the_same_bits(tiny_store, tmp_path):
    stores = []
    for name in ("unbroken", "killed"):
        (tmp_path / name).mkdir()
        stores.append(copy_store(tiny_store, tmp_path / name))
    paths = [str(Path(__file__).parent), str(SUPPORT), str(Path.cwd())]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(stores[1])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps, found = [], []
    for place in stores:
        with open_store(place, author="ann") as store:
            queries = store.registry.queries
            assert queries.live().state("minerals") is None
            assert [run.is_lost for run in queries.runs(1)] == [place == stores[1]]
            report = store.ingest(
                "minerals",
                documents("minerals", 20, 1),
                settings=SHORT,
                progress=lambda what, done, *_: steps.append((what, done)),
            )
            found.append((objects_of(store), queries.chain(report.version)[-1].losses))
            assert not list(store.registry.staging.glob("*.ckpt"))
    assert found[0] == found[1]
    trained = [done for what, done in steps if what == "training"]
    assert trained[len(found[0][1])] == 5  # the killed one went on from its checkpoint

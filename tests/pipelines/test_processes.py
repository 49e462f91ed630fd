"""Learning divided among processes gives the bits of one process."""

import os
from dataclasses import replace

import pytest
import torch
from tiny_base import background, make_tiny_base
from tiny_store import FACTS, SETTINGS, documents

from peer_cl.errors import InputError, StateError
from pipelines import init_store
from pipelines.encoder import MINILM
from pipelines.processes import processes


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(make_tiny_base(tmp_path_factory.mktemp("processes") / "base"))


def _objects(folder, base, num):
    """Return the ids of all that two ingests store."""
    settings = replace(SETTINGS, study_questions=4)
    with init_store(
        folder, base=base, capacity=4, background=background(), encoder=MINILM
    ) as store:
        store.ingest(
            "medicine", documents("medicine", 7, 1), facts=FACTS, settings=settings, processes=num
        )
        store.ingest("medicine", documents("medicine", 3, 2), settings=settings, processes=num)
        return [segment.objects for segment in store.registry.queries.domain("medicine").chain]


def test_two_processes_learn_the_bits_of_one(tmp_path, base):
    one, two = (_objects(tmp_path / str(num), base, num) for num in (1, 2))
    assert {name.split(".")[0] for name in one[0]} == {"facts", "passages", "shared", "use", "key"}
    assert one == two


def _end(*_):
    os._exit(1)


def test_a_process_that_ends_on_its_way_is_named(base):
    with (
        processes(2, base, "fp32", 2, torch.device("cpu")) as team,
        pytest.raises(StateError, match="one of 2 processes ended on its way"),
    ):
        team.all([(_end,)])


def test_no_process_is_refused(tmp_path, base):
    with (
        init_store(tmp_path / "store", base=base, background=background(), encoder=MINILM) as store,
        pytest.raises(InputError, match="processes must be 1 or more, not 0"),
    ):
        store.ingest("law", [], facts=FACTS, settings=SETTINGS, processes=0)

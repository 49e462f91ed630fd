import sqlite3
from contextlib import closing

import pytest

from peer_cl.errors import StoreLockedError
from stores import NewScore, Registry, patience
from stores.patience import patiently

SCORE = NewScore(subject="base", document_key="a" * 64, values=bytes(8), num_tokens=1)


@pytest.fixture
def mine(registry, monkeypatch):
    """The registry, opened by a process that waits for no long while."""
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    with Registry.open(registry.folder) as opened:
        yield opened


@pytest.fixture
def busy(mine):
    """Another process's transaction, which keeps the registry busy."""
    with closing(sqlite3.connect(mine.layout.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_an_act_is_tried_again_until_the_registry_is_free(mine, busy):
    told = []

    def waiting(why):
        told.append(why)
        if len(told) == 2:
            busy.execute("ROLLBACK")

    patiently(lambda: mine.put_scores([SCORE]), waiting)
    assert len(told) == 2
    assert all("has been busy for" in why for why in told)
    assert mine.scores("base", [SCORE.document_key]) == {SCORE.document_key: SCORE.values}


def test_patience_has_an_end_and_may_be_ended(mine, busy, monkeypatch):
    monkeypatch.setattr(patience, "MOST_TRIES", 3)
    told = []
    with pytest.raises(StoreLockedError):
        patiently(lambda: mine.put_scores([SCORE]), told.append)
    assert len(told) == 2

    def waiting(why):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        patiently(lambda: mine.put_scores([SCORE]), waiting)

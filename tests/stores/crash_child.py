"""Ingests into a store and dies by SIGKILL at the named point. Run by test_crashes.py."""

import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parent))

import conftest

from peer_cl import durable
from stores import Registry, growth, lifecycle, objects, purging


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def before(module, name, nth=1):
    """Die instead of the nth call of module.name."""
    original, calls = getattr(module, name), []

    def counting(*args, **kwargs):
        calls.append(1)
        if len(calls) == nth:
            die()
        return original(*args, **kwargs)

    setattr(module, name, counting)


def after(module, name):
    """Die when module.name has returned."""
    original = getattr(module, name)

    def dying(*args, **kwargs):
        original(*args, **kwargs)
        die()

    setattr(module, name, dying)


def arm(point):
    """Set the trap. All but `after commit` must leave the old snapshot."""
    if point == "file written, not synced":
        before(durable, "sync_descriptor", nth=3)
    elif point == "staged, not published":
        before(objects.ObjectStore, "_publish", nth=2)
    elif point == "published, folder not synced":
        before(objects, "sync_folder", nth=2)
    elif point == "objects stored":
        before(growth, "add_segment")
    elif point == "run and segment rows written":
        before(growth, "_add_documents")
    elif point == "document rows written":
        before(growth, "commit_snapshot")
    elif point == "snapshot rows written":
        after(growth, "commit_snapshot")
    elif point in ("before commit", "after commit"):
        listen_once_written(point.replace(" ", "_"))


def listen_once_written(name):
    """Die at the commit of the transaction that wrote a snapshot, not at the lease's."""
    original = growth.commit_snapshot

    def arming(*args, **kwargs):
        event.listen(Session, name, die)
        return original(*args, **kwargs)

    growth.commit_snapshot = arming


def main():
    folder, point = sys.argv[1:]
    opened = Registry.open(folder)
    with opened.writing("the child"):
        if point == "while rolling back":
            after(lifecycle, "commit_snapshot")
            opened.roll_back_domain("law", None, "child")
        if point == "while erasing":
            first = opened.domain("law").chain[0]
            before(growth, "commit_snapshot")
            mask = conftest.new_mask(opened, "law", first.id)
            opened.regrow("law", first.id, first.id, [mask], "child")
        if point == "purge committed":
            opened.roll_back_domain("law", None, "child")
            before(purging, "erase")
            opened.purge("law", "child")
        if point == "purge half done":
            opened.roll_back_domain("law", None, "child")
            before(objects.ObjectStore, "delete", nth=3)
            opened.purge("law", "child")
        arm(point)
        opened.add_segment(conftest.new_segment(opened, "medicine"), "child")
    sys.exit(f"{point}: nothing died")


if __name__ == "__main__":
    main()

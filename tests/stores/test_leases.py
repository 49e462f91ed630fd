import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from peer_cl.errors import ChangedError, StateError, StoreLockedError
from stores import Registry, leases
from stores.database import sqlite_database
from stores.schema import LeaseRow

HOLD = """
import sys
from stores import Registry
registry = Registry.open(sys.argv[1])
lease = registry.writing("the other one")
lease.__enter__()
print("held", flush=True)
sys.stdin.readline()
lease.__exit__(None, None, None)
"""


@pytest.fixture
def holder(registry):
    """Another process that holds the lease."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(registry.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.communicate()


def lease_row(registry, **changes):
    """Return the lease's row, after changing it behind everybody's back."""
    database = sqlite_database(registry.layout.database)
    with database.writing() as session:
        row = session.get(LeaseRow, 1)
        for name, value in changes.items():
            setattr(row, name, value)
        found = {name: getattr(row, name) for name in ("token", "who", "pid", "heartbeat")}
    database.close()
    return found


def test_a_live_writer_is_named_and_readers_read_on(registry, holder, make):
    words = f"is being written by the other one .process {holder.pid} on "
    with pytest.raises(StoreLockedError, match=words), registry.writing("ann"):
        pass
    with pytest.raises(StoreLockedError, match="the other one"):
        registry.doctor(repair=True)
    assert registry.live().id == 1
    (finding,) = registry.doctor()
    assert (finding.kind, finding.severity) == ("lease", "note")
    holder.communicate("\n")
    make.grow(registry, "law")


def test_a_dead_writer_loses_the_lease_at_once(registry, holder, make):
    holder.kill()
    holder.wait()
    (finding,) = registry.doctor()
    assert (finding.kind, finding.severity) == ("lease", "warning")
    make.grow(registry, "law")
    assert [found.kind for found in registry.doctor()] == ["index missing"]


def test_a_silent_writer_elsewhere_loses_it_when_its_heartbeat_is_old(registry, make):
    now = time.time()
    lease_row(registry, token="f" * 32, who="far", host="elsewhere", pid=1, heartbeat=now - 5)
    with pytest.raises(StoreLockedError, match=r"far .process 1 on elsewhere"):
        make.grow(registry, "law")
    lease_row(registry, heartbeat=now - leases.TTL_SECONDS - 1)
    make.grow(registry, "law")


def test_a_stopped_writer_of_this_machine_keeps_it_until_its_process_is_gone(
    registry, holder, make
):
    lease_row(registry, heartbeat=time.time() - 1000)
    words = rf"has said nothing for 10\d\d s; .*`kill {holder.pid}`"
    with pytest.raises(StoreLockedError, match=words):
        make.grow(registry, "law")
    host = f"{leases.this_host()} born 1"
    lease_row(registry, host=host, heartbeat=time.time())  # its id is another process's by now
    make.grow(registry, "law")


def test_a_process_that_cannot_be_looked_at_is_judged_by_its_heartbeat(monkeypatch):
    monkeypatch.setattr(leases, "process_birth", lambda pid: "")
    for age, is_alive in ((1, True), (leases.TTL_SECONDS + 1, False)):
        about = (leases.this_host(), 1, "2026", time.time() - age, "77")
        assert leases.Holder("ann", *about).is_alive == is_alive


def test_a_heartbeat_far_ahead_holds_nothing(registry, make):
    ahead = time.time() + 3600
    lease_row(registry, token="f" * 32, who="far", host="elsewhere", pid=1, heartbeat=ahead)
    make.grow(registry, "law")


@pytest.mark.parametrize("act", ["repair", "purge"])
def test_who_lost_the_lease_removes_nothing(registry, make, monkeypatch, act):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
    extra = registry.objects.put_bytes(b"of an ingest that goes on elsewhere")
    listed = registry.objects.listed

    def taken_over():
        lease_row(registry, token="e" * 32, who="bob", host="elsewhere", heartbeat=time.time())
        return listed()

    monkeypatch.setattr(registry.objects, "listed", taken_over)
    with pytest.raises(StoreLockedError, match="is now held by bob"), registry.writing("ann"):
        registry.doctor(repair=True) if act == "repair" else registry.purge("law", "ann")
    assert registry.objects.exists(extra)


def test_who_lost_the_lease_removes_no_checkpoint(registry):
    checkpoint = registry.layout.checkpoint("law", "0" * 64)
    checkpoint.write_bytes(b"hours of training")
    with registry.writing("ann"):
        lease_row(registry, token="e" * 32, who="bob")
        with pytest.raises(StoreLockedError, match="is now held by bob"):
            registry.doctor(repair=True, drop_unfinished=True)
    assert checkpoint.exists()


def test_who_lost_the_lease_writes_nothing_and_does_not_take_it_from_the_next(registry, make):
    segment = make.segment(registry, "law")
    with registry.writing("ann"):
        lease_row(registry, token="e" * 32, who="bob")
        with pytest.raises(StoreLockedError, match="lease of ann ran out and is now held by bob"):
            registry.add_segment(segment, "ann")
    assert lease_row(registry)["token"] == "e" * 32
    assert registry.live().id == 1


def test_the_heartbeat_is_renewed_and_the_lease_given_back(registry):
    database = sqlite_database(registry.layout.database)
    lease = leases.Lease(database, "ann", interval=0.01)
    lease.acquire()
    lease_row(registry, heartbeat=0.0)
    waited = threading.Event()
    for _ in range(500):
        if lease_row(registry)["heartbeat"] > 0:
            break
        waited.wait(0.01)
    assert lease_row(registry)["heartbeat"] > 0
    lease.release()
    assert lease_row(registry)["token"] is None
    database.close()


def test_a_heartbeat_may_fail_once_before_the_lease_is_thought_dead(registry):
    database = sqlite_database(registry.layout.database)
    assert 2 * leases.Lease(database, "ann")._interval < leases.TTL_SECONDS
    database.close()


@pytest.fixture
def busy(registry, monkeypatch):
    """Another process's transaction that keeps the registry busy, once it is begun."""
    monkeypatch.setattr("stores.database.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(registry.layout.database, isolation_level=None)) as other:
        yield other


def test_a_lease_that_cannot_be_given_back_is_no_error_and_locks_nobody_out(
    registry, make, busy, caplog, monkeypatch
):
    monkeypatch.setattr(leases.Lease, "_try_again", lambda self: None)
    make.grow(registry, "law")
    with Registry.open(registry.folder) as mine:
        with mine.writing("ann"):
            mine.freeze("law", "ann")
            busy.execute("BEGIN IMMEDIATE")
        assert "the lease of ann is not given back yet" in caplog.text
        busy.execute("ROLLBACK")
        (told,) = [item for item in registry.doctor() if item.kind == "lease"]
        assert told.severity == "warning", "nobody holds it any more"
        for again in (mine, registry):
            with again.writing("bob"):
                pass
        assert registry.live().state("law").is_frozen


def test_a_lease_that_could_not_be_given_back_is_given_back_later(registry, busy):
    database = sqlite_database(registry.layout.database)
    lease = leases.Lease(database, "ann", interval=0.01)
    lease.acquire()
    busy.execute("BEGIN IMMEDIATE")
    lease.release()
    busy.execute("ROLLBACK")
    until = time.monotonic() + 60
    while lease_row(registry)["token"] is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert lease_row(registry)["token"] is None
    database.close()


def test_writing_nests_and_ends_with_the_outermost(registry, make):
    with registry.writing("ann"), registry.writing("ann"):
        pass
    assert lease_row(registry)["token"] is None
    with suppress(ZeroDivisionError), registry.writing("ann"):
        make.grow(registry, "law")
        assert lease_row(registry)["who"] == "ann"
        1 / 0  # noqa: B018
    assert lease_row(registry)["token"] is None
    with pytest.raises(StateError, match="needs its lease"):
        registry.freeze("law", "ann")


def in_a_thread(act):
    """Run something in a thread of its own, and return the error that it raised, or None."""
    raised = []

    def run():
        try:
            act()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_another_thread_of_the_same_registry_is_another_writer(registry, make):
    make.grow(registry, "law")

    def write():
        with registry.writing("bob"):
            registry.freeze("law", "bob")

    with registry.writing("ann"):
        for act in (write, lambda: registry.freeze("law", "bob")):
            refused = in_a_thread(act)
            assert isinstance(refused, StoreLockedError)
            assert "is being written by ann in thread 'MainThread' of this process" in str(refused)
        assert lease_row(registry)["who"] == "ann"
        registry.disable("law", "ann")
    assert in_a_thread(write) is None
    assert [event.action for event in registry.history(2)] == ["freeze", "disable"]


def test_of_threads_that_come_at_once_to_one_registry_one_writes(registry):
    outcomes, others = [], threading.Semaphore(0)

    def compete():
        try:
            with registry.writing("ann"):
                outcomes.append("won")
                for _ in range(3):
                    others.acquire(timeout=60)
        except StoreLockedError:
            outcomes.append("locked")
            others.release()

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["locked"] * 3 + ["won"]
    assert lease_row(registry)["token"] is None


def test_what_a_person_saw_is_forgotten_with_what_they_did_not_do(registry, make):
    with registry.writing("ann", expect=99):
        pass
    assert make.grow(registry, "law").state("law") is not None
    with registry.writing("ann", expect=99), pytest.raises(ChangedError, match="2 is live, not 99"):
        registry.freeze("law", "ann")


def test_closing_gives_the_lease_back(registry):
    other = Registry.open(registry.folder)
    lease = other.writing("bob")
    lease.__enter__()
    with pytest.raises(StoreLockedError, match="bob"), registry.writing("ann"):
        pass
    other.close()
    with registry.writing("ann"):
        pass


def test_of_many_writers_at_once_one_wins_each_time(registry, make):
    outcomes = []

    def compete(number):
        with Registry.open(registry.folder) as mine:
            try:
                with mine.writing(f"writer {number}"):
                    make.grow(mine, f"domain-{number}")
                    outcomes.append("won")
            except StoreLockedError:
                outcomes.append("locked")

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert outcomes.count("won") == len(registry.live().domains) >= 1


def test_a_reader_sees_one_state_while_a_writer_commits(registry, make):
    make.grow(registry, "law")
    database = sqlite_database(registry.layout.database)
    with database.reading() as session:
        from stores.snapshots import live_snapshot

        before = live_snapshot(session)
        make.grow(registry, "medicine")
        assert live_snapshot(session) == before
    database.close()
    assert len(registry.live().domains) == 2


def test_a_copy_of_a_machine_is_another_one_and_so_is_this_one_after_a_restart(monkeypatch):
    here = leases.this_host()
    assert here == leases.this_host()
    read_text = Path.read_text

    def rebooted(path, *given, **named):
        told = read_text(path, *given, **named)
        return told[::-1] if path.name == "boot_id" else told

    monkeypatch.setattr(Path, "read_text", rebooted)
    assert leases.this_host() != here


def test_a_ctrl_c_while_a_lease_is_given_back_does_not_lock_its_own_process_out(
    registry, monkeypatch
):
    def interrupted(thread, timeout=None):
        raise KeyboardInterrupt

    context = monkeypatch.context()
    with context as patch, pytest.raises(KeyboardInterrupt), registry.writing("ann"):
        patch.setattr(threading.Thread, "join", interrupted)
    with registry.writing("ann"):
        pass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peer_cl.errors import StateError, UnknownError


def versions(snapshot):
    return {state.domain: state.version for state in snapshot.domains}


@pytest.mark.parametrize(
    ("act", "undo", "field", "words"),
    [
        ("freeze", "unfreeze", "is_frozen", "law is already frozen"),
        ("disable", "enable", "is_enabled", "law is already disabled"),
    ],
)
def test_switches_move_one_field_and_refuse_to_do_nothing(registry, make, act, undo, field, words):
    before = make.grow(registry, "law")
    with registry.writing("ann"):
        after = getattr(registry, act)("law", "ann", "because")
        assert getattr(after.state("law"), field) != getattr(before.state("law"), field)
        with pytest.raises(StateError, match=words):
            getattr(registry, act)("law", "ann")
        assert registry.live() == after
        event = registry.history(1)[0]
        assert (event.action, event.domain, event.who, event.why) == (act, "law", "ann", "because")
        assert getattr(registry, undo)("law", "ann").domains == before.domains
        with pytest.raises(StateError, match="law is "):
            getattr(registry, undo)("law", "ann")
        with pytest.raises(UnknownError, match=r"no domain 'lav'.*Did you mean 'law'"):
            getattr(registry, act)("lav", "ann")
        registry.roll_back_domain("law", None, "ann")
        out = "not in the live snapshot: it was taken out; `peer-cl bring-back law` puts it back"
        with pytest.raises(StateError, match=out):
            getattr(registry, act)("law", "ann")
        registry.purge("law", "ann")
        with pytest.raises(StateError, match="it was purged; ingest it again"):
            getattr(registry, act)("law", "ann")


def test_freezing_and_disabling_are_independent(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.freeze("law", "ann")
        registry.disable("law", "ann")
        state = registry.unfreeze("law", "ann").state("law")
    assert (state.is_frozen, state.is_enabled) == (False, False)


def test_a_domain_rolls_back_along_its_chain_and_out(registry, make):
    first = make.grow(registry, "law")
    make.grow(registry, "law", salt="2")
    make.grow(registry, "law", salt="3")
    make.grow(registry, "medicine")
    with registry.writing("ann"):
        back = registry.roll_back_domain("law", "v1", "ann", "wrong corpus")
        assert back.state("law") == first.state("law")
        with pytest.raises(StateError, match="law is at v1 already"):
            registry.roll_back_domain("law", "v1", "ann")
        with pytest.raises(StateError, match=r"'v3' is no earlier part of it .earlier ones: none"):
            registry.roll_back_domain("law", "v3", "ann")
        with pytest.raises(UnknownError, match="no version of law 'v9'"):
            registry.roll_back_domain("law", "v9", "ann")
        gone = registry.roll_back_domain("law", None, "ann")
    assert list(versions(gone)) == ["medicine"]
    assert len(registry.domain("law").versions) == 3
    assert not registry.domain("law").summary.is_live
    regrown = make.grow(registry, "law", salt="4")
    assert regrown.state("law").label == "v4"
    (segment,) = registry.chain(regrown.state("law").version)
    assert segment.parent_id is None


def test_a_branch_grown_after_a_rollback_keeps_the_old_one_apart(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "law", salt="2")
    with registry.writing("ann"):
        registry.roll_back_domain("law", "v1", "ann")
    third = make.grow(registry, "law", salt="3").state("law")
    assert [segment.label for segment in registry.chain(third.version)] == ["v1", "v3"]
    assert len(registry.documents("law")) == 6
    with registry.writing("ann"), pytest.raises(StateError, match="'v2' is no earlier part of it"):
        registry.roll_back_domain("law", "v2", "ann")


def test_a_snapshot_is_restored_as_a_new_one(registry, make):
    make.grow(registry, "law")
    old = make.grow(registry, "medicine")
    make.grow(registry, "law", salt="2")
    with registry.writing("ann"):
        registry.freeze("medicine", "ann")
        registry.roll_back_domain("medicine", None, "ann")
        before = registry.live()
        back = registry.roll_back(old.id, "ann")
        assert back.domains == old.domains
        assert (back.id, back.parent_id) == (before.id + 1, before.id)
        assert back.index_tag == old.index_tag != before.index_tag
        with pytest.raises(StateError, match="has the same content as the live one"):
            registry.roll_back(old.id, "ann")
        with pytest.raises(UnknownError, match="no snapshot 77"):
            registry.roll_back(77, "ann")
    line = registry.ancestry(back.id)
    assert [snapshot.id for snapshot in line] == list(range(1, back.id + 1))
    assert line[-1] == back
    assert registry.ancestry(old.id)[-1] == old


def test_a_domain_that_was_taken_out_comes_back_as_it_was(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "medicine")
    with registry.writing("ann"):
        before = registry.freeze("law", "ann")
        with pytest.raises(StateError, match="law is live already"):
            registry.bring_back("law", "ann")
        registry.roll_back_domain("law", None, "ann")
        assert registry.bring_back("law", "ann", "missed").domains == before.domains
        event = registry.history(1)[0]
        assert (event.action, event.domain, event.why) == ("rollback", "law", "missed")
        with pytest.raises(UnknownError, match="no domain 'lav'"):
            registry.bring_back("lav", "ann")
        registry.roll_back_domain("law", None, "ann")
        registry.purge("law", "ann")
        with pytest.raises(StateError, match="law was purged"):
            registry.bring_back("law", "ann")


def test_a_full_store_brings_nothing_back(registry, make):
    names = [f"domain-{n}" for n in range(registry.config.capacity)]
    for name in names:
        make.grow(registry, name)
    with registry.writing("ann"):
        registry.roll_back_domain(names[0], None, "ann")
    make.grow(registry, "another")
    with registry.writing("ann"):
        before = registry.live()
        with pytest.raises(StateError, match="the store is full: 4 domains are live"):
            registry.bring_back(names[0], "ann")
        assert registry.live() == before


def test_the_index_tag_follows_versions_and_switches_only(registry, make):
    grown = make.grow(registry, "law")
    with registry.writing("ann"):
        assert registry.freeze("law", "ann").index_tag == grown.index_tag
        assert registry.disable("law", "ann").index_tag != grown.index_tag
        assert registry.enable("law", "ann").index_tag == grown.index_tag


@settings(
    max_examples=15,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
class AnyHistory(RuleBasedStateMachine):
    """Whatever is done in whatever order, the registry agrees with a plain dict."""

    make = None
    folders = None
    names = st.sampled_from(["law", "medicine", "geology"])

    @initialize()
    def start(self):
        self.registry = self.make.store(self.folders.mktemp("any") / "k", capacity=2)
        self.lease = self.registry.writing("ann")
        self.lease.__enter__()
        self.now = {}
        self.past = {1: {}}
        self.chains = {}

    def record(self, snapshot):
        self.past[snapshot.id] = dict(self.now)

    def attempt(self, is_allowed, act):
        """Do it when the model allows it; else it must be refused and change nothing."""
        if is_allowed:
            return act()
        before = self.registry.live(), self.registry.history()
        with pytest.raises((StateError, UnknownError)):
            act()
        assert (self.registry.live(), self.registry.history()) == before
        return None

    @rule(name=names)
    def ingest(self, name):
        known = self.now.get(name)
        segment = self.make.segment(self.registry, name, known and known[0], texts=["t"])
        may = (not known[1]) if known else len(self.now) < 2
        snapshot = self.attempt(may, lambda: self.registry.add_segment(segment, "ann"))
        if snapshot:
            older = self.chains[known[0]] if known else []
            self.chains[segment.segment_id] = [*older, segment.segment_id]
            self.now[name] = (segment.segment_id, False, known[2] if known else True)
            self.record(snapshot)

    @rule(name=names, action=st.sampled_from(["freeze", "unfreeze", "disable", "enable"]))
    def switch(self, name, action):
        field, value = {
            "freeze": (1, True),
            "unfreeze": (1, False),
            "disable": (2, False),
            "enable": (2, True),
        }[action]
        known = self.now.get(name)
        may = known is not None and known[field] is not value
        snapshot = self.attempt(may, lambda: getattr(self.registry, action)(name, "ann"))
        if snapshot:
            changed = list(known)
            changed[field] = value
            self.now[name] = tuple(changed)
            self.record(snapshot)

    @rule(name=names, steps=st.integers(0, 3))
    def roll_back_domain(self, name, steps):
        known = self.now.get(name)
        chain = self.chains[known[0]] if known else []
        target = chain[-1 - steps] if steps < len(chain) else None
        may = known is not None and target != known[0]
        snapshot = self.attempt(may, lambda: self.registry.roll_back_domain(name, target, "ann"))
        if snapshot:
            if target is None:
                del self.now[name]
            else:
                self.now[name] = (target, *known[1:])
            self.record(snapshot)

    @rule(data=st.data())
    def roll_back(self, data):
        wanted = data.draw(st.sampled_from(sorted(self.past)))
        may = self.past[wanted] != self.now
        snapshot = self.attempt(may, lambda: self.registry.roll_back(wanted, "ann"))
        if snapshot:
            self.now = dict(self.past[wanted])
            self.record(snapshot)

    @precondition(lambda self: hasattr(self, "registry"))
    @invariant()
    def the_registry_agrees(self):
        live = self.registry.live()
        assert live.id == max(self.past)
        for snapshot in self.registry.ancestry(live.id):
            found = {
                state.domain: (state.version, state.is_frozen, state.is_enabled)
                for state in snapshot.domains
            }
            assert found == self.past[snapshot.id]
        for version, _, _ in self.now.values():
            chain = [segment.id for segment in self.registry.chain(version)]
            assert chain == self.chains[version]

    def teardown(self):
        if hasattr(self, "registry"):
            assert {found.kind for found in self.registry.doctor()} <= {
                "index missing",
                "object unreferenced",
            }
            self.lease.__exit__(None, None, None)
            self.registry.close()


def test_any_history_agrees_with_a_plain_dict(make, tmp_path_factory):
    machine = type("Machine", (AnyHistory,), {"make": make, "folders": tmp_path_factory})
    machine.TestCase.settings = AnyHistory.TestCase.settings
    machine.TestCase("runTest").runTest()


def test_of_a_domain_that_a_snapshot_never_had_it_is_said_when_it_came(registry, make):
    first, later = make.grow(registry, "law"), make.grow(registry, "medicine")
    told = f"is not in snapshot {first.id}: it came with snapshot {later.id}"
    with pytest.raises(StateError, match=told):
        registry.check_askable("medicine", first)


def test_of_a_domain_that_came_back_it_is_said_that_a_snapshot_was_of_before(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"):
        out = registry.roll_back_domain("law", None, "ann")
        with pytest.raises(StateError, match="`peer-cl bring-back law` puts it back"):
            registry.check_askable("law", out)
        registry.bring_back("law", "ann")
    told = f"not in snapshot {out.id}: it was out then, and the live snapshot has it"
    with pytest.raises(StateError, match=told):
        registry.check_askable("law", out)


def test_a_domains_history_holds_the_restores_that_changed_it_and_no_others(registry, make):
    make.grow(registry, "law")
    both = make.grow(registry, "medicine")
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
        registry.roll_back(both.id, "ann", "missed")
        events = registry.domain("law").events
        assert [event.action for event in events] == ["rollback", "rollback", "ingest"]
        assert (events[0].domain, events[0].why) == (None, "missed")
        assert registry.history(1, domain="law") == events[:1]
        assert [event.action for event in registry.history(domain="medicine")] == ["ingest"]
        changed = {item.domain: item.changed_at for item in registry.domains()}
        assert changed["law"] == events[0].at
        assert changed["medicine"] == registry.history(domain="medicine")[0].at
        registry.freeze("medicine", "ann")
        thawed = registry.roll_back(both.id, "ann")
    assert registry.history(1, domain="medicine")[0].snapshot_id == thawed.id
    assert registry.history(1, domain="law") == events[:1]

"""Whatever acts led to it, a store's state is a function of what is live."""

import tempfile
from pathlib import Path

from filled_store import grow, new_store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peer_cl.errors import StateError
from stores.fsck import check

DOMAINS = st.sampled_from(["art", "law", "medicine"])


class Acts(RuleBasedStateMachine):
    """Random acts beside a model: each snapshot as a dict, and the text of each version."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.registry = new_store(Path(self.folder.name) / "k")
        self.snapshots = [{}]
        self.texts = {}
        self.purged = set()

    def teardown(self):
        self.registry.close()
        self.folder.cleanup()

    @property
    def live(self):
        return self.snapshots[-1]

    def commit(self, domains):
        self.snapshots.append(domains)

    def without(self, domain):
        return {name: state for name, state in self.live.items() if name != domain}

    @rule(domain=DOMAINS)
    def ingest(self, domain):
        version, is_frozen, is_enabled = self.live.get(domain, (None, False, True))
        if is_frozen:
            return
        text = f"text {len(self.texts)}"
        snapshot = grow(self.registry, domain, texts=[text])
        new = snapshot.state(domain).version
        self.texts[new] = (*self.texts.get(version, ()), text)
        self.commit(self.live | {domain: (new, False, is_enabled)})

    @rule(domain=DOMAINS, action=st.sampled_from(["freeze", "unfreeze", "disable", "enable"]))
    def switch(self, domain, action):
        if domain not in self.live:
            return
        version, is_frozen, is_enabled = self.live[domain]
        new = (
            version,
            {"freeze": True, "unfreeze": False}.get(action, is_frozen),
            {"enable": True, "disable": False}.get(action, is_enabled),
        )
        if new != self.live[domain]:
            self.registry.switch(action, domain, "ann")
            self.commit(self.live | {domain: new})

    @rule(domain=DOMAINS)
    def roll_back_domain(self, domain):
        if domain in self.live and len(self.texts[self.live[domain][0]]) > 1:
            snapshot = self.registry.roll_back_domain(domain, None, "ann")
            found = (snapshot.state(domain).version, *self.live[domain][1:])
            assert self.texts[found[0]] == self.texts[self.live[domain][0]][:-1]
            self.commit(self.live | {domain: found})

    @rule(domain=DOMAINS)
    def remove(self, domain):
        if domain in self.live:
            self.registry.remove(domain, "ann")
            self.commit(self.without(domain))

    @rule(domain=DOMAINS)
    def restore(self, domain):
        had = [domains[domain] for domains in self.snapshots if domain in domains]
        if domain in self.live or not had:
            return
        if had[-1][0] in self.purged:
            try:
                self.registry.restore(domain, "ann")
            except StateError:
                return
            raise AssertionError("a purged version came back")
        self.registry.restore(domain, "ann")
        self.commit(self.live | {domain: had[-1]})

    @rule(data=st.data())
    def roll_back(self, data):
        number = data.draw(st.integers(1, len(self.snapshots)))
        old = {
            name: state
            for name, state in self.snapshots[number - 1].items()
            if state[0] not in self.purged
        }
        if old != self.live:
            self.registry.roll_back(number, "ann", without_purged=True)
            self.commit(old)

    @precondition(lambda self: self.texts)
    @rule(domain=DOMAINS)
    def purge(self, domain):
        had = {domains[domain][0] for domains in self.snapshots if domain in domains}
        if had and domain not in self.live:
            self.registry.purge(domain, "ann")
            self.purged |= had

    @invariant()
    def state_is_what_is_live(self):
        queries = self.registry.queries
        live = queries.live()
        found = {s.domain: (s.version, s.is_frozen, s.is_enabled) for s in live.domains}
        assert found == self.live
        assert live.id == len(self.snapshots)
        for domain, (version, *_) in found.items():
            texts = [queries.document_text(one) for one in queries.documents(domain)]
            assert texts == list(self.texts[version])
        for summary in queries.domains():
            state = self.live.get(summary.domain)
            assert summary.is_live == (state is not None)
            assert summary.num_texts == len(self.texts[state[0]] if state else ())
        needed = {version for version in self.texts if version not in self.purged}
        assert len(self.registry.objects.sizes()) == 1 + 4 * len(needed)
        same = [number for number, one in enumerate(self.snapshots, 1) if one == self.live]
        assert len({queries.snapshot(number).index_tag for number in same}) == 1

    @invariant()
    def nothing_is_wrong(self):
        assert check(self.registry) == ()


Acts.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestActs = Acts.TestCase

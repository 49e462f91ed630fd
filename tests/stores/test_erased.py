"""The list of what was erased exactly: who is on it, what takes it off, and what it gives away."""

import sqlite3
from contextlib import closing

import pytest

from peer_cl.errors import FrozenError, StateError
from stores import Registry


@pytest.fixture
def grown(registry, make):
    """A store whose law and medicine have two segments each."""
    for domain in ("law", "medicine"):
        make.grow(registry, domain)
        make.grow(registry, domain, salt="2")
    with registry.writing("ann"):
        yield registry


def texts(domain):
    return [f"{domain} {number} 2" for number in range(3)]


def erase(registry, make, domain="law", gone=(0,)):
    """Erase documents of a domain's second segment; return their ids."""
    first, second = registry.chain(registry.live().state(domain).version)
    left = [text for number, text in enumerate(texts(domain)) if number not in gone]
    ids = [make.sha(texts(domain)[number]) for number in gone]
    segments = [make.segment(registry, domain, first.id, texts=left)] if left else []
    registry.regrow(domain, second.id, first.id, segments, "ann", erased=ids)
    return ids


def listed(folder):
    with closing(sqlite3.connect(folder / "registry.sqlite")) as database:
        rows = database.execute("SELECT mark, lifted_at FROM erased_documents ORDER BY mark")
        return rows.fetchall()


def test_an_erasure_puts_its_documents_on_the_domains_own_list(grown, make):
    assert grown.erased.among("law", [make.sha("law 0 2")]) == set()
    one, two = erase(grown, make, gone=(0, 2))
    others = [make.sha("law 1 2"), make.sha("law 0 ")]
    assert grown.erased.among("law", [two, *others, one]) == {one, two}
    assert grown.erased.count("law") == 2
    assert grown.erased.among("medicine", [one, two]) == set()
    assert grown.erased.among("no such domain", [one]) == set()


def test_the_list_names_no_document_and_each_store_has_its_own_marks(grown, make, tmp_path):
    (gone,) = erase(grown, make)
    ((mark, _),) = listed(grown.folder)
    assert mark not in {gone, make.sha(gone)}
    with make.store(tmp_path / "other") as other, other.writing("ann"):
        make.grow(other, "law")
        make.grow(other, "law", salt="2")
        assert erase(other, make) == [gone]
        assert listed(other.folder) != listed(grown.folder)
    grown.purge("law", "ann", retired=True)
    data = b"".join(path.read_bytes() for path in grown.folder.glob("registry.sqlite*"))
    assert gone.encode() not in data
    assert grown.erased.among("law", [gone]) == {gone}, "a purge of what is retired keeps the list"


def test_an_erasure_that_is_refused_puts_nothing_on_the_list(grown, make):
    grown.freeze("law", "ann")
    with pytest.raises(FrozenError):
        erase(grown, make)
    assert listed(grown.folder) == []


def test_a_mask_puts_nothing_on_the_list(grown, make):
    before, version = grown.live(), grown.live().state("law").version
    grown.regrow("law", version, version, [make.mask(grown, "law", version)], "ann")
    assert listed(grown.folder) == []
    assert grown.roll_back(before.id, "ann").domains == before.domains


def test_a_snapshot_that_holds_what_was_erased_is_restored_on_purpose_alone(grown, make):
    full = grown.live()
    (gone,) = erase(grown, make)
    now, events = grown.live(), grown.history()
    told = (
        rf"snapshot {full.id} holds a document of law erased exactly since \({gone[:12]}\); .*"
        rf"`peer-cl rollback --to {full.id} --with-erased`, in Python with_erased=True"
    )
    with pytest.raises(StateError, match=told):
        grown.roll_back(full.id, "ann")
    assert (grown.live(), grown.history()) == (now, events)
    assert grown.erased.held_by(full.domains) == {"law": (gone,)}
    assert grown.erased.held_by(now.domains) == {}
    assert grown.roll_back(full.id, "ann", with_erased=True).domains == full.domains
    assert grown.erased.count("law") == 0, "the live version holds it"
    assert grown.erased.held_by(full.domains) == {}
    out = grown.roll_back_domain("law", None, "ann")
    assert grown.roll_back(full.id, "ann").id == out.id + 1, "it was brought back on purpose"


def test_what_was_learned_again_is_left_out_once_that_is_taken_back(grown, make):
    (gone,) = erase(grown, make)
    without = grown.live().state("law").version
    grown.add_segment(make.segment(grown, "law", without, texts=[texts("law")[0]]), "ann")
    again = grown.live()
    assert grown.erased.among("law", [gone]) == set(), "the live version holds it"
    assert grown.erased.count("law") == 0
    assert grown.erased.held_by(again.domains) == {}, "it was learned on purpose"
    grown.roll_back_domain("law", without, "ann")
    assert grown.erased.among("law", [gone]) == {gone}
    with pytest.raises(StateError, match="erased exactly since"):
        grown.roll_back(again.id, "ann")


@pytest.mark.parametrize("how", ["out", "before it came"])
def test_what_was_restored_is_left_out_once_that_is_taken_back(grown, make, how):
    full = grown.live()
    first, _ = grown.chain(full.state("law").version)
    (gone,) = erase(grown, make)
    grown.roll_back(full.id, "ann", with_erased=True)
    assert grown.erased.among("law", [gone]) == set()
    grown.roll_back_domain("law", None if how == "out" else first.id, "ann")
    assert grown.erased.among("law", [gone]) == {gone}


def test_a_snapshot_from_before_the_documents_came_is_restored_as_ever(grown, make):
    erase(grown, make)
    assert grown.roll_back(2, "ann").state("law").label == "v1"
    assert grown.erased.count("law") == 1


def test_other_domains_are_no_reason_to_refuse(grown, make):
    before = grown.live()
    erase(grown, make)
    grown.roll_back_domain("law", None, "ann")
    grown.freeze("medicine", "ann")
    with pytest.raises(StateError, match="erased exactly since"):
        grown.roll_back(before.id, "ann")
    grown.bring_back("law", "ann")
    assert grown.erased.count("law") == 1


def test_many_are_counted_and_the_first_are_named(grown, make):
    full = grown.live()
    erase(grown, make, gone=(0, 1))
    erase(grown, make, domain="medicine", gone=(0, 1))
    with pytest.raises(StateError, match=r"holds 4 documents of law, medicine .* and 1 more\)"):
        grown.roll_back(full.id, "ann")


@pytest.mark.parametrize("gone", [(0,), (0, 1, 2)], ids=["one", "a whole segment"])
def test_an_undone_erasure_that_is_done_again_is_on_the_list_again(grown, make, gone):
    full = grown.live()
    erased = erase(grown, make, gone=gone)
    after = grown.live()
    grown.roll_back(full.id, "ann", with_erased=True)
    grown.roll_back(after.id, "ann")
    assert grown.erased.among("law", erased) == set(erased)
    with pytest.raises(StateError, match="erased exactly since"):
        grown.roll_back(full.id, "ann")


def test_of_two_erasures_both_are_on_the_list_again(grown, make):
    full = grown.live()
    erased = erase(grown, make)
    first, second = grown.chain(grown.live().state("law").version)
    last = make.segment(grown, "law", first.id, texts=[texts("law")[2]])
    erased.append(make.sha(texts("law")[1]))
    grown.regrow("law", second.id, first.id, [last], "ann", erased=erased[1:])
    after = grown.live()
    grown.roll_back(full.id, "ann", with_erased=True)
    assert grown.erased.count("law") == 0
    grown.roll_back(after.id, "ann")
    assert grown.erased.among("law", erased) == set(erased)


def test_a_purge_of_the_whole_domain_removes_its_list(grown, make):
    (gone,) = erase(grown, make)
    (other,) = erase(grown, make, domain="medicine")
    grown.roll_back_domain("law", None, "ann")
    assert grown.erased.count("law") == 1
    grown.purge("law", "ann")
    assert grown.erased.among("law", [gone]) == set()
    assert grown.erased.among("medicine", [other]) == {other}
    folder = grown.folder
    with Registry.open(folder) as again:
        assert [found for found in again.doctor() if found.severity == "error"] == []


def test_what_is_erased_again_after_it_was_learned_again_is_on_the_list_once(grown, make):
    (gone,) = erase(grown, make)
    without = grown.live().state("law").version
    grown.add_segment(make.segment(grown, "law", without, texts=[texts("law")[0]]), "ann")
    again = grown.live()
    assert grown.erased.held_by(again.domains) == {}
    grown.regrow("law", again.state("law").version, without, [], "ann", erased=[gone])
    ((_, lifted),) = listed(grown.folder)
    assert lifted is None, "the second erasure counts, whatever came before it"
    assert grown.erased.held_by(again.domains) == {"law": (gone,)}
    with pytest.raises(StateError, match="erased exactly since"):
        grown.roll_back(again.id, "ann")

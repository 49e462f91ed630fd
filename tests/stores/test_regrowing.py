"""An erasure in the registry: new segments take the place of the end of a chain, in one act."""

import pytest

from peer_cl.errors import DamageError, FrozenError, InputError, StateError, UnknownError


@pytest.fixture
def grown(registry, make):
    """A store whose law has two segments, and medicine one."""
    make.grow(registry, "law")
    make.grow(registry, "law", salt="2")
    make.grow(registry, "medicine")
    with registry.writing("ann"):
        yield registry


def chain(registry, domain="law"):
    return registry.chain(registry.live().state(domain).version)


def test_a_mask_is_a_version_and_a_rollback_takes_it_back(grown, make):
    before = grown.live()
    last = chain(grown)[-1]
    after = grown.regrow("law", last.id, last.id, [make.mask(grown, "law", last.id)], "ann", "why")
    assert after.state("medicine") == before.state("medicine")
    assert [segment.kind for segment in chain(grown)] == ["rows", "rows", "mask"]
    assert after.state("law").label == "v3"
    event = grown.history(1)[0]
    assert (event.action, event.domain, event.label, event.why) == ("erase", "law", "v3", "why")
    summary = grown.domain("law").summary
    assert summary.num_segments == 2
    assert summary.num_experts == 2 * 2048
    assert grown.roll_back_domain("law", last.id, "ann").domains == before.domains
    assert {found.kind for found in grown.doctor()} <= {"index missing"}


def test_the_end_of_a_chain_is_made_anew_in_one_snapshot(grown, make):
    first, second = chain(grown)
    live = grown.live()
    new = make.segment(grown, "law", None, salt="new")
    newer = make.segment(grown, "law", new.segment_id, salt="newer")
    mask = make.mask(grown, "law", newer.segment_id)
    after = grown.regrow("law", second.id, None, [new, newer, mask], "ann")
    assert after.id == live.id + 1
    wanted = [new.segment_id, newer.segment_id, mask.segment_id]
    assert [segment.id for segment in chain(grown)] == wanted
    for document in grown.documents("law"):
        (place,) = [p for p in grown.document_places(document.document_id) if p.is_live]
        assert place.snapshot_id == after.id
    back = grown.roll_back(live.id, "ann")
    assert back.domains == live.domains
    places = grown.document_places(make.sha("law 0 "))
    assert places[0].snapshot_id == 2
    assert [segment.id for segment in chain(grown)] == [first.id, second.id]


def test_an_end_may_be_cut_off(grown):
    first, second = chain(grown)
    after = grown.regrow("law", second.id, first.id, [], "ann")
    assert after.state("law").version == first.id
    assert after.state("law").label == "v1"
    result = grown.purge("law", "ann", retired=True)
    assert (result.num_segments, result.num_documents) == (1, 3)
    with pytest.raises(StateError, match="holds versions that were purged"):
        grown.roll_back(3, "ann")


def test_what_does_not_fit_is_refused_and_changes_nothing(grown, make):
    first, second = chain(grown)
    before = grown.live(), grown.history(), grown.domains()
    unstored = make.mask(grown, "law", second.id, pool_object="e" * 64)
    stray = make.mask(grown, "medicine", grown.live().state("medicine").version)
    for arguments, error, told in (
        (("law", first.id, first.id, []), StateError, "changed meanwhile"),
        (("law", second.id, None, []), StateError, "nothing of 'law' would be left"),
        (("law", second.id, "0" * 32, []), StateError, "nothing of 'law' would be left"),
        (("law", second.id, second.id, [stray]), StateError, "of medicine grew on"),
        (
            ("law", second.id, second.id, [make.mask(grown, "law", first.id)]),
            StateError,
            f"grew on {first.id}",
        ),
        (
            (
                "law",
                second.id,
                second.id,
                [unstored],
            ),
            DamageError,
            "not stored",
        ),
        (("lav", second.id, second.id, []), UnknownError, "Did you mean 'law'"),
    ):
        with pytest.raises(error, match=told):
            grown.regrow(*arguments, "ann")
    assert (grown.live(), grown.history(), grown.domains()) == before
    grown.freeze("law", "ann")
    with pytest.raises(FrozenError, match="'law' is frozen"):
        grown.regrow("law", second.id, first.id, [], "ann")


@pytest.mark.parametrize(
    "changes", [{"parent": None}, {"num_experts": 3}, {"kind": "other"}], ids=str
)
def test_a_mask_that_is_none(grown, make, changes):
    with pytest.raises(InputError):
        make.mask(grown, "law", chain(grown)[-1].id, **changes)


def test_a_retired_purge_keeps_what_a_live_segment_or_another_domain_needs(grown, make):
    shared = ["one text", "another", "a third"]
    make.grow(grown, "law", texts=shared)
    make.grow(grown, "medicine", texts=shared)
    last = chain(grown)[-1]
    grown.roll_back_domain("law", chain(grown)[-2].id, "ann")
    grown.put_evaluation(5, {"of": "law"})
    grown.put_evaluation(4, {"of": "before"})
    result = grown.purge("law", "ann", "asked to", retired=True)
    assert (result.num_segments, result.num_documents) == (1, 0)
    assert result.num_shared_objects == 3
    assert result.num_evaluations == 1
    assert grown.evaluation(4) == {"of": "before"}
    assert not grown.objects.exists(last.pool_object)
    for document in grown.documents("medicine"):
        grown.document_text(document)
    assert [f for f in grown.doctor() if f.severity == "error"] == []
    with pytest.raises(StateError, match="there is nothing to delete"):
        grown.check_purgeable("law", retired=True)
    assert grown.purge("law", "ann", retired=True).num_segments == 0
    with pytest.raises(StateError, match="there is nothing to delete"):
        grown.purge("medicine", "ann", retired=True)
    with pytest.raises(StateError, match=r"`peer-cl purge law --retired`"):
        grown.purge("law", "ann")

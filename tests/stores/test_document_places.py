"""Where a document is held, the oldest place first, over all domains."""

import pytest

TEXT = "a text that two domains learned"


@pytest.fixture
def shared(registry, make):
    """A document that law learned as its second part, and then tax as its first."""
    make.grow(registry, "law")
    make.grow(registry, "law", texts=[TEXT, "another of law"])
    make.grow(registry, "tax", texts=[TEXT, "another of tax"])
    return make.sha(TEXT)


def places(registry, document_id):
    return [
        (place.document.domain, place.label, place.snapshot_id)
        for place in registry.document_places(document_id)
    ]


def test_places_are_in_the_order_in_which_they_came(registry, shared, make):
    assert places(registry, shared) == [("law", "v2", 3), ("tax", "v1", 4)]
    moments = [place.created_at for place in registry.document_places(shared)]
    assert moments == sorted(moments)
    with registry.writing("ann"):
        registry.roll_back_domain("law", None, "ann")
    segment = make.segment(registry, "law", texts=[TEXT, "law once more"])
    with registry.writing("ann"):
        registry.add_segment(segment, "ann", "")
    assert places(registry, shared) == [("law", "v2", 3), ("tax", "v1", 4), ("law", "v3", 6)]


def test_what_one_act_made_is_in_the_order_of_its_versions(registry, make):
    make.grow(registry, "law", texts=[TEXT, "another of law"])
    (first,) = registry.domain("law").chain
    new = make.segment(registry, "law", None, texts=[TEXT, "new"])
    newer = make.segment(registry, "law", new.segment_id, texts=[TEXT, "newer"])
    with registry.writing("ann"):
        registry.regrow("law", first.id, None, [new, newer], "ann")
    found = places(registry, make.sha(TEXT))
    assert found == [("law", "v1", 2), ("law", "v2", 3), ("law", "v3", 3)]

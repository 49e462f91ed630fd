from pipelines.obo import descendants, read_terms

CONTENT = """format-version: 1.2

[Term]
id: A:1
name: root

[Term]
id: A:2
name: joint pain
def: "Pain \\"in\\" a  joint." [x:y]
synonym: "sore joint" EXACT layperson []
is_a: A:1 ! root

[Term]
id: A:3
name: knee pain
is_a: A:2 ! joint pain

[Term]
id: A:4
name: gone
is_obsolete: true
is_a: A:1 ! root

[Typedef]
id: part_of
name: part of
"""


def test_terms_are_read_with_their_definitions_and_parents():
    terms = read_terms(CONTENT)
    assert list(terms) == ["A:1", "A:2", "A:3"]
    assert terms["A:2"].definition == 'Pain "in" a joint.'
    assert terms["A:2"].lay_names == ("sore joint",)
    assert terms["A:3"].parent_ids == ("A:2",)
    assert terms["A:3"].definition == ""


def test_descendants_are_found_through_all_levels():
    terms = read_terms(CONTENT)
    assert descendants(terms, "A:1") == {"A:2", "A:3"}
    assert descendants(terms, "A:3") == set()

import json
from collections import Counter

import pytest

from peer_cl.errors import CorpusError, UnknownError
from pipelines import background_readers, demo_corpora
from pipelines.background import SOURCES_FILE, load_background, shortened, source_pins


def test_the_roles_share_no_source_and_none_is_a_demo_corpus():
    pins = source_pins()
    files = Counter((pin.package.name, pin.member) for pin in pins)
    assert max(files.values()) == 1
    assert len({pin.name for pin in pins}) == len(pins)
    demo = {package.name for package in demo_corpora.PACKAGES.values()}
    assert demo.isdisjoint(pin.package.name for pin in pins)


def test_there_are_sources_enough_of_each_kind():
    kinds = Counter((pin.role, pin.kind) for pin in source_pins())
    assert kinds["calibration", "prose"] >= 3
    assert kinds["calibration", "look-alike"] >= 1
    assert kinds["test", "prose"] >= 3
    assert kinds["test", "look-alike"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("role", ["calibration", "test"])
def test_sources_have_their_documents_and_their_lengths(role, fetched):
    pins = {pin.name: pin for pin in source_pins() if pin.role == role}
    fetched(*{pin.package for pin in pins.values()})
    sources = load_background(role)
    assert [source.name for source in sources] == list(pins)
    for source in sources:
        pin = pins[source.name]
        assert len(source.documents) == pin.documents
        assert len(set(source.documents)) == pin.documents
        for text in source.documents:
            assert pin.min_characters <= len(text) <= pin.max_characters
            assert not any(mark in text for mark in ("[[", "{{", "''", "<ref", "&lt;", "\n"))
    assert load_background(role) == sources
    for source, whole in zip(sources, load_background(role, is_whole=True), strict=True):
        assert (whole.name, whole.kind) == (source.name, source.kind)
        assert len(whole.documents) > len(source.documents)
        begun = tuple(whole.documents)
        assert all(any(one.startswith(text) for one in begun) for text in source.documents)


def test_an_unknown_role_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(UnknownError, match="calibration, test"):
        load_background("validation")
    with pytest.raises(CorpusError, match="install peer-cl again"):
        source_pins(tmp_path / "sources.toml")


def test_an_unknown_reader_or_package_is_named(tmp_path):
    content = SOURCES_FILE.read_text()
    path = tmp_path / "sources.toml"
    path.write_text(content.replace('reader = "lines"', 'reader = "linse"'))
    with pytest.raises(UnknownError, match="Did you mean 'lines'"):
        source_pins(path)
    path.write_text(content.replace("[packages.gensim]", "[packages.gensin]"))
    with pytest.raises(UnknownError, match="Did you mean 'gensin'"):
        source_pins(path)


@pytest.mark.parametrize(
    ("reader", "content", "texts"),
    [
        ("lines", b"one\ntwo\n", ["one", "two"]),
        ("passages", b"  one\n\ntwo\n" + b"x" * 699, ["one\ntwo", "x" * 699]),
        ("speeches", b"party,text\nd,ANN: Thanks. (Applause.) Now.\n", ["Thanks.  Now."]),
        ("scripture", b'a = """\n1. In [the] start. 12. End.\n"""', ["", "In the start. End."]),
        ("weaknesses", b"Name,Description,Extended Description\nA,B.,C.\n", ["A: B. C."]),
    ],
)
def test_readers_yield_the_texts_of_a_file(reader, content, texts):
    assert list(background_readers.READERS[reader](content)) == texts


def test_readers_of_entries_join_a_name_and_what_is_said_of_it():
    sense = {"pos": [{"definitions": [{"text": "Hard."}, {"text": "Cold. "}]}]}
    assert list(background_readers.dictionary(json.dumps({"ice": sense}).encode())) == [
        "ice: Hard. Cold."
    ]
    beasts = {"data": [{"name": "Orc", "description": ["Green.", "Loud."]}]}
    assert list(background_readers.bestiary(json.dumps(beasts).encode())) == ["Orc: Green. Loud."]


def test_nested_wiki_markup_is_taken_away():
    text = "{{a|{{b}}}}[[File:x.png|thumb|a [[cat]]]]A '''cat''' , [[Cat|cats]]<ref>n</ref>."
    assert background_readers.plain_wiki(text) == "A cat, cats."
    assert (
        background_readers.plain_wiki("Huxley ({{IPA|x}}; 1894) wrote.") == "Huxley (1894) wrote."
    )


def test_a_text_without_sentences_is_cut_at_a_word():
    assert shortened("abcdef ghi jkl", 10) == "abcdef ghi"
    assert shortened("short", 10) == "short"

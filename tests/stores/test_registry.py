import dataclasses
import os
import sqlite3
import struct
from contextlib import closing

import pytest

from peer_cl.errors import (
    DamageError,
    DomainNameError,
    FrozenError,
    InputError,
    StateError,
    StoreFormatError,
    StoreLockedError,
    UnknownError,
    UnsupportedError,
)
from stores import NewScore, ObjectStore, Registry, StoreLayout
from stores.layout import finish, prepare


def contents(registry):
    """Everything that a refused act must leave as it was."""
    return registry.live(), registry.history(), registry.domains()


def test_a_new_store_is_empty_and_is_one_event_old(registry):
    assert registry.live().domains == ()
    assert registry.live().parent_id is None
    assert [event.action for event in registry.history()] == ["create"]
    assert registry.domains() == ()
    assert registry.doctor() == ()


def test_a_store_is_not_made_twice(registry, make):
    with pytest.raises(StateError, match=r"there is a store at .* already"):
        make.store(registry.folder)


def test_what_a_crashed_create_left_is_used_again(make, tmp_path):
    make.store(tmp_path / "k").close()
    (tmp_path / "k" / "store.toml").unlink()
    with make.store(tmp_path / "k") as registry:
        make.grow(registry, "law")
    (tmp_path / "k" / "store.toml").unlink()
    with pytest.raises(StateError, match=r"holds the registry of store .* with 1 segments"):
        make.store(tmp_path / "k")


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".hidden",
        "staging/draft.md",
        "index/index.html",
        "objects/ab/cd",
        f"objects/ab/{'cd' * 32}",
        "objects/readme",
        "registry.sqlite.before-0001",
        "registry.sqlite",
    ],
)
def test_no_store_is_made_among_a_users_files(make, tmp_path, name):
    users = tmp_path / "k" / name
    users.parent.mkdir(parents=True)
    users.write_text("dear diary", encoding="utf-8")
    before = sorted((tmp_path / "k").rglob("*"))
    with pytest.raises(StateError, match=rf"holds {name}; choose a new or empty folder"):
        Registry.create(tmp_path / "k", make.config())
    assert sorted((tmp_path / "k").rglob("*")) == before
    assert users.read_text(encoding="utf-8") == "dear diary"


def test_no_store_is_made_in_another_programs_database(make, tmp_path):
    (tmp_path / "k").mkdir()
    with closing(sqlite3.connect(tmp_path / "k" / "registry.sqlite")) as database:
        database.execute("CREATE TABLE diary (day TEXT)")
    with pytest.raises(StateError, match=r"holds registry\.sqlite; choose"):
        Registry.create(tmp_path / "k", make.config())


def test_every_name_of_a_crashed_create_is_used_again(make, tmp_path):
    folder = tmp_path / "k"
    for name in ("objects/ab", "index", "staging"):
        (folder / name).mkdir(parents=True)
    (folder / "objects" / "ab" / ("ab" * 32)).write_bytes(b"x")
    (folder / "registry.sqlite").touch()  # SQLite makes the file before it writes to it
    for name in (f"{'0a' * 16}.part", f"staging/{'0b' * 16}.part"):
        (folder / name).write_bytes(b"half")
    with make.store(folder) as registry:
        make.grow(registry, "law")


def test_open_refuses_what_is_no_store(make, tmp_path):
    with pytest.raises(StoreFormatError, match="no store at"):
        Registry.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    make.store(tmp_path / "a").close()
    make.store(tmp_path / "b").close()
    (tmp_path / "a" / "store.toml").replace(tmp_path / "b" / "store.toml")
    with pytest.raises(DamageError, match="restore both from one copy"):
        Registry.open(tmp_path / "b")
    (tmp_path / "b" / "registry.sqlite").write_bytes(b"no database at all" * 999)
    with pytest.raises(DamageError, match="is damaged"):
        Registry.open(tmp_path / "b")
    (tmp_path / "b" / "registry.sqlite").unlink()
    with pytest.raises(DamageError, match=r"registry\.sqlite is missing"):
        Registry.open(tmp_path / "b")
    assert not (tmp_path / "b" / "registry.sqlite").exists()


def test_what_was_added_is_read_back_after_reopening(registry, make):
    texts = ["one", "naïve two", "three"]
    segment = make.segment(registry, "medicine", texts=texts)
    with registry.writing("ann"):
        snapshot = registry.add_segment(segment, "ann", "first notes")
    registry.close()
    with Registry.open(registry.folder) as again:
        assert again.live() == snapshot
        state = snapshot.state("medicine")
        assert (state.version, state.label) == (segment.segment_id, "v1")
        (found,) = again.chain(state.version)
        for field in ("pool_object", "signature_object", "host_layers", "num_experts"):
            assert getattr(found, field) == getattr(segment, field)
        documents = again.documents("medicine")
        assert [again.document_text(document) for document in documents] == texts
        for document, given in zip(documents, segment.documents, strict=True):
            for field in dataclasses.fields(given):
                assert getattr(document, field.name) == getattr(given, field.name)
        detail = again.domain("medicine")
        assert detail.documents_by_split == {"train": 2, "test": 1}
        assert detail.documents_by_kind == {"text": 2, "fact": 1}
        (run,) = detail.runs
        assert run.losses == ((1, 3.5, None), (2, 3.25, 3.0))
        assert run.config == {"seed": 1}
        event = again.history(1)[0]
        assert (event.who, event.why, event.action) == ("ann", "first notes", "ingest")
        assert (event.domain, event.snapshot_id) == ("medicine", snapshot.id)


def test_documents_can_be_asked_for_by_split_kind_and_version(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "law", salt="more")
    assert len(registry.documents("law")) == 6
    assert len(registry.documents("law", "v1")) == 3
    assert {found.split for found in registry.documents("law", split="test")} == {"test"}
    assert len(registry.documents("law", kind="fact")) == 2
    assert registry.documents("law", split="test", kind="fact") == ()
    assert len(registry.known_documents("law")) == 6
    assert registry.known_documents("medicine") == set()


def test_acts_need_the_lease(registry, make):
    segment = make.segment(registry, "law")
    for act in (
        lambda: registry.add_segment(segment, "ann"),
        lambda: registry.freeze("law", "ann"),
        lambda: registry.roll_back_domain("law", None, "ann"),
        lambda: registry.roll_back(1, "ann"),
        lambda: registry.purge("law", "ann"),
    ):
        with pytest.raises(StateError, match="needs its lease"):
            act()


def test_a_domain_that_moved_meanwhile_is_not_grown(registry, make):
    late = make.segment(registry, "law")
    make.grow(registry, "law")
    before = contents(registry)
    with registry.writing("ann"):
        with pytest.raises(StateError, match="changed meanwhile"):
            registry.add_segment(late, "ann")
        with pytest.raises(StateError, match="changed meanwhile"):
            registry.add_segment(dataclasses.replace(late, domain="new", parent="0" * 32), "ann")
    assert contents(registry) == before


def test_a_frozen_domain_learns_nothing(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.freeze("law", "ann")
        before = contents(registry)
        version = registry.live().state("law").version
        with pytest.raises(FrozenError, match="`peer-cl unfreeze law` first"):
            registry.check_growth("law", version)
        with pytest.raises(FrozenError):
            registry.add_segment(make.segment(registry, "law", version), "ann")
        assert contents(registry) == before
        registry.unfreeze("law", "ann")
        registry.check_growth("law", version)
    make.grow(registry, "law", salt="2")


def test_a_full_store_takes_no_new_domain_but_more_segments(registry, make):
    for name in "abcd":
        make.grow(registry, name)
    with registry.writing("ann"):
        registry.disable("b", "ann")
    before = contents(registry)
    with pytest.raises(StateError, match=r"4 domains are live \(1 of them disabled\).* is 4"):
        make.grow(registry, "e")
    assert contents(registry) == before
    make.grow(registry, "a", salt="2")
    with registry.writing("ann"):
        registry.roll_back_domain("d", None, "ann")
    assert [state.domain for state in make.grow(registry, "e").domains] == ["a", "b", "c", "e"]


def test_a_disabled_domain_stays_disabled_when_it_grows(registry, make):
    make.grow(registry, "law")
    with registry.writing("ann"):
        registry.disable("law", "ann")
    assert not make.grow(registry, "law", salt="2").state("law").is_enabled


@pytest.mark.parametrize("which", ["pool_object", "signature_object", "use_object", "text"])
def test_a_segment_whose_objects_are_not_stored_is_refused(registry, make, which):
    segment = make.segment(registry, "law", use_object=registry.objects.put_bytes(b"uses"))
    text = segment.documents[0].text_object
    gone = text if which == "text" else getattr(segment, which)
    registry.objects.delete(gone)
    with registry.writing("ann"), pytest.raises(DamageError, match=gone):
        registry.add_segment(segment, "ann")
    assert registry.domains() == ()


def test_a_run_is_committed_once(registry, make):
    segment = make.segment(registry, "law")
    again = dataclasses.replace(make.segment(registry, "medicine"), run=segment.run)
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
        before = contents(registry)
        with pytest.raises(StateError, match="is in the registry already"):
            registry.add_segment(again, "ann")
    assert contents(registry) == before


@pytest.mark.parametrize(
    "name",
    ["", "a" * 65, "x" * 10_000, "../etc", "a/b", "a\\b", "A", ".hidden", "a b", "a..b", "a\n"],
)
def test_bad_names_are_refused(registry, make, name):
    with pytest.raises(DomainNameError, match=r"domain'?s? name"):
        make.segment(registry, name)


def test_bad_values_are_refused_at_construction(registry, make):
    segment = make.segment(registry, "law")
    document = segment.documents[0]
    for changes in (
        {"split": "dev"},
        {"kind": "poem"},
        {"document_id": "x"},
        {"num_tokens": -1},
        {"text_object": "../x"},
    ):
        with pytest.raises(InputError):
            dataclasses.replace(document, **changes)
    for changes in (
        {"documents": []},
        {"documents": [document, document]},
        {"pool_object": "x"},
        {"segment_id": "v1"},
        {"num_experts": 0},
    ):
        with pytest.raises(InputError):
            dataclasses.replace(segment, **changes)
    with pytest.raises(InputError, match="cannot be written as JSON"):
        dataclasses.replace(segment.run, losses=[(1, float("nan"), None)])


def test_an_unknown_domain_is_answered_with_the_nearest(registry, make):
    make.grow(registry, "law")
    make.grow(registry, "medicine")
    for act in (registry.domain, registry.documents, lambda name: registry.history(domain=name)):
        with pytest.raises(UnknownError, match="Did you mean 'medicine'"):
            act("medcine")
    with pytest.raises(UnknownError, match="no snapshot 99; there are 1 to 3"):
        registry.snapshot(99)
    with pytest.raises(UnknownError, match="no version"):
        registry.chain("0" * 32)


def test_versions_are_found_by_label_id_and_prefix(registry, make):
    first = make.grow(registry, "law").state("law").version
    second = make.grow(registry, "law", salt="2").state("law").version
    for text in ("v1", first, first[:6], first[:31]):
        assert registry.resolve_version("law", text) == first
    assert registry.resolve_version("law", "v2") == second
    for text in ("v3", first[:5], "", "v"):
        with pytest.raises(UnknownError, match=r"no version of law .*known: v1, v2"):
            registry.resolve_version("law", text)


def test_an_ambiguous_prefix_is_refused(registry, make):
    for number in (1, 2):
        make.grow(registry, "law", salt=str(number), segment_id="abcdef" + f"{number:026x}")
    with pytest.raises(UnknownError, match="2 versions of law begin with 'abcdef'"):
        registry.resolve_version("law", "abcdef")


def test_the_holders_of_documents_are_those_of_each_of_their_places(registry, make):
    make.grow(registry, "law", texts=["shared", "own"])
    make.grow(registry, "medicine", texts=["shared"])
    make.grow(registry, "geology", texts=["another"])
    with registry.writing("ann"):
        registry.roll_back_domain("medicine", None, "ann")
    ids = [make.sha("shared"), make.sha("own")]
    places = {place.document.domain for i in ids for place in registry.document_places(i)}
    assert registry.holders(ids) == places == {"law", "medicine"}
    assert registry.holders([make.sha("own")]) == {"law"}
    assert registry.holders([]) == set()


def test_documents_known_elsewhere_are_named(registry, make):
    shared, own = "shared text", "own text"
    make.grow(registry, "law", texts=[shared])
    make.grow(registry, "medicine", texts=[shared, own])
    ids = [make.sha(shared), make.sha(own), make.sha("new")]
    assert registry.elsewhere(ids, "geology") == {
        ids[0]: ("law", "medicine"),
        ids[1]: ("medicine",),
    }
    assert registry.elsewhere(ids, "medicine") == {ids[0]: ("law",)}
    with registry.writing("ann"):
        registry.roll_back_domain("medicine", None, "ann")
    assert registry.elsewhere(ids, "medicine") == {ids[0]: ("law",), ids[1]: ("rolled back",)}
    assert registry.known_documents("medicine") == set()


def test_thousands_of_documents_are_no_problem(registry, make):
    documents = [
        dataclasses.replace(
            make.segment(registry, "x", texts=["t"]).documents[0], document_id=f"{number:064x}"
        )
        for number in range(3)
    ]
    many = [
        dataclasses.replace(documents[number % 3], document_id=f"{number:064x}")
        for number in range(2500)
    ]
    segment = make.segment(registry, "law", documents=many)
    with registry.writing("ann"):
        registry.add_segment(segment, "ann")
    assert len(registry.known_documents("law")) == 2500
    assert len(registry.elsewhere([item.document_id for item in many], "other")) == 2500
    (summary,) = registry.domains()
    assert summary.num_documents == 2500


def test_texts_that_were_not_kept_are_asked_for_in_vain(registry, make):
    document = dataclasses.replace(
        make.segment(registry, "law", texts=["t"]).documents[0], text_object=None
    )
    make.grow(registry, "law", documents=[document])
    with pytest.raises(UnsupportedError, match="was not kept"):
        registry.document_text(registry.documents("law")[0])


def test_scores_never_change(registry, make):
    def score(subject, key, *values):
        return NewScore(
            subject=subject,
            document_key=make.sha(key),
            values=struct.pack(f"<{len(values)}d", *values),
            num_tokens=len(values),
        )

    version = make.grow(registry, "law").state("law").version
    first = [score("base", "a", -1.5, -2.0), score(version, "a", -0.5), score("base", "empty")]
    registry.put_scores(first)
    registry.put_scores([score("base", "a", -9.0), score("base", "b", -3.0)])
    keys = [make.sha(key) for key in ("a", "b", "c", "empty")]
    assert registry.scores("base", keys) == {
        keys[0]: first[0].values,
        keys[1]: struct.pack("<d", -3.0),
        keys[3]: b"",
    }
    assert registry.scores(version, keys) == {keys[0]: first[1].values}
    registry.put_scores([score(version, f"many {number}", -1.0) for number in range(2000)])
    many = [make.sha(f"many {number}") for number in range(2000)]
    assert len(registry.scores(version, many)) == 2000
    registry.put_scores([])
    with pytest.raises(InputError, match="take 16 bytes, not 8"):
        dataclasses.replace(first[0], values=b"x" * 8)
    with pytest.raises(InputError, match="a segment's id"):
        dataclasses.replace(first[0], subject="law")


def test_the_last_evaluation_of_a_snapshot_is_kept(registry):
    assert registry.evaluation(1) is None
    registry.put_evaluation(1, {"matrix": [[1.25]], "name": "é"})
    registry.put_evaluation(1, {"matrix": [[1.5, None]]})
    assert registry.evaluation(1) == {"matrix": [[1.5, None]]}
    with pytest.raises(InputError, match="JSON"):
        registry.put_evaluation(1, {"loss": float("inf")})
    with pytest.raises(UnknownError, match="no snapshot 9"):
        registry.put_evaluation(9, {})
    with pytest.raises(UnknownError, match="no snapshot 9"):
        registry.evaluation(9)


@pytest.mark.parametrize("quicker", ["first", "second"])
def test_of_two_that_make_a_store_at_once_one_does(tmp_path, make, quicker):
    layout = StoreLayout(tmp_path / "knowledge")
    configs = {"first": make.config(), "second": make.config()}
    made = {name: prepare(layout, config, name) for name, config in configs.items()}
    for name in sorted(made, key=lambda name: name != quicker):
        if name == "second":
            finish(layout, configs[name], made[name])
        else:
            with pytest.raises(StateError, match="another process makes a store at"):
                finish(layout, configs[name], made[name])
    with pytest.raises(StateError, match="there is a store at"):
        prepare(layout, configs["first"], "late")
    for database in made.values():
        database.close()
    with Registry.open(layout.folder) as registry:
        assert registry.config == configs["second"]


def test_no_new_domain_is_called_as_the_bare_model_is(registry, make):
    with pytest.raises(DomainNameError, match="cannot be called 'base'"):
        registry.check_growth("base", None)
    with pytest.raises(DomainNameError, match="cannot be called 'base'"):
        make.grow(registry, "base")


def test_a_snapshot_of_an_impossible_number_is_unknown(registry):
    for number in (0, -1, 2**31, 10**20):
        with pytest.raises(UnknownError, match=f"no snapshot {number}; there are 1 to 1"):
            registry.snapshot(number)


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_called_by_the_number(tmp_path, make, monkeypatch, error):
    def getuser():
        raise error("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", getuser)
    objects = ObjectStore(tmp_path / "k" / "objects", tmp_path / "k" / "staging")
    config = make.config(background_object=objects.put_bytes(b"background"))
    with Registry.create(tmp_path / "k", config) as registry:
        (first,) = registry.history()
        assert first.who == f"uid {os.getuid()}"
        with (
            registry.writing(),
            Registry.open(tmp_path / "k") as other,
            pytest.raises(StoreLockedError, match=r"by uid \d+ .process"),
            other.writing(),
        ):
            pass


WORDS = [
    (None, "must be a str, not NoneType"),
    (b"bytes", "must be a str, not bytes"),
    ("caf\udce9", r"'caf\\udce9' holds a byte that is not UTF-8 \(character 4\)"),
    ("a\0b", r"'a\\x00b' holds a NUL character \(character 2\)"),
]


@pytest.mark.parametrize(("given", "told"), WORDS)
def test_what_cannot_be_kept_as_why_changes_nothing(registry, make, given, told):
    make.grow(registry, "law")
    before = contents(registry)
    segment = make.segment(registry, "law", registry.live().state("law").version)
    with registry.writing("ann"):
        for act in (
            lambda: registry.freeze("law", "ann", given),
            lambda: registry.roll_back(1, "ann", given),
            lambda: registry.roll_back_domain("law", None, "ann", given),
            lambda: registry.add_segment(segment, "ann", given),
        ):
            with pytest.raises(InputError, match=f"why {told}"):
                act()
    assert contents(registry) == before


@pytest.mark.parametrize(("given", "told"), WORDS[1:])
def test_nobody_writes_under_a_name_that_cannot_be_kept(registry, make, tmp_path, given, told):
    with pytest.raises(InputError, match=f"who {told}"), registry.writing(given):
        pass
    make.grow(registry, "law")
    with registry.writing("ann"), pytest.raises(InputError, match=f"who {told}"):
        registry.freeze("law", given)
    with pytest.raises(InputError, match=f"who {told}"):
        Registry.create(tmp_path / "new", make.config(), who=given)
    assert not (tmp_path / "new").exists()

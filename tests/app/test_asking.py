"""trace, search, experts and document, on a store that really learned."""

import pytest
from tiny_base import SUBJECTS, copy_store, make_tiny_store, tiny_settings, write_corpus

from app.output import cell
from pipelines import open_store

TEXT = SUBJECTS["law"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"))


@pytest.fixture
def learned(made, tmp_path):
    return copy_store(made, tmp_path)


def test_trace_shows_tokens_rows_documents_and_the_next_token(peer_cl, made):
    told = peer_cl("trace", TEXT, "--json", folder=made).json
    assert told["asked"] == ["law"]
    assert "".join(token["text"] for token in told["tokens"]).strip() == TEXT
    assert told["weights"]["law"] + told["base_weight"] == pytest.approx(1)
    assert {row["domain"] for row in told["rows"]["law"]} == {"law"}
    assert {item["domain"] for item in told["documents"]} == {"law"}
    assert len(told["next_base"]) == len(told["next_injected"]) == 5
    shown = peer_cl("trace", TEXT, folder=made).out
    for part in ("asked: law", "evidence law", "strongest rows over the text", "the next token"):
        assert part in shown
    document = told["documents"][0]
    assert document["document_id"][:12] in shown


def test_trace_takes_a_stored_document(peer_cl, made):
    listed = peer_cl("documents", "law", "--split", "train", "--json", folder=made).json
    wanted = listed[0]["document_id"]
    told = peer_cl("trace", "--document", wanted[:8], "--json", folder=made).json
    assert told["documents"][0]["document_id"] == wanted
    assert told["asked"] == ["law"], "its own domain"
    every = peer_cl("trace", "--document", wanted, "--all", "--json", folder=made).json
    assert every["asked"] == ["law", "medicine"]


def test_where_nobody_is_asked_the_trace_says_so(peer_cl, made):
    shown = peer_cl("trace", SUBJECTS["prose"], folder=made).out
    assert "asked: no domain; base 1.0000" in shown
    assert "the bare model answers" in shown
    every = peer_cl("trace", SUBJECTS["prose"], "--all", "--json", folder=made).json
    assert every["asked"] == ["law", "medicine"]


def test_search_names_domains_rows_and_documents(peer_cl, made):
    told = peer_cl("search", TEXT, "--json", folder=made).json
    assert list(told["log_odds"]) == ["law", "medicine"]
    assert told["documents"][0]["domain"] == "law"
    shown = peer_cl("search", TEXT, "--domain", "law", "--limit", "2", folder=made).out
    assert "rows that the text would ask" in shown
    assert "medicine" not in shown
    asked = {name: "yes" if name in told["asked"] else "no" for name in told["log_odds"]}
    assert asked == {"law": "yes", "medicine": "no"}
    lines = peer_cl("search", TEXT, "--limit", "2", folder=made).out.splitlines()
    for line, name in zip(lines[2:4], told["log_odds"], strict=True):
        needed = told["needed"][name]
        assert line.split()[0] == name
        assert line.split()[2:] == [cell(needed), asked[name]]


def test_experts_shows_use_rows_and_one_row(peer_cl, made):
    told = peer_cl("experts", "law", "--limit", "3", "--json", folder=made).json
    assert len(told["busiest"]) == len(told["most_specific"]) == 3
    row = told["busiest"][0]
    place = f"{row['host_layer']}:{row['row']}"
    shown = peer_cl("experts", "law", "--limit", "3", folder=made).out
    assert place in shown
    assert "unevenness" in shown
    one = peer_cl("experts", "law", "--row", place, "--json", folder=made).json
    assert one["held"]["use"]["num_documents"] == row["num_documents"]
    assert "documents that it holds" in peer_cl("experts", "law", "--row", place, folder=made).out
    assert len(one["held"]["documents"]) > 1
    words = ("experts", "law", "--row", place, "--limit", "1")
    first = peer_cl(*words, "--json", folder=made).json["held"]
    assert first["documents"] == one["held"]["documents"][:1]
    assert len(first["shares"]) == 1
    assert one["held"]["documents"][1]["document_id"][:12] not in peer_cl(*words, folder=made).out


def test_rows_of_a_domain_of_several_versions_are_named_with_theirs(peer_cl, learned, tmp_path):
    more = write_corpus(tmp_path / "more.jsonl", "law", seed=2)
    with open_store(learned) as store:
        store.ingest("law", more, settings=tiny_settings())
        labels = {one.id: one.label for one in store.registry.domain("law").versions}
    words = ("--domain", "law", "--domain", "medicine")
    for asked in (("trace", TEXT, "--rows", "9", *words), ("search", TEXT, "--limit", "30")):
        told = peer_cl(*asked, "--json", folder=learned).json["rows"]
        rows = [row for own in told.values() for row in own] if asked[0] == "trace" else told
        assert {labels[row["segment_id"]] for row in rows if row["domain"] == "law"} == {"v1", "v2"}
        shown = peer_cl(*asked, folder=learned).out
        assert "version:layer:row" in shown
        for row in rows:
            place = f"{row['host_layer']}:{row['row']}"
            label = labels.get(row["segment_id"])
            assert f" {place} " in shown if label is None else f" {label}:{place} " in shown
    last = next(row for row in rows if labels.get(row["segment_id"]) == "v1")
    name = f"v1:{last['host_layer']}:{last['row']}"
    one = peer_cl("experts", "law", "--row", name, "--json", folder=learned).json
    assert one["expert"]["label"] == "v1"
    refused = peer_cl("experts", "law", "--row", name, "--version", "v2", folder=learned)
    assert (refused.code, "give one of them" in refused.err) == (2, True)


def test_document_shows_losses_and_rows(peer_cl, made):
    listed = peer_cl("documents", "law", "--json", folder=made).json
    wanted = next(item for item in listed if item["split"] == "train")
    told = peer_cl("document", wanted["document_id"], "--json", folder=made).json
    (place,) = told["places"]
    assert place["document"]["nats"] < place["document"]["base_nats"]
    assert told["rows"][0]["specificity"] >= told["rows"][-1]["specificity"]
    shown = peer_cl("document", wanted["document_id"], "--rows", "2", folder=made).out
    assert "rows that hold it" in shown
    assert f"{wanted['nats']:.4f}" in peer_cl("documents", "law", folder=made).out
    held_out = next(item for item in listed if item["split"] == "test")
    assert (
        "none is recorded: it was held out"
        in peer_cl("document", held_out["document_id"], folder=made).out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trace",), "give either a text or --document ID"),
        (("trace", "words", "--document", "abcdef"), "give either a text or --document ID"),
        (("trace", "--document", "abcdef"), "no document 'abcdef'"),
        (("trace", " "), "the text is empty"),
        (("trace", "words", "--all", "--domain", "law"), "give one of the two"),
        (("trace", "rent " * 600), "tokens and the base's context is 512"),
        (
            ("trace", "words", "--domain", "lwa"),
            "no domain 'lwa'; known: law, medicine. Did you mean 'law'?",
        ),
        (
            ("search", "words", "--domain", "lwa"),
            "no domain 'lwa'; known: law, medicine. Did you mean 'law'?",
        ),
        (("search", "rent " * 600), "tokens and the base's context is 512"),
        (("experts", "lwa"), "no domain 'lwa'; known: law, medicine. Did you mean 'law'?"),
        (("experts", "law", "--layer", "77"), "no rows at layer 77"),
        (("experts", "law", "--row", "nine"), "a row is named LAYER:ROW"),
        (("experts", "law", "--row", "77:1"), "no rows at layer 77"),
    ],
)
def test_bad_questions_are_one_line_and_exit_with_2(peer_cl, made, words, message):
    result = peer_cl(*words, folder=made)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_a_document_of_no_live_pool_is_told(peer_cl, learned):
    wanted = peer_cl("documents", "law", "--json", folder=learned).json[0]["document_id"]
    peer_cl("disable", "law", folder=learned)
    result = peer_cl("trace", "--document", wanted, folder=learned)
    assert result.code == 2
    assert "is in no live and enabled domain (it came with law)" in result.err
    result = peer_cl("experts", "law", folder=learned)
    assert (result.code, "is disabled and not asked" in result.err) == (2, True)
    peer_cl("rollback", "law", "--out", folder=learned)
    result = peer_cl("trace", "--document", wanted, folder=learned)
    assert "is in no live and enabled domain (it came with law)" in result.err
    assert "`peer-cl bring-back law` puts it back" in peer_cl("experts", "law", folder=learned).err
    peer_cl("disable", "medicine", folder=learned)
    told = peer_cl("trace", "the court held", "--all", folder=learned).out
    assert "no domain is live and enabled: the bare model answers" in told
    told = peer_cl("generate", "the court held", "--max-new-tokens", "2", folder=learned).out
    assert "no domain is live and enabled: the bare model answers" in told


def test_of_a_documents_rows_so_many_are_told_in_json_too(peer_cl, made):
    listed = peer_cl("documents", "law", "--split", "train", "--json", folder=made).json
    told = peer_cl("document", listed[0]["document_id"], "--rows", "2", "--json", folder=made).json
    assert len(told["rows"]) == 2 < told["num_rows"]

"""Many small domains on a tiny base: articles of a file, learned one after the other."""

import json
import math
import shutil
from dataclasses import replace

import pytest
from tiny_base import sentences
from tiny_stream import SETTINGS, tiny_workshop

from benchmarks.many import run
from benchmarks.many.articles import Articles, slug
from benchmarks.many.growing import grow, learn, sizes
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.pieces import Place
from benchmarks.stream.raw import RawFolder
from peer_cl.errors import CorpusError, StateError
from peer_cl.mixture import worst_added_nats
from pipelines.general_tasks import FILES

LINES = 10
"""Of a paragraph: the held-out ones together are longer than a document of 128 tokens."""
TITLES = {"Law (England)": "law", "Minerals": "minerals", "Ships": "prose"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for title, subject in TITLES.items():
        lines = sentences(subject, 40 * LINES, seed=2)
        for number in range(40):
            text = " ".join(lines[number * LINES : (number + 1) * LINES])
            asked = [
                {"question": "What comes first?", "answer": f"{text.split()[0]}."},
                {"question": "What comes first?", "answer": "something else"},
                {"question": "All of it?", "answer": "far too many words for this"},
            ]
            about = {"domain": title, "doc_id": f"{title}/{number}", "text": text}
            rows.append(json.dumps(about | {"questions": asked}))
    (folder / "squad_stream.jsonl").write_text("\n".join(rows), encoding="utf-8")
    passages = [*sentences("law", 3, seed=31), *sentences("prose", 3, seed=31)]
    items = [json.dumps({"context": text, "continuation": " rain"}) for text in passages]
    (folder / FILES["LAMBADA"]).write_text("\n".join(items), encoding="utf-8")
    (folder / FILES["WikiText"]).write_text(" ".join(passages), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory, data):
    articles = Articles(data)
    return tiny_workshop(
        tmp_path_factory.mktemp("many"),
        names=articles.names(),
        load=articles.load,
        data=data,
        settings=replace(SETTINGS, text_passes=2.0),
        most_foreign=4,
        capacity=run.CAPACITY,
    )


@pytest.fixture(scope="module")
def found(shop):
    assert run.told(shop) == [], "nothing is learned yet"
    do_missing(shop, run.pieces, math.inf)
    return {figure.figure: figure for figure in run.told(shop)}


def test_articles_are_domains_with_short_questions_on_their_paragraphs(data):
    articles = Articles(data)
    assert articles.names() == ("law-england", "minerals", "ships")
    domain = articles.load("minerals")
    assert len(domain.documents) == 40
    assert len(domain.asked) == 40, "one of three: another is a repetition, another is too long"
    by_id = {document.document_id: document.text for document in domain.documents}
    for one in domain.asked:
        assert by_id[one.document_id].startswith(one.answer)
        assert one.prompt == "What comes first? Answer:"


def test_without_the_file_it_says_what_to_name(tmp_path):
    with pytest.raises(CorpusError, match="name the folder of the public sets with --data"):
        Articles(tmp_path).names()


def test_a_title_is_a_plain_name():
    assert slug("1973 oil crisis") == "1973-oil-crisis"


def test_sizes_end_with_all():
    assert sizes(48)[-2:] == [32, 48]
    assert sizes(1) == [1]


def test_only_questions_on_learned_paragraphs_are_asked(shop):
    for name, prepared in shop.prepared.items():
        asked = [one for one in prepared.questions if one.wording == "people"]
        assert 0 < len(asked) < 40, name


def test_no_document_loses_more_than_the_budget_and_every_size_is_told(shop, found):
    worst = [figure for name, figure in found.items() if name.startswith("worst added loss of a")]
    assert len(worst) == len(sizes(len(TITLES)))
    assert all(figure.value <= worst_added_nats(0.02) + 2e-4 for figure in worst)
    assert found["capacity (pools)"].value == 64


def test_prose_is_read_at_length_with_every_number_of_pools(shop, found):
    lengths = {length: shop.raw.read(name)["lengths"] for length, name in run.PROSE.items()}
    assert list(lengths) == [128, 512, 2048]
    assert all(set(found) <= {str(length)} for length, found in lengths.items())
    told = lengths[128]["128"]
    assert list(told["mixture"]) == ["1", "3"]
    asked = [any(one) for one in zip(*told["asked"].values(), strict=True)]
    silent = found["ask no pool, 6 documents, prose of 128 tokens, 3 pools (share)"]
    assert silent.value == pytest.approx(1 - sum(asked) / 6)
    assert 0 < silent.value < 1, "passages on rain ask nobody, those on law their pool"
    worst = found["worst added loss of 6 documents, prose of 128 tokens, 3 pools (nats)"]
    assert worst.value <= worst_added_nats(0.02) + 2e-4
    assert silent.command == worst.command == "python -m benchmarks many --data FOLDER"


def test_what_a_share_costs_is_told_beside_what_is_kept(shop, found):
    own = shop.raw.read(run.GROWN)["sizes"]["3"]["own"]
    price = found["evidence that outweighs a pool's share (nats)"].value
    assert price == pytest.approx(math.log(64 / 0.02))
    gains = [(sum(one["base"]) - sum(one["forced"])) / len(one["base"]) for one in own.values()]
    mean = sum(gains) / len(gains)
    assert found["gain of a document's own pool, mean (nats)"].value == pytest.approx(mean)
    most = [max(0.0, 1 - price / gain) if gain > 0 else 0.0 for gain in gains]
    said = "kept, documents of 128 tokens, by the own pool alone with all evidence given"
    assert found[f"{said}, mean (share)"].value == pytest.approx(sum(most) / len(most))


def test_a_size_is_the_same_store_with_fewer_pools(shop, found):
    told = shop.raw.read(run.GROWN)["sizes"]
    assert list(told) == ["1", "2", "3"]
    first = [size["own"]["law-england"] for size in told.values()]
    assert first[0]["forced"] == first[2]["forced"]
    assert first[0]["asked_own"] == first[2]["asked_own"]
    assert all(a <= b for a, b in zip(first[0]["num_asked"], first[2]["num_asked"], strict=True))


def test_the_same_documents_are_counted_at_every_size(shop, found):
    told = shop.raw.read(run.GROWN)["sizes"]
    lengths = {tuple(len(one) for one in size["others_asked"].values()) for size in told.values()}
    assert lengths == {tuple(len(told["3"]["own"][name]["base"]) for name in shop.names)}
    assert not any(told["1"]["others_asked"]["law-england"])
    for name in shop.names:  # at the end a document asks others, and perhaps its own
        last = told["3"]["own"][name]
        asked = zip(told["3"]["others_asked"][name], last["asked_own"], strict=True)
        assert [others + own for others, own in asked] == last["num_asked"]
    others = [num for one in told["3"]["others_asked"].values() for num in one]
    share = found["share of other domains' pools that a document asks"].value
    assert share == pytest.approx(sum(others) / len(others) / 2)


def test_a_work_folder_that_is_lost_is_told_before_anything_is_learned(shop, found, tmp_path):
    run.check_kept(shop)
    raw = RawFolder(tmp_path / "raw")
    shutil.copytree(shop.raw.folder, raw.folder)
    lost = replace(shop, raw=raw, work=tmp_path / "lost")
    run.check_kept(lost)  # every piece is done: nothing reads the folder
    for needs_pools in (*run.PROSE.values(), run.ASKED):
        raw.path(needs_pools).unlink()
        wanted = r"3 pools and 0 files .* gone from .*lost: name"
        with pytest.raises(StateError, match=wanted) as told:
            run.check_kept(lost)
        assert "base.json" not in str(told.value)
    raw.path(run.GROWN).unlink()
    wanted = r"3 pools and 4 files of .* gone from .*lost: .* or remove .*raw/\*\.json, and"
    for refused in (run.check_kept, lambda lost: grow(lost, run.SEED)):
        with pytest.raises(StateError, match=wanted):
            refused(lost)


def test_scores_that_are_gone_are_named_by_the_raw_file_of_their_piece(shop, found, tmp_path):
    raw, work = RawFolder(tmp_path / "raw"), tmp_path / "work"
    shutil.copytree(shop.raw.folder, raw.folder)
    shutil.copytree(shop.work, work)
    raw.path(run.GROWN).unlink()
    partly = replace(shop, raw=raw, work=work)
    run.check_kept(partly)
    (gone,) = (work / "tokens").glob("*minerals*")
    gone.unlink()
    wanted = r"0 pools and 1 files .* remove \S*peer\.s0\.1-minerals\.json, and"
    with pytest.raises(StateError, match=wanted):
        run.check_kept(partly)


def test_a_pool_that_another_process_learned_is_not_learned_again(shop, found, tmp_path):
    raw, place = RawFolder(tmp_path / "raw"), Place("peer", run.SEED, 1, "minerals")
    other = replace(shop, raw=raw, part="-part2")
    again = learn(other, place)
    assert again["nats"] == shop.raw.read(place.piece)["nats"]
    with other.store("peer-s0") as store:
        assert store.registry.live().domains == ()


def test_a_pool_learns_its_article(found):
    forced = found["unseen loss, own pool forced on (nats a token)"].value
    assert forced < found["unseen loss, base alone (nats a token)"].value

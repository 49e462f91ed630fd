"""The whole stream on a tiny base: every piece is done once, and its figures add up."""

import functools
import json
import math

import pytest
from tiny_stream import stream_domain, tiny_workshop

from benchmarks.results import shown
from benchmarks.stream import checks, pools, spread
from benchmarks.stream.jobs import do_missing
from benchmarks.stream.matrices import FORCED, GATE, GUIDED, NAMED, OF_QUESTIONS, Scores
from benchmarks.stream.methods_table import methods_table
from benchmarks.stream.mixing import GATES_NATS
from benchmarks.stream.pieces import BASE, CHAINS
from benchmarks.stream.plan import plan, rate_of
from benchmarks.stream.raw import RawFolder
from benchmarks.stream.report import figures, lines
from benchmarks.stream.spread import spread_figures
from benchmarks.stream.workshop import Workshop
from peer_cl.errors import StateError
from peer_cl.mixture import worst_added_nats
from pipelines.general import ReaderScorer

NAMES = ("law", "minerals")
METHODS = ("peer", "lora", "lora-mixture", "lora-mixture-sparing", "full", "joint")
PLANNED = functools.partial(plan, seeds=[0], methods=METHODS, with_tuning=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return tiny_workshop(tmp_path_factory.mktemp("stream"))


@pytest.fixture(scope="module")
def scores(shop):
    do_missing(shop, PLANNED, math.inf)
    return Scores(shop.raw, NAMES)


def test_a_second_call_does_nothing_again(shop, scores, capsys):
    pieces = PLANNED(shop)
    do_missing(shop, PLANNED, math.inf)
    assert capsys.readouterr().out == f"{len(pieces)} of {len(pieces)} pieces are done\n"


def test_every_method_has_a_line_and_row_0_is_the_base(scores):
    found = {line.method: line for line in lines(scores)}
    assert found.keys() == {
        "peer", "peer named", "peer guided", "peer forced", "peer gate", "lora",
        "full", "joint",
        *(f"{name}{way}" for name in ("lora-mixture", "lora-mixture-sparing")
          for way in ("", " named", " guided", " forced", " gate")),
    }  # fmt: skip
    first = [scores.loss(scores.base, name) for name in NAMES]
    assert all(line.losses[0] == pytest.approx(first, abs=1e-5) for line in found.values())


def test_adapters_are_asked_by_the_signatures_that_pools_have(shop, scores):
    with shop.stores("peer-s0") as stores, shop.stores("signatures-s0") as light:
        (trained, own), (hardly, others) = (pools.load(some, NAMES) for some in (stores, light))
    for name in NAMES:
        assert own.signatures[name].to_bytes() == others.signatures[name].to_bytes()
        assert trained.segments[name][0].sha256() != hardly.segments[name][0].sha256()


def test_pools_learn_and_forget_nothing(scores):
    mixture, forced = (scores.losses("peer", 0, way) for way in ("", FORCED))
    assert forced[2][0] < forced[0][0]
    assert forced[2][1] < forced[0][1]
    # Asking a second pool may cost what its share is, and no more.
    num_tokens = sum(scores.base["tokens"]["test/law"])
    most = worst_added_nats(0.02) * len(scores.base["tokens"]["test/law"]) / num_tokens
    assert mixture[2][0] <= mixture[1][0] + most


def test_no_document_loses_more_than_the_budget_allows(scores):
    raw = scores.mixture("peer", 0)
    bound = worst_added_nats(raw["budget"]) + 2e-4  # raw sums are rounded
    for row in raw["rows"]:
        for group, nats in row.items():
            base = scores.base["nats"][group]
            assert all(n <= b + bound for n, b in zip(nats, base, strict=True))
    foreign_row = raw["foreign"]["prose/rain"]
    pairs = zip(foreign_row["mixture"], foreign_row["base"], strict=True)
    assert all(nats <= base + bound for nats, base in pairs)


def test_figures_are_finite_and_named_once(scores):
    found = figures(scores)
    names = [figure.figure for figure in found]
    assert len(set(names)) == len(names)
    assert any(figure.holds is not None for figure in found)
    for part in (
        "intransigence: loss after learning above all domains' at once",
        "one LoRA r16 a domain, our mixture, names count: recall at the end, reworded",
        "without stock words",
    ):
        assert any(part in name for name in names)


def test_what_each_adapter_of_its_own_does_to_prose_is_its_pieces_added_loss(shop, scores):
    values = {figure.figure: figure.value for figure in figures(scores)}
    base = scores.base["nats"]
    for words, method in (
        ("one LoRA r16 a domain", "lora-mixture"),
        ("one LoRA r27 a domain, ordinary text spared as by ours", "lora-mixture-sparing"),
    ):
        raw = shop.raw.read(f"{method}/s0/1-minerals")["nats"]
        prose = [group for group in base if group.startswith("prose/")]
        added = sum(sum(raw[group]) - sum(base[group]) for group in prose)
        num = sum(sum(scores.base["tokens"][group]) for group in prose)
        said = f"loss added to prose by {words}, always on, minerals (nats a token)"
        assert values[said] == pytest.approx(added / num)


def test_a_rival_behind_the_mixture_is_asked_as_ours_is_and_has_no_goal(shop, scores):
    found = {figure.figure: figure for figure in figures(scores)}
    for words, method in (("one LoRA r16 a domain", "lora-mixture"), (None, "peer")):
        raw = shop.raw.read(f"{method}/s0/mixture")
        ((odds, named),) = raw["named"].items()
        for how, told in (("", raw), (f", names count with odds {odds}", named)):
            weights = [
                w
                for name in NAMES
                for one in told["recall"][name].values()
                for w in one["own_weight"]
            ]
            name = f"questions about a domain whose pool has weight above 0.5{how} (share)"
            figure = found[f"{words}, our mixture: {name}" if words else name]
            assert figure.value == pytest.approx(sum(w > 0.5 for w in weights) / len(weights))
            assert (figure.holds is None) == (words is not None)


def test_the_table_has_a_row_a_method_and_the_figures_values(scores):
    found = figures(scores)
    head, _, *rows = methods_table(found).splitlines()
    cells = {row.split(" | ")[0].strip("| "): row.strip("| ").split(" | ") for row in rows}
    assert {"base", "ours", "LoRA r16, sequential", "one LoRA, all domains at once"} <= cells.keys()
    values = {figure.figure: shown(figure.value) for figure in found}
    column = [name.strip() for name in head.strip("| ").split(" | ")].index(
        "at the end, in other words"
    )
    assert cells["ours"][column] == values["ours: recall at the end, reworded (share)"]
    assert cells["base"][column] == values["base: recall, reworded wording (share)"]


def test_the_short_table_says_what_the_long_one_says(scores):
    found = figures(scores)
    long, short = (
        [line[2:-2].split(" | ") for line in methods_table(found, is_short=it).splitlines()]
        for it in (False, True)
    )
    rows = {row[0]: dict(zip(long[0], row, strict=True)) for row in long if len(row) > 1}
    assert {"base", "ours", "ours, right pool forced on"} <= {row[0] for row in short}
    assert len(short) < len(long)
    assert len(short[0]) < len(long[0])
    for row in short:
        if len(row) > 1:
            assert row == [rows[row[0]][name] for name in short[0]]


def test_where_names_count_questions_have_answers_of_their_own(scores):
    raw = scores.mixture("peer", 0)
    (named,) = raw["named"].values()
    for wording in ("seen", "reworded"):
        for way, said in ((NAMED, "mixture"), (GUIDED, "guided")):
            found = scores.recalls("peer", 0, wording, way)
            own = [named["recall"][name][wording][said] for name in NAMES]
            assert found.end == [sum(one) / len(one) for one in own]
    for way in OF_QUESTIONS:
        assert scores.losses("peer", 0, way) == scores.losses("peer", 0)


def test_a_mixture_that_knows_no_names_or_guidance_is_reported_without_them(shop, scores):
    place = "peer/s0/mixture"
    kept = shop.raw.path(place).read_text()
    raw = shop.raw.read(place)
    (named,) = raw["named"].values()
    for asked in named["recall"].values():
        for row in asked.values():
            del row["guided"]
    shop.raw.write(place, raw)
    words = {line.words for line in lines(scores)}
    assert "ours, names count" in words
    assert "ours, names count, answers guided" not in words
    del raw["named"]
    shop.raw.write(place, raw)
    told = [figure.figure for figure in figures(scores) if "names count" in figure.figure]
    assert told
    assert all(name.startswith("one LoRA ") for name in told)  # whose mixtures know them
    shop.raw.path(place).write_text(kept)


def test_a_gate_knows_no_branch_before_it_is_learned(scores):
    gate, first = scores.losses("peer", 0, GATE), scores.loss(scores.base, "minerals")
    assert gate[0][1] == pytest.approx(first, abs=1e-5)
    gates = scores.mixture("peer", 0)["gates"]
    assert tuple(gates) == tuple(str(nats) for nats in GATES_NATS)
    for gate in gates.values():
        assert len(gate["rows"]) == len(NAMES) + 1
        base = scores.base["nats"]["test/law"]
        assert gate["rows"][0]["test/law"] == pytest.approx(base, abs=2e-4)


def test_the_best_gate_is_the_one_that_domains_lose_least_behind(scores):
    mixture = scores.mixture("peer", 0)
    best, names = scores.best_gate(mixture), list(enumerate(scores.names, 1))

    def after(gate):
        return sum(scores.loss({"nats": gate["rows"][number]}, name) for number, name in names)

    assert after(best) == min(map(after, mixture["gates"].values()))
    worst = {figure.figure: figure.value for figure in figures(scores)}
    words = "ours, behind the best hard gate: worst added loss of a foreign document (nats)"
    added = [
        gated - base
        for group, nats in best["foreign"].items()
        for gated, base in zip(nats, scores.base["nats"][group], strict=True)
    ]
    assert worst[words] == pytest.approx(max(added))


def test_a_chain_whose_model_is_gone_says_what_to_do(shop, scores, tmp_path):
    place = f"lora/s0/1-{NAMES[1]}"
    kept = shop.raw.path(place).read_text()
    shop.raw.path(place).unlink()
    states = shop.work / "states"
    states.rename(tmp_path / "elsewhere")
    (piece,) = [p for p in plan(shop, [0], ["lora"], with_tuning=False) if p.name == place]
    with pytest.raises(StateError, match="is gone: the model that this piece goes on from"):
        piece.do(shop)
    (tmp_path / "elsewhere").rename(states)
    shop.raw.path(place).write_text(kept)


def test_the_rate_with_the_least_validation_loss_is_taken(shop, tmp_path):
    own = Workshop(raw=RawFolder(tmp_path), work=tmp_path, names=NAMES)
    assert rate_of(own, "lora") == 1e-3  # nothing tuned: the grid's middle
    for rate, loss in ((3e-3, 3.0), (6e-3, 2.9), (1.2e-2, 2.5)):
        for name in NAMES:
            own.raw.write(f"tune/peer/{rate:g}/{name}", {"loss_nats": loss})
    assert rate_of(own, "peer") == 1.2e-2
    for rate, loss in ((3e-4, 3.0), (1e-3, 2.9), (3e-3, 2.5)):
        own.raw.write(f"tune/lora/{rate:g}/law+minerals", {"loss_nats": loss})
    assert rate_of(own, "lora") == 3e-3
    for method in ("lora-replay", "lora-mixture", "lora-mixture-equal"):
        assert rate_of(own, method) == 1e-3  # whatever was tuned
    assert rate_of(own, "joint") == 3e-4
    for rate, loss in ((3e-5, 2.0), (1e-4, 2.1), (3e-4, 2.5)):
        own.raw.write(f"tune/full/{rate:g}/law+minerals", {"loss_nats": loss})
    assert rate_of(own, "full") == 3e-5


@pytest.mark.parametrize("method", ["lora", "full", "osf", "sparse"])
def test_a_rate_is_chosen_after_both_domains_in_a_row(tmp_path, method):
    own = tiny_workshop(tmp_path, load=functools.partial(stream_domain, num=60))
    pieces = [one for one in plan(own, [0], [method]) if one.tunes]
    assert [one.name.rpartition("/")[2] for one in pieces] == ["law+minerals"] * 3
    raw = pieces[1].do(own)
    assert math.isfinite(raw["loss_nats"])
    # As the stream's own pieces would have it: the second goes on from what the first kept.
    first, second = (one for one in plan(own, [0], [method], with_tuning=False) if one.learns)
    for piece in (first, second):
        own.raw.write(piece.name, piece.do(own))
    made = CHAINS[method](own.base(), 2, 0)
    made.load(own.work / "states" / f"{method}-s0" / "1")
    losses = []
    for data in own.prepared.values():
        rows = [item.ids for item in data.validation]
        found = ReaderScorer(made.reader()).log_probs(rows)
        losses.append(-sum(one.sum() for one in found) / sum(len(ids) - 1 for ids in rows))
    assert raw["loss_nats"] == pytest.approx(sum(losses) / 2, abs=1e-4)
    assert list(own.work.glob("tmp*")) == []


def test_raw_files_hold_sums_a_document(shop, scores):
    raw = json.loads(shop.raw.path(BASE).read_text())
    lengths = raw["tokens"]["test/law"]
    assert len(raw["nats"]["test/law"]) == len(lengths) == len(shop.prepared["law"].test)


def test_more_seeds_learn_the_first_domains_and_give_a_range(shop, scores):
    further = functools.partial(PLANNED, spread=(1,))
    known = {piece.name for piece in PLANNED(shop)}
    more = [piece.name for piece in further(shop) if piece.name not in known]
    assert more == [f"{m}/s1/{p}" for m in ("peer", "lora") for p in ("0-law", "1-minerals")]
    both = [piece.name for piece in plan(shop, [0, 1], METHODS, spread=(1, 2))]
    assert len(set(both)) == len(both)  # a seed that learns the whole stream learns nothing twice
    do_missing(shop, further, math.inf)
    of_one, of_two = (spread_figures(scores, seeds) for seeds in ((0,), (0, 1)))
    assert of_one == []
    assert len(of_two) == 8
    for seed in (0, 1):
        own = [shop.raw.read(f"peer/s{seed}/{number}-{name}") for number, name in enumerate(NAMES)]
        loss = sum(scores.loss(raw, name) for raw, name in zip(own, NAMES, strict=True)) / 2
        assert shown(loss) in of_two[0].figure
    assert of_two[0].figure.startswith("ours, right pool forced on: right after learning, first 2")


def test_a_share_of_loras_gain_is_that_of_the_means_of_seeds(shop, scores):
    do_missing(shop, functools.partial(PLANNED, spread=(1,)), math.inf)
    told = {one.figure: one.value for one in spread_figures(scores, (0, 1))}
    raws = {(m, s): shop.raw.read(f"{m}/s{s}/1-minerals") for m in ("peer", "lora") for s in (0, 1)}
    losses = {key: scores.loss(raw, "minerals") for key, raw in raws.items()}
    own, theirs = ((losses[m, 0] + losses[m, 1]) / 2 for m in ("peer", "lora"))
    base = scores.loss(scores.base, "minerals")
    (share,) = [value for name, value in told.items() if "minerals, means of 2 and 2 seeds" in name]
    assert share == pytest.approx((base - own) / (base - theirs))


def test_of_a_further_domain_a_chain_learns_what_comes_before_it(monkeypatch):
    monkeypatch.setattr(spread, "NUM_DOMAINS", 1)
    monkeypatch.setattr(spread, "FURTHER", "d")
    names = ("a", "b", "c", "d", "e")
    told = [[p.domain for p in spread.spread_places(m, 1, names)] for m in ("peer", "lora")]
    assert told == [["a", "d"], ["a", "b", "c", "d"]]
    assert [p.number for p in spread.spread_places("peer", 1, names)] == [0, 3]


def test_pieces_at_another_rate_than_was_tuned_are_not_gone_on_from(tmp_path):
    own = Workshop(raw=RawFolder(tmp_path), work=tmp_path, names=NAMES)
    own.raw.write("lora/s0/0-law", {"learning_rate": 1e-3})
    pieces = ["base", "lora/s0/1-minerals"]
    checks.check_rates(own, pieces)  # nothing was tuned yet, and 1e-3 is the middle
    own.raw.write("lora/s0/1-minerals", {"learning_rate": 3e-3})
    checks.check_rates(own, pieces, of_all=False)  # tuning is still to come
    with pytest.raises(StateError, match=r"lora learned at \[0.001, 0.003\], and tuning says 0.0"):
        checks.check_rates(own, pieces)
    own.raw.path("lora/s0/1-minerals").unlink()
    for rate, loss in ((3e-4, 2.0), (1e-3, 2.9), (3e-3, 2.5)):
        own.raw.write(f"tune/lora/{rate:g}/law+minerals", {"loss_nats": loss})
    for of_all in (True, False):
        with pytest.raises(StateError, match=r"lora learned at \[0.001\], and tuning says 0.0003"):
            checks.check_rates(own, pieces, of_all=of_all)
    checks.check_rates(own, ["base", "peer/s0/0-law"])  # which do not go on from LoRA's

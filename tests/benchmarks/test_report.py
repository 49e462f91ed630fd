import pytest

from benchmarks.stream.raw import RAW, RawFolder
from benchmarks.stream.report import METHODS, OURS, figures, methods_table
from peer_cl.errors import StateError

FIGURES = {one.figure: one.value for one in figures(RawFolder())}
"""Of the committed scores."""


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("base: unseen loss (nats a token)", 3.732),
        ("ours, first version, routed: unseen loss after learning (nats a token)", 2.837),
        ("LoRA r16, sequential: BWT (nats a token)", -0.9316),
        ("LoRA r16, sequential: general ability, change of accuracy (share)", 0.007),
        ("full finetuning: worst added loss of a background document (nats)", 204.7),
        ("one LoRA r27 a domain, oracle routing: unseen loss after learning (nats a token)", 2.741),
        ("one LoRA, all domains at once: unseen loss after learning (nats a token)", 2.771),
        ("RAG: right passage found, paraphrase (share)", 0.94625),
    ],
)
def test_committed_scores_say_what_7c582c8_said(figure, value):
    assert FIGURES[figure] == pytest.approx(value, rel=1e-3)


def test_the_table_has_a_row_for_every_committed_method():
    table = (RAW.parent / "stream-methods.md").read_text()
    assert table == methods_table(figures(RawFolder()))
    for method, words in METHODS.items():
        has_row = f"| {words} |" in table or f"| {words}, oracle routing |" in table
        pieces = RawFolder().read(method)["pieces"]
        # Of ours, what was asked may be there before the texts are read.
        is_whole = bool(pieces) and (method != OURS or "s0/mixture" in pieces)
        assert has_row == is_whole


def test_a_method_without_all_pieces_has_no_row(tmp_path):
    raw = RawFolder(tmp_path)
    raw.write(RawFolder().read("base"))
    half = RawFolder().read("lora")
    del half["pieces"]["s0/7-lore"]
    raw.write(half)
    assert {one.figure.partition(":")[0] for one in figures(raw)} == {"base"}
    raw.add("lora", {"s0/7-lore": RawFolder().read("lora")["pieces"]["s0/7-lore"]})
    assert {one.figure.partition(":")[0] for one in figures(raw)} == {"base", METHODS["lora"]}


def test_without_the_base_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(StateError, match=r"base\.json\.zst"):
        figures(RawFolder(tmp_path))
    assert RawFolder(tmp_path).read("lora") == {"method": "lora", "pieces": {}}

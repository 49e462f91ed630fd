import pytest

from benchmarks.stream.raw import RAW, MethodScores, RawFolder
from benchmarks.stream.report import METHODS, figures, lines, methods_table
from peer_cl.errors import StateError

FIGURES = {one.figure: one.value for one in figures(RawFolder())}
"""Of the committed scores."""


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("base: unseen loss (nats a token)", 3.732),
        ("base: recall, taught (share)", 0.0125),
        ("ours, first version, oracle routing: recall at the end, paraphrase (share)", 0.6613),
        ("ours, first version, routed: unseen loss after learning (nats a token)", 2.837),
        ("ours, first version, routed: worst added loss of a background document (nats)", 0.0074),
        (
            "ours, first version, routed, mentions count: recall at the end, paraphrase (share)",
            0.6375,
        ),
        ("LoRA r16, sequential: BWT (nats a token)", -0.9316),
        ("LoRA r16, sequential: general ability, change of accuracy (share)", 0.007),
        ("LoRA r16, 10 % replay: recall at the end, taught (share)", 0.6825),
        ("OSF: loss added to background prose (nats a token)", 0.1746),
        ("full finetuning: worst added loss of a background document (nats)", 204.7),
        ("sparse memory finetuning, adapted: trained parameters, last domain", 995328),
        ("one LoRA r27 a domain, oracle routing: unseen loss after learning (nats a token)", 2.741),
        ("one LoRA, all domains at once: unseen loss after learning (nats a token)", 2.771),
        ("RAG: recall at the end, paraphrase (share)", 0.2387),
        ("RAG: right passage found, paraphrase (share)", 0.94625),
    ],
)
def test_committed_scores_say_what_7c582c8_said(figure, value):
    assert FIGURES[figure] == pytest.approx(value, rel=1e-3)


def test_the_table_has_a_row_for_every_committed_method():
    table = methods_table(figures(RawFolder()))
    for method, words in METHODS.items():
        has_row = f"| {words} |" in table or f"| {words}, oracle routing |" in table
        assert has_row == (RAW / f"{method}.json.zst").is_file()


def test_raw_scores_are_small():
    assert sum(path.stat().st_size for path in RAW.iterdir()) < 3e6


def test_a_method_without_all_pieces_has_no_row(tmp_path):
    raw = RawFolder(tmp_path)
    raw.write(RawFolder().read("base"))
    half = RawFolder().read("lora")
    del half.pieces["s0/7-lore"]
    raw.write(half)
    assert lines(raw) == []
    raw.add("lora", "s0/7-lore", RawFolder().read("lora").pieces["s0/7-lore"])
    assert [line.words for line in lines(raw)] == [METHODS["lora"]]


def test_without_the_base_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(StateError, match=r"base\.json\.zst"):
        lines(RawFolder(tmp_path))
    assert RawFolder(tmp_path).read("lora") == MethodScores("lora")

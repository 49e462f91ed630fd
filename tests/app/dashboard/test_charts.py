"""Charts are valid, have what they are given, and give a domain the same colour everywhere."""

import pandas as pd
import pytest

from app.dashboard import THEME, charts, tables
from pipelines.trace import TracedToken

COLOURS = charts.domain_colours(["law", "medicine"])


def spec(chart):
    """Return a chart's specification, which Altair checks against Vega-Lite's schema."""
    return chart.to_dict()


@pytest.mark.parametrize("mode", list(tables.MODES))
def test_the_matrix_in_every_view(report, mode):
    found = spec(charts.matrix_chart(tables.matrix_table(report, mode), mode))
    assert mode in str(found)


def test_many_domains_carry_no_numbers(report):
    rows = [(n, f"after {n}", n, f"d{n}", 2.0, 2.0) for n in range(charts.FEW + 1)]
    table = pd.DataFrame(rows, columns=list(tables.matrix_table(report)))
    assert "layer" not in spec(charts.matrix_chart(table, tables.ABSOLUTE))


def test_the_losses_of_a_training():
    runs = [tables.losses_table([(1, 3.5, None), (2, 2.5, 3.0)], label) for label in ("v1", "v2")]
    spec(charts.training_chart(pd.concat(runs), COLOURS["law"]))


def test_how_far_answers_can_be_trusted():
    outcomes = [(0.5, False), (0.9, True)]
    risk = spec(charts.risk_chart(tables.risk_table(outcomes, num=4)))
    assert {risk["encoding"][axis]["field"] for axis in "xy"} == {"answered", "wrong"}
    diagonal, _ = spec(charts.reliability_chart(tables.reliability_table(outcomes)))["layer"]
    assert diagonal["encoding"]["x"]["scale"] == {"domain": [0, 1]}


def test_a_domain_has_one_colour_and_the_base_is_grey():
    tokens = [TracedToken("a", base, {"law": 1 - base}, 0, 0, {}, {}) for base in (0.9, 0.1)]
    chart = charts.text_chart(tables.text_table(tokens, 9), COLOURS, 9, "black")
    scale = spec(chart)["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["base", "law"], "range": [charts.BASE_COLOUR, COLOURS["law"]]}
    assert charts.domain_colours(["law", "medicine", "new"])["law"] == COLOURS["law"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_themes(scheme):
    background, ink = (THEME[f"theme.{scheme}.{name}Color"] for name in ("background", "text"))
    caption = mix(ink, background, 0.6)  # Streamlit draws captions so
    assert contrast(caption, background) >= 4.5
    assert contrast("#ffffff", THEME[f"theme.{scheme}.primaryColor"]) >= 4.5


def mix(colour, other, share):
    parts = (
        round(share * int(colour[n : n + 2], 16) + (1 - share) * int(other[n : n + 2], 16))
        for n in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)


def contrast(first, second):
    """Return the contrast of two colours by WCAG 2.2, 1 to 21."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

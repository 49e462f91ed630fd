"""What is read has at least the contrast that WCAG 2.2 AA asks for, in either theme."""

import re

import pytest

from app.dashboard.charts.scales import BETTER, FAINT, NONE, STRONG, WORSE
from app.dashboard.launch import THEME

AA = 4.5
FADED = 0.6
"""Of the text's colour, in Streamlit's captions and pinned columns."""


def rgb(colour):
    """Return red, green, blue (0 to 255) and alpha of "#rrggbb" or "rgba(...)"."""
    if colour.startswith("#"):
        return *(int(colour[at : at + 2], 16) for at in (1, 3, 5)), 1.0
    return tuple(float(part) for part in re.findall(r"[\d.]+", colour))


def over(colour, ground, alpha=None):
    """Return what is seen of a colour on a ground."""
    *parts, own = rgb(colour)
    alpha = own if alpha is None else alpha
    return [alpha * p + (1 - alpha) * g for p, g in zip(parts, rgb(ground)[:3], strict=True)]


def luminance(parts):
    scaled = [p / 255 for p in parts]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in scaled]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    """Return the ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(params=["light", "dark"])
def theme(request):
    """The colours of a theme, by their short names."""
    start = f"theme.{request.param}."
    return {
        name.removeprefix(start): value for name, value in THEME.items() if name.startswith(start)
    }


def test_black_on_white_is_21_to_1():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


def test_the_main_button_is_read(theme):
    assert contrast(rgb(theme["primaryColor"])[:3], (255, 255, 255)) >= AA


@pytest.mark.parametrize("ground", ["backgroundColor", "secondaryBackgroundColor"])
def test_captions_and_words_of_warning_are_read(theme, ground):
    behind = rgb(theme[ground])[:3]
    assert contrast(over(theme["textColor"], theme[ground], FADED), behind) >= AA
    assert contrast(rgb(theme["redTextColor"])[:3], behind) >= AA


@pytest.mark.parametrize("colour", [BETTER, WORSE, NONE, FAINT, STRONG])
def test_figures_are_read_on_every_cell_of_the_matrix(theme, colour):
    cell = over(colour, theme["backgroundColor"])
    assert contrast(rgb(theme["textColor"])[:3], cell) >= AA

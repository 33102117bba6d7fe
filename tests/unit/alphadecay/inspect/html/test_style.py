"""Colours that can be seen on a light page and on a dark one."""

import re

import pytest
import torch

from alphadecay.inspect.html import style
from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import (
    island,
    make_run,
    weight_names,
    write_checkpoint,
)

TEXTS = ("INK", "GREY")
LINES = (*style.TYPES, style.TRAINING, style.VALIDATION, style.WARNING, style.SPIKE, style.SILVER)


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance of #rrggbb."""
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_black_and_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


def test_text_and_lines_stand_out_on_both_pages():
    """WCAG 2.1 asks 4.5 of text and 3 of what is drawn."""
    night = style.DARK[style.PAPER]
    for name in TEXTS:
        colour = getattr(style, name)
        assert contrast(colour, style.PAPER) >= 4.5, name
        assert contrast(style.DARK[colour], night) >= 4.5, name
    for colour in LINES:
        assert contrast(colour, style.PAPER) >= 3, colour
        assert contrast(style.DARK[colour], night) >= 3, style.DARK[colour]


def test_module_types_are_told_apart_on_both_pages():
    assert len(set(style.TYPES)) == len({style.DARK[colour] for colour in style.TYPES})


def colours(value: object) -> set[str]:
    """Find every #rrggbb or rgb(...) in a figure, scales of colours left out."""
    if isinstance(value, str):
        return {value} if re.fullmatch(r"#[0-9a-fA-F]{3,8}|rgba?\(.*\)", value) else set()
    if isinstance(value, dict):
        inner = [item for key, item in value.items() if key != "colorscale"]
        return set().union(*map(colours, inner))
    return set().union(*map(colours, value)) if isinstance(value, list) else set()


def test_every_colour_of_every_chart_has_a_dark_one(tmp_path):
    run = make_run(tmp_path / "run")
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(48, 64, generator=generator) for name in weight_names(3)}
    write_checkpoint(run, weights)
    text = render(read_run(run))
    used = colours(island(text, "figures"))
    dark = island(text, "dark")
    assert style.PAPER in used and style.INK in used and len(used) > 10
    assert used <= dark.keys()


@pytest.mark.parametrize("count", [1, 2, 24])
def test_layers_have_a_colour_each_on_both_pages(count):
    for page in ("light", "dark"):
        assert len(set(style.layer_colours(count)[page])) == count

"""What differs between a run of images and the paper's ViT-tiny."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from train.config.command_line import load_config
from train.config.recipe_file import RECIPES
from train.experiments.tables.paper_vit import points


def departures(recipe: str, *arguments: str, precision: str = "float32") -> dict[str, str]:
    config = load_config(["--config", str(RECIPES / f"{recipe}.yaml"), *arguments])
    record: Any = SimpleNamespace(config=config, summary={"precision": precision})
    return {point.what: point.here for point in points(record) if not point.same}


def test_the_recipe_is_the_papers_but_for_what_decays():
    assert departures("vit_tiny", "--decay.compat", "published") == {}
    # by default gains do not decay, and the first linear weight has a decay of its own
    assert departures("vit_tiny").keys() == {"norm gains", "first linear weight"}


@pytest.mark.parametrize(
    ("arguments", "what", "here"),
    [
        (("--model.num_labels", "100"), "classes", "100"),
        (("--run.steps", "1000800"), "steps", "1,000,800"),
        (("--optim.ema", "0"), "average of the weights", "none"),
        (("--model.drop_path", "0"), "drop path", "0"),
        (("--model.patch_size", "8"), "model", "hidden 192, intermediate 768, 3 heads, 12 layers"),
    ],
)
def test_a_change_is_told(arguments, what, here):
    found = departures("vit_tiny", "--decay.compat", "published", *arguments)
    assert found[what].startswith(here)


def test_the_toy_differs_in_most():
    found = departures("vit_tiny_smoke")
    assert found["images"] == "6,000 images of shapes and textures, drawn by the program"
    assert {"model", "rows a step", "steps", "side of an image"} <= found.keys()

"""The table of memory in ds_configs/README.md is what the dry run says."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.conftest import ROOT
from train.config.command_line import load_config
from train.config.validate import accumulation_steps
from train.engines.build import plan_engine
from train.planning.device import GB
from train.planning.memory_table import memory_table
from train.planning.model_shapes import model_without_weights

RANKS = 8
SIZES = {"60m": 32, "130m": 32, "350m": 16, "1b": 8}  # and their micro batches
PARTS = ("weights", "gradients", "optimizer")
GUIDE = (ROOT / "ds_configs" / "README.md").read_text()
# The whole rows: file, a sum for each size, and the parts of the 1B.
CELLS = [
    line.strip("| ").split(" | ")
    for line in GUIDE.splitlines()
    if line.startswith("| `ds_configs/")
]
ROWS = {cells[0].strip("`"): cells[1:8] for cells in CELLS}


@cache
def model(recipe: str) -> torch.nn.Module:
    """Shapes alone."""
    c = load_config(["--config", recipe])
    return model_without_weights(c.model, c.data.sequence_length)


def said(size: str, ds_config: str) -> dict[str, str]:
    """The dry run's table of memory: part -> "2.7", or "host"."""
    recipe = f"train/recipes/llama_{size}.yaml"
    sizes = ["--deepspeed.config", ds_config, "--run.micro_batch", str(SIZES[size])]
    c = load_config(["--config", recipe, *sizes, "--run.precision", "bf16"])
    plan = plan_engine(c, accumulation_steps(c, RANKS), RANKS)
    table = memory_table(c, model(recipe), plan, RANKS, fused_loss=True)
    figures = {
        part.name: "host" if part.on_host else f"{part.size / GB:.1f}" for part in table.parts
    }
    return figures | {"largest sum": f"{table.peak / GB:.1f}"}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes and ds_configs are named from there."""
    monkeypatch.chdir(ROOT)


def test_a_row_for_each_file() -> None:
    assert sorted(ROWS) == sorted(
        f"ds_configs/{path.name}" for path in (ROOT / "ds_configs").glob("*.json")
    )


@pytest.mark.parametrize("ds_config", sorted(ROWS))
def test_its_figures_are_the_dry_runs(ds_config: str) -> None:
    sums = [said(size, ds_config)["largest sum"] for size in SIZES]
    assert ROWS[ds_config] == [*sums, *(said("1b", ds_config)[part] for part in PARTS)]


def test_so_are_those_in_the_text() -> None:
    micro = list(SIZES.values())
    assert f"micro batches of {', '.join(map(str, micro))} rows" in " ".join(GUIDE.split())
    parts = said("1b", "ds_configs/zero3.json")
    rest = float(parts["activations"]) + float(parts["logits, loss"])
    assert f"(1B: {rest:.1f} GB for {micro[-1]} rows)" in GUIDE
    assert f"its owner (1B: {parts['refresh']} GB)" in GUIDE

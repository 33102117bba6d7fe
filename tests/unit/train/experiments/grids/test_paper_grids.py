"""The shipped grids are the paper's tables: its cells, its figures, and settings that train what
they say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from train.config.command_line import load_config
from train.experiments.grids.descriptions import read_descriptions
from train.experiments.grids.registry import SHIPPED, Grid, load_grid, shipped
from train.experiments.grids.resolved_run import config_of

# Retyped from arXiv 2506.14562. Adam: decays 1e-5, 5e-6, 1e-6 at 60M, then at 135M, 350M, 1B.
ADAM = {
    "Uniform": [32.39, 32.56, 33.03, 22.99, 23.14, 24.14, 17.12, 16.74, 17.50, 15.36, 14.66, 15.03],
    "AWD": [33.78, 33.74, 33.74, 24.25, 24.45, 24.53, 18.32, 18.55, 18.79, 16.03, 16.22, 16.38],
    "AdaDecay": [
        32.24,
        32.52,
        33.03,
        23.20,
        23.08,
        23.96,
        18.21,
        17.42,
        17.91,
        17.23,
        18.14,
        15.35,
    ],
    "AlphaDecay": [
        31.56,
        31.58,
        32.61,
        22.76,
        22.55,
        23.49,
        17.00,
        16.66,
        16.88,
        15.13,
        14.55,
        14.63,
    ],
}
ADAM_WITHOUT = {"60M, 0": 33.23, "135M, 0": 24.60, "350M, 0": 18.62, "1B, 0": 16.11}
ADAMW = {
    "Uniform": [31.95, 32.31, 32.66, 23.32, 23.81, 24.28],
    "AWD": [32.58, 32.67, 32.67, 24.30, 24.35, 24.41],
    "AdaDecay": [31.88, 32.25, 32.58, 23.18, 23.62, 24.21],
    "AlphaDecay": [31.20, 31.65, 32.45, 22.66, 23.04, 23.98],
}
ADAMW_WITHOUT = {"60M, 0": 32.73, "135M, 0": 24.39}
METHODS = {
    "WD = 0": "none",
    "Uniform": "uniform",
    "AWD": "awd",
    "AdaDecay": "adadecay",
    "AlphaDecay": "alphadecay",
}
# hidden, layers, steps, learning rate
SIZES = {
    "60M": (512, 8, 10_000, 1e-3),
    "135M": (768, 12, 20_000, 1e-3),
    "350M": (1024, 24, 60_000, 1e-3),
    "1B": (2048, 24, 90_000, 6e-4),
}
RANGES = {"1e-5": (0.67, 3.0), "5e-6": (0.67, 5.0), "1e-6": (0.67, 5.0)}

grid_of: Callable[[str], Grid] = cache(load_grid)


@pytest.mark.parametrize(
    ("name", "figures", "without"), [("adam", ADAM, ADAM_WITHOUT), ("adamw", ADAMW, ADAMW_WITHOUT)]
)
def test_the_two_tables_have_the_papers_cells_and_figures(
    name: str, figures: dict[str, list[float]], without: dict[str, float]
) -> None:
    grid = grid_of(name)
    found = {row: [cell.paper for cell in grid.cells if cell.row == row] for row in grid.rows}
    assert found == {"WD = 0": list(without.values()), **figures}
    assert {cell.column: cell.paper for cell in grid.cells if cell.row == "WD = 0"} == without
    assert (
        len(grid.cells) == {"adam": 52, "adamw": 26}[name]
        and grid.baseline == "Uniform"
        and grid.seeds == (42,)
    )


@pytest.mark.parametrize(("name", "optimizer"), [("adam", "adam"), ("adamw", "adamw")])
def test_every_cell_of_the_tables_trains_what_its_labels_say(name: str, optimizer: str) -> None:
    for cell in grid_of(name).cells:
        size, decay = cell.column.split(", ")
        config = config_of(cell)
        hidden, layers, steps, lr = SIZES[size]
        assert (
            config.model.hidden_size,
            config.model.num_layers,
            config.run.steps,
            config.optim.lr,
        ) == (hidden, layers, steps, lr)
        assert (config.optim.name, config.decay.method, config.data.rows) == (
            optimizer,
            METHODS[cell.row],
            "padded",
        )
        assert (config.run.global_batch, config.data.sequence_length, config.decay.interval) == (
            512,
            256,
            500,
        )
        if cell.row != "WD = 0":
            assert config.optim.weight_decay == float(decay)
            assert (config.decay.s1, config.decay.s2) == RANGES.get(decay, (0.67, 5.0))


# decay settings of each row, and the paper's figure
ABLATIONS: dict[str, dict[str, tuple[dict[str, object], float | None]]] = {
    "assignment": {
        "Uniform": ({"method": "uniform"}, 32.39),
        "Linear": ({"method": "alphadecay", "assign": "linear"}, 31.57),
        "Sqrt": ({"method": "alphadecay", "assign": "sqrt"}, 32.33),
        "Log2": ({"method": "alphadecay", "assign": "log2"}, 32.30),
        "Sigmoid-like": ({"method": "adadecay"}, 32.20),
    },
    "score": {
        "Uniform": ({"method": "uniform"}, 23.14),
        "PL_Alpha_Hill": ({"method": "alphadecay"}, 22.55),
        "Gradient norm": ({"method": "gradient_norm"}, 22.71),
        "Frobenius norm": ({"method": "frobenius_norm"}, 22.91),
        "Spectral norm": ({"method": "spectral_norm"}, 23.01),
    },
    "tail": {
        "Uniform": ({"method": "uniform"}, 23.14),
        "Median": ({"method": "alphadecay", "tail": "hill"}, 22.59),
        "Goodness of fit": ({"method": "alphadecay", "tail": "goodness_of_fit"}, 22.94),
        "Fix-finger": ({"method": "alphadecay", "tail": "fix_finger"}, 23.09),
    },
    "interval": {
        "Uniform": ({"method": "uniform"}, 23.14),
        "Every 500": ({"method": "alphadecay", "interval": 500}, 22.551),
        "Every 250": ({"method": "alphadecay", "interval": 250}, 22.537),
        "Every 100": ({"method": "alphadecay", "interval": 100}, 22.569),
        "Every 50": ({"method": "alphadecay", "interval": 50}, 22.539),
        "Every step": ({"method": "alphadecay", "interval": 1}, 22.581),
    },
    "s1s2": {
        "Uniform": ({"method": "uniform"}, 23.14),
        "(0.67, 2)": ({"method": "alphadecay", "s1": 0.67, "s2": 2.0}, None),
        "(0.67, 3)": ({"method": "alphadecay", "s1": 0.67, "s2": 3.0}, None),
        "(0.67, 5)": ({"method": "alphadecay", "s1": 0.67, "s2": 5.0}, 22.55),
        "(0.67, 8)": ({"method": "alphadecay", "s1": 0.67, "s2": 8.0}, None),
        "(0.33, 5)": ({"method": "alphadecay", "s1": 0.33, "s2": 5.0}, None),
        "(1, 5)": ({"method": "alphadecay", "s1": 1.0, "s2": 5.0}, None),
    },
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_change_one_thing(name: str) -> None:
    grid = grid_of(name)
    assert {cell.row: cell.paper for cell in grid.cells} == {
        row: figure for row, (_, figure) in ABLATIONS[name].items()
    }
    size, decay = ("60M", 1e-5) if name == "assignment" else ("135M", 5e-6)
    assert grid.columns == (f"{size}, {'1e-5' if decay == 1e-5 else '5e-6'}",)
    for cell in grid.cells:
        config = config_of(cell)
        assert (config.optim.name, config.optim.weight_decay, config.run.steps) == (
            "adam",
            decay,
            SIZES[size][2],
        )
        wanted = {
            "interval": 500,
            "tail": "hill",
            "s1": 0.67,
            "s2": 3.0 if decay == 1e-5 else 5.0,
        } | ABLATIONS[name][cell.row][0]
        assert {key: getattr(config.decay, key) for key in wanted} == wanted


def test_six_seeds_of_135m() -> None:
    grid = grid_of("seeds")
    assert len(grid.seeds) == 6 and len(grid.runs()) == 36
    figures = {row: [cell.paper for cell in grid.cells if cell.row == row] for row in grid.rows}
    assert figures == {"Uniform": [22.97, 23.12, 24.12], "AlphaDecay": [22.77, 22.54, 23.44]}


def test_seeds_change_initialisation_and_data_or_one_alone_when_told() -> None:
    run = grid_of("adam").narrowed(["adam-60m-1e-5-alphadecay"], [3]).runs()[0]
    assert str(run.folder) == "runs/adam/adam-60m-1e-5-alphadecay/seed-3"
    config = load_config(run.arguments()).run
    assert (config.seed_of_init, config.seed_of_data) == (3, 3)
    published = load_config(run.arguments({"run.data_seed": "42"})).run
    assert (published.seed_of_init, published.seed_of_data) == (3, 42)


def test_these_are_shipped_and_every_key_is_one_folder() -> None:
    names = [name for path in SHIPPED.glob("*.yaml") for name in read_descriptions(path)]
    assert sorted(names) == sorted(shipped()) and {"adam", "adamw", "seeds", *ABLATIONS} <= set(
        names
    )
    keys = [
        cell.key for name in ("adam", "adamw", "seeds", *ABLATIONS) for cell in grid_of(name).cells
    ]
    assert len(set(keys)) == len(keys) == 111 and not any(set(key) & set("/ ,()=") for key in keys)

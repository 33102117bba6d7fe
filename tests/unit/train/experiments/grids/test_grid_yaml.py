"""Descriptions of grids: what they multiply out to, and what is refused, with the place and the
remedy.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from train.errors import UserError
from train.experiments.grids.first_step import FirstStep
from train.experiments.grids.registry import Grid, load_grid

OWN = """
title: Decays of a toy
seeds: [0, 1, 2]
recipe: train/recipes/quickstart.yaml
common: {run.steps: 20, optim.warmup_steps: 2}
columns:
  - {7M: {}, 60M: {recipe: train/recipes/llama_60m.yaml, run.steps: 30}}
  - "0": {only: None}
    "0.1": {optim.weight_decay: 0.1}
    "0.2": {optim.weight_decay: 0.2, decay.s2: 3}
rows:
  None: {only: "*, 0", decay.method: none}
  Uniform: {decay.method: uniform}
  "Uniform at AlphaDecay's mean": {decay.method: uniform, optim.weight_decay: 0.26}
  Fixed: {only: ["7M, 0.1"], decay.method: fixed_ratio, decay.ratios: [{modules: "*", ratio: 1.5}]}
paper:
  Uniform: [1, ~, 3.5, 4]
"""


def write(folder: Path, text: str, name: str = "own.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.fixture
def own(tmp_path: Path) -> Grid:
    return load_grid(write(tmp_path, OWN))


def test_axes_multiply_and_only_cuts_down(own: Grid) -> None:
    assert (own.name, own.title, own.source, own.seeds) == ("own", "Decays of a toy", "", (0, 1, 2))
    assert own.columns == ("7M, 0", "7M, 0.1", "7M, 0.2", "60M, 0", "60M, 0.1", "60M, 0.2")
    found = {row: [cell.column for cell in own.cells if cell.row == row] for row in own.rows}
    four = ["7M, 0.1", "7M, 0.2", "60M, 0.1", "60M, 0.2"]
    assert found == {
        "None": ["7M, 0", "60M, 0"],
        "Uniform": four,
        "Uniform at AlphaDecay's mean": four,
        "Fixed": ["7M, 0.1"],
    }
    assert [cell.paper for cell in own.cells if cell.row == "Uniform"] == [1.0, None, 3.5, 4.0]


def test_later_overrides_win_and_stay_the_text_they_were(own: Grid) -> None:
    cells = {(cell.row, cell.column): cell for cell in own.cells}
    small = cells["Uniform", "7M, 0.2"]
    large = cells["Uniform at AlphaDecay's mean", "60M, 0.2"]
    assert small.recipe.name == "quickstart.yaml" and large.recipe.name == "llama_60m.yaml"
    assert small.overrides == {
        "run.steps": "20",
        "optim.warmup_steps": "2",
        "optim.weight_decay": "0.2",
        "decay.s2": "3",
        "decay.method": "uniform",
    }
    assert (large.overrides["run.steps"], large.overrides["optim.weight_decay"]) == ("30", "0.26")
    assert large.key == "own-60m-0.2-uniform-at-alphadecay-s-mean"


def test_runs_go_seed_by_seed_each_in_its_folder(own: Grid, tmp_path: Path) -> None:
    runs = own.narrowed(["none"]).runs(tmp_path)
    assert [str(run.folder.relative_to(tmp_path / "own")) for run in runs] == [
        f"own-{size}-0-none/seed-{seed}" for seed in (0, 1, 2) for size in ("7m", "60m")
    ]


def test_narrowing_by_row_column_and_key_whatever_the_case(own: Grid) -> None:
    assert own.narrowed(["60m*"]).columns == ("60M, 0", "60M, 0.1", "60M, 0.2")
    assert own.narrowed(["UNIFORM"]).rows == ("Uniform",)
    assert [cell.column for cell in own.narrowed(["own-7m-*-none", "Fixed"]).cells] == [
        "7M, 0",
        "7M, 0.1",
    ]
    assert own.narrowed(seeds=[5, 5, 6]).seeds == (5, 6)
    with pytest.raises(
        UserError, match="'1B\\*' matches no cell of own; it has the rows None, Uniform"
    ):
        own.narrowed(["60M*", "1B*"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Decays of a toy\n", "", "own has no title"),
        ("seeds:", "seed:", "own: unknown key 'seed'; did you mean seeds"),
        ("seeds: [0, 1, 2]", "seeds: [0, 0]", "seeds: .*different whole numbers"),
        ("seeds: [0, 1, 2]", "seeds: [01, 1]", "seeds: .*different whole numbers"),
        ("seeds: [0, 1, 2]", "seeds: [[0]]", "seeds: .*different whole numbers"),
        ('only: ["7M, 0.1"]', 'only: [["7M, 0.1"]]', "Fixed, only takes a text"),
        (
            "optim.warmup_steps: 2",
            "optim.warmup_stepz: 2",
            "None at 7M, 0: unknown key 'optim.warmup_stepz'.*optim.warmup_steps",
        ),
        (
            "decay.method: uniform}",
            "decay.method: unifrom}",
            "Uniform at 7M, 0.1: decay.method must be.*did you mean uniform",
        ),
        (
            "run.steps: 30",
            "run.steps: 1",
            "60M, 0.*optim.warmup_steps is 2 .*more than run.steps = 1",
        ),
        ("run.steps: 20", "run.seed: 20", "run.seed is set by the sweep for each run; use seeds"),
        ("run.steps: 20", "output_dir: x", "output_dir is set by the sweep"),
        (
            "  Uniform: {decay",
            "  Uniform: {decay.method: none}\n  Uniform: {decay",
            "line 14: .*'Uniform' stands here and on line 13",
        ),
        (
            "  Uniform: {decay",
            "  uniform: {decay.method: none}\n  Uniform: {decay",
            "would share the folder own-7m-0.1-uniform",
        ),
        (
            "[1, ~, 3.5, 4]",
            "[1, 2]",
            "paper, Uniform: 2 figures, and the row has 4 columns: 7M, 0.1; ",
        ),
        ("[1, ~, 3.5, 4]", "[1, 2, x, 4]", "paper, Uniform: 'x' is no number; write ~"),
        ("  Uniform: [1", "  Unifrom: [1", "paper: unknown key 'Unifrom'; did you mean Uniform"),
        ('only: "*, 0"', 'only: "*, 9"', "None: only '\\*, 9' matches none of 7M, 0; "),
        ("recipe: train/recipes/quickstart.yaml\n", "", "None at 7M, 0 has no recipe"),
        ("quickstart.yaml", "quickstrat.yaml", "did you mean quickstart"),
        (
            "title: ",
            "baseline: Plain\ntitle: ",
            "the baseline 'Plain' is no row; set `baseline` to one of None, Uniform",
        ),
        ("common: {", "common: {run.steps: [", "line 5: not valid YAML"),
        ("title: ", "[a]: 1\ntitle: ", "line 2: not valid YAML: found unhashable key"),
        (
            "  Uniform: {decay.method: uniform}",
            "  Uniform: 3",
            'rows, Uniform takes keys and values, not "3"',
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in OWN
    with pytest.raises(UserError, match=message) as raised:
        load_grid(write(tmp_path, OWN.replace(old, new, 1)))
    assert str(raised.value).startswith(str(tmp_path / "own.yaml"))


def test_a_short_key_is_the_long_one(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, OWN.replace("run.steps: 20", "max-hours: 2", 1)))
    assert (
        grid.cells[0].overrides["run.max_hours"] == "2"
        and "max-hours" not in grid.cells[0].overrides
    )


def test_a_grid_by_name_and_by_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no grid 'adamm'; did you mean adam"):
        load_grid("adamm")
    with pytest.raises(UserError, match=r"cannot read the grid nothing\.yaml: No such file"):
        load_grid("nothing.yaml")
    assert load_grid(write(tmp_path, "name: mine\n" + OWN)).name == "mine"
    body = "".join(f"    {line}\n" for line in OWN.splitlines())
    with pytest.raises(
        UserError, match="describes 2 grids \\(a, b\\); give each a file of its own"
    ):
        load_grid(write(tmp_path, f"grids:\n  a:\n{body}  b:\n{body}"))
    assert load_grid(write(tmp_path, f"grids:\n  a:\n{body}")).name == "a"


def test_a_grid_may_compare_by_a_step(tmp_path: Path, own: Grid) -> None:
    figure = "figure: {first: val_accuracy, reaches: 99, label: grokking step}\n"
    grid = load_grid(write(tmp_path, OWN + figure))
    assert grid.first_step == FirstStep("val_accuracy", 99.0, "grokking step")
    assert own.first_step is None
    for wrong, said in (
        ("{first: val_accuracy}", "figure has no reaches; write .first: val_accuracy"),
        ("{first: val_accuracy, reaches: high}", "reaches: 'high' is no number"),
        ("{frist: val_accuracy}", "unknown key 'frist'; did you mean first"),
    ):
        with pytest.raises(UserError, match=said):
            load_grid(write(tmp_path, f"{OWN}figure: {wrong}\n"))

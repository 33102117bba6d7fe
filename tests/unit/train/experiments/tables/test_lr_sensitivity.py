"""LR sensitivity against the paper's definition, worked out by hand."""

from __future__ import annotations

import json

import pytest

from tests.unit.train.experiments.tables.making import finish, make_grid, runs_of
from train.experiments.tables.csv_json import as_json
from train.experiments.tables.lr_plot import write_lr_plot
from train.experiments.tables.lr_sensitivity import lr_sensitivity, sensitivities
from train.experiments.tables.markdown import markdown
from train.experiments.tables.table import make_table
from train.loop.run_status import write_state

RATES = ("1e-3", "1e-2", "1e-1")
COLUMNS = {
    **{f"60M, {rate}": {"optim.lr": rate} for rate in RATES},
    **{f"130M, {rate}": {"optim.lr": rate, "model.num_layers": "7"} for rate in RATES},
    "decay 3": {"optim.weight_decay": "3"},
}
START = 8.0
LOSSES = {"Uniform": (4.0, 3.0, 5.0), "AlphaDecay": (3.5, 3.0, 9.0)}  # 9 counts as 8


@pytest.fixture
def table(tmp_path):
    """Two seeds of each method at 60M, the second a tenth higher."""
    grid = make_grid(COLUMNS, seeds=(1, 2))
    for row, losses in LOSSES.items():
        for rate, loss in zip(RATES, losses, strict=True):
            for seed, run in runs_of(grid, tmp_path, row, f"60M, {rate}").items():
                higher = loss + (seed - 1) * 0.1
                finish(run, 30.0)
                lines = [{"kind": "validation", "step": 0, "val_loss": START, "figure": None}]
                lines.append({"kind": "validation", "step": 150, "val_loss": higher})
                lines[0].pop("figure")
                (run.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return grid, tmp_path


def of(grid, root):
    found = {(each.row, each.group): each for each in make_table(grid, root).sensitivities}
    return found


def test_it_is_the_mean_excess_over_the_best():
    assert lr_sensitivity([4.0, 3.0, 5.0], 8.0) == pytest.approx((1 + 0 + 2) / 3)
    assert lr_sensitivity([4.0, 3.0, 50.0], 8.0) == pytest.approx((1 + 0 + 5) / 3)


def test_columns_that_differ_in_the_rate_alone_are_one_group(table):
    found = of(*table)
    assert set(found) == {("Uniform", "60M"), ("AlphaDecay", "60M")}  # nothing ran at 130M
    assert found["Uniform", "60M"].values == pytest.approx({1: 1.0, 2: 1.0})
    assert found["AlphaDecay", "60M"].values == pytest.approx({1: 5.5 / 3, 2: (0.5 + 4.9) / 3})
    assert found["Uniform", "60M"].start == START


def test_a_run_that_diverged_counts_as_the_loss_at_the_start(table):
    grid, root = table
    run = runs_of(grid, root, "Uniform", "60M, 1e-1")[1]
    write_state(run.folder, "failed", step=3, steps=150, reason="diverged")
    assert set(of(grid, root)["Uniform", "60M"].losses) == {2}  # a failure of another kind
    (run.folder / "diverged.json").write_text("{}")
    assert of(grid, root)["Uniform", "60M"].values[1] == pytest.approx((1 + 0 + 5) / 3)


def test_a_loss_that_is_not_finite_counts_as_that_at_the_start_and_none_leaves_the_seed_out(table):
    grid, root = table
    folder = runs_of(grid, root, "Uniform", "60M, 1e-1")[1].folder
    start = {"kind": "validation", "step": 0, "val_loss": START}
    end = {"kind": "validation", "step": 150, "val_loss": None}
    (folder / "metrics.jsonl").write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
    assert of(grid, root)["Uniform", "60M"].values[1] == pytest.approx((1 + 0 + 5) / 3)
    (folder / "metrics.jsonl").write_text("")
    assert set(of(grid, root)["Uniform", "60M"].losses) == {2}


def test_page_json_and_picture(table, tmp_path):
    made = make_table(*table)
    page = markdown(made)
    assert "## LR sensitivity" in page
    assert "| Uniform | 1.000 ± 0.000 |" in page and "| AlphaDecay | 1.817 ± 0.024 |" in page
    stored = json.loads(as_json(made))["lr_sensitivity"]
    assert stored[0]["losses"]["1"] == {"0.001": 4.0, "0.01": 3.0, "0.1": 5.0}
    write_lr_plot(tmp_path / "plot.png", "toy", made.sensitivities)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_grid_without_three_rates_has_none(tmp_path):
    grid = make_grid({"low": {"optim.lr": "1e-3"}, "high": {"optim.lr": "1e-2"}}, seeds=(1,))
    for column in grid.columns:
        for row in grid.rows:
            finish(runs_of(grid, tmp_path, row, column)[1], 30.0)
    made = make_table(grid, tmp_path)
    assert made.sensitivities == () == sensitivities(grid, made.collected)
    assert "LR sensitivity" not in markdown(made)

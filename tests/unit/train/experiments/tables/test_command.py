"""The command: its files, its refusals."""

import json

import pytest

from tests.unit.train.experiments.tables.making import finish
from train.experiments.grids.registry import load_grid
from train.experiments.tables.command import main

GRID = """
title: A toy
recipe: train/recipes/quickstart.yaml
seeds: [1, 2]
columns: {wide: {}, deep: {optim.lr: 1e-3}}
rows: {Uniform: {decay.method: uniform}, AlphaDecay: {decay.method: alphadecay}}
"""


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(GRID)
    return str(path)


def fill(grid, root, only=(), **options):
    for run in load_grid(grid).narrowed(only).runs(root):
        finish(run, 30.0 + run.seed - (run.cell.row == "AlphaDecay"), 29.0, **options)


def test_it_writes_five_files_and_prints_the_page(grid, tmp_path, capsys):
    fill(grid, tmp_path / "runs")
    assert main([grid, "--root", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr()
    folder = tmp_path / "runs" / "toy" / "tables"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cells.csv",
        "plot.png",
        "table.csv",
        "table.json",
        "table.md",
    ]
    assert shown.out == (folder / "table.md").read_text() and shown.out.startswith("# A toy\n")
    assert "| AlphaDecay | **30.50 ± 0.71** ↓ | **30.50 ± 0.71** ↓ |" in shown.out
    assert (
        shown.err == f"written to {folder}: table.md, table.csv, cells.csv, table.json, plot.png\n"
    )


def test_part_of_a_grid_elsewhere(grid, tmp_path, capsys):
    fill(grid, tmp_path / "runs", ["wide"])
    out = tmp_path / "deep" / "out"
    assert (
        main(
            [
                grid,
                "--root",
                str(tmp_path / "runs"),
                "--only",
                "WIDE",
                "--seeds",
                "1",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    written = json.loads((out / "table.json").read_text())
    assert (written["columns"], written["seeds"], written["seeds_not_asked_for"]) == (
        ["wide"],
        [1],
        [2],
    )
    assert [cell["seeds"] for cell in written["cells"]] == [[1], [1]]


def test_overrides_of_the_sweep_are_given_again(grid, tmp_path, capsys):
    fill(grid, tmp_path / "runs", ["wide"], overrides={"data.rows": "padded"})
    arguments = [grid, "--root", str(tmp_path / "runs"), "--only", "wide"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "is finished and made as the grid says (4 other settings)" in error
    assert "wide-uniform/seed-1: data.rows was padded, is packed" in error and "after --" in error
    assert main([*arguments, "--", "--data.rows", "padded"]) == 0
    assert "- overrides besides the grid's: data.rows='padded'" in capsys.readouterr().out


def test_nothing_to_tell_is_an_error_that_says_what_to_do(grid, tmp_path, capsys):
    assert main([grid, "--root", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert (
        "(8 missing)" in error and "is --root right? python -m train sweep toy trains them" in error
    )
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs" / "toy" / load_grid(grid).cells[0].key / "seed-7").mkdir(parents=True)
    assert main([grid, "--root", str(tmp_path / "runs")]) == 2
    assert "seeds 7 have folders: ask for them with --seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonesuch"], "no grid 'nonesuch'"),
        (["GRID", "--only", "nothing"], "matches no cell"),
        (["GRID", "--", "--data.rowz", "padded"], "unknown key 'data.rowz'"),
        (["GRID", "--", "padded"], "unexpected 'padded'"),
        (["GRID", "--", "--data.rows"], "--data.rows"),
    ],
)
def test_mistakes_are_told(grid, capsys, arguments, message):
    assert main([grid if word == "GRID" else word for word in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(grid, tmp_path, capsys):
    fill(grid, tmp_path / "runs", ["wide"])
    (tmp_path / "file").write_text("")
    assert (
        main(
            [
                grid,
                "--root",
                str(tmp_path / "runs"),
                "--only",
                "wide",
                "--out",
                str(tmp_path / "file"),
            ]
        )
        == 2
    )
    assert f"--out: cannot write to {tmp_path}/file: File exists" in capsys.readouterr().err

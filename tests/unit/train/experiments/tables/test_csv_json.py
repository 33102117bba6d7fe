"""CSV and JSON read back, and the picture."""

import csv
import io
import json

import matplotlib.image
import numpy as np
import pytest

from tests.unit.train.experiments.tables.making import VERSIONS, fill, make_grid
from train.experiments.tables.csv_json import as_json, cells_csv, runs_csv
from train.experiments.tables.plot import write_plot
from train.experiments.tables.table import make_table

THIRD = 30 + 1 / 3  # a figure that no short text has
FIGURES = {
    ("Uniform", "wide"): {1: (31.0, 29.0), 2: (34.0, 32.0)},
    ("AlphaDecay", "wide"): {1: (THIRD, 28.0), 2: (32.0, 31.0)},
    ("AlphaDecay", "deep"): {2: (40.0, 38.0)},
}
PAPER = {("AlphaDecay", "wide"): 28.5, ("Uniform", "wide"): 29.0}


@pytest.fixture
def table(tmp_path):
    grid = make_grid({"wide": {}, "deep": {}}, seeds=[1, 2], paper=PAPER, source="arXiv 2506.14562")
    fill(grid, tmp_path, FIGURES)
    return make_table(grid, tmp_path)


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_a_run_with_nothing_rounded(table):
    lines = read(runs_csv(table))
    assert [(line["cell"], line["seed"], line["status"]) for line in lines] == [
        ("wide-uniform", "1", "counted"),
        ("wide-uniform", "2", "counted"),
        ("deep-uniform", "1", "missing"),
        ("deep-uniform", "2", "missing"),
        ("wide-alphadecay", "1", "counted"),
        ("wide-alphadecay", "2", "counted"),
        ("deep-alphadecay", "1", "missing"),
        ("deep-alphadecay", "2", "counted"),
    ]
    counted = lines[4]
    assert float(counted["value"]) == THIRD and float(counted["perplexity_published"]) == 28.0
    assert {
        key: counted[key]
        for key in (
            "tokens",
            "precision",
            "world_size",
            "commit",
            "method",
            "steps",
            "validation_tokens",
        )
    } == {
        "tokens": "614400",
        "precision": "float32",
        "world_size": "2",
        "commit": "0123456789",
        "method": "alphadecay",
        "steps": "150",
        "validation_tokens": "16256",
    }
    assert {name: counted[name] for name in VERSIONS} == VERSIONS
    assert lines[2]["value"] == "" and lines[2]["detail"] == "never started"


def test_a_line_a_cell(table):
    lines = {line["cell"]: line for line in read(cells_csv(table))}
    assert list(lines) == ["wide-uniform", "deep-uniform", "wide-alphadecay", "deep-alphadecay"]
    line = lines["wide-alphadecay"]
    assert (line["planned"], line["seeds"], line["n"], line["pairs"], line["best"]) == (
        "2",
        "1 2",
        "2",
        "2",
        "True",
    )
    assert (
        float(line["mean"]) == pytest.approx((THIRD + 32) / 2, rel=1e-15)
        and float(line["paper"]) == 28.5
    )
    # Differences -2/3 and -2: mean -4/3, half their distance 2/3, times t of one degree.
    assert float(line["difference"]) == pytest.approx(-4 / 3, rel=1e-12)
    assert float(line["low"]) == pytest.approx(-4 / 3 - 12.70620473617 * 2 / 3, rel=1e-9)
    assert (
        float(line["published_difference"]) == -1.0 and float(line["published_minus_paper"]) == 1.0
    )
    assert (
        lines["deep-alphadecay"]["difference"],
        lines["deep-alphadecay"]["sd"],
        lines["deep-alphadecay"]["best"],
    ) == ("", "", "False")
    assert (lines["deep-uniform"]["n"], lines["deep-uniform"]["mean"]) == ("0", "")


def test_the_mean_of_those_that_did_not_diverge_is_no_best(tmp_path):
    grid = make_grid({"wide": {}}, seeds=[1, 2])
    fill(
        grid,
        tmp_path,
        {
            ("Uniform", "wide"): {1: (31.0, 29.0), 2: (34.0, 32.0)},
            ("AlphaDecay", "wide"): {1: (20.0, 19.0), 2: (None, None)},
        },
    )
    table = make_table(grid, tmp_path)
    assert [(absent.why, absent.run.seed) for absent in table.collected.absent] == [("diverged", 2)]
    assert not any(entry.best for entry in table.entries)  # Uniform's mean is not the lowest


def test_json_has_it_all(table):
    written = json.loads(
        as_json(table), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert (written["grid"], written["baseline"], written["seeds"], written["confidence"]) == (
        "toy",
        "Uniform",
        [1, 2],
        0.95,
    )
    assert [cell["mean"] for cell in written["cells"]] == [
        32.5,
        None,
        pytest.approx((THIRD + 32) / 2),
        40.0,
    ]
    assert (
        len(written["runs"]) == 8
        and sum(run["status"] == "counted" for run in written["runs"]) == 5
    )
    assert {entry["what"] for entry in written["differs_from_paper"]} >= {
        "data",
        "tokens",
        "precision",
    } and written["disagreements"] == []
    assert written["made"]["steps"] == "150"


def picture(path):
    return matplotlib.image.imread(path)


def test_the_picture_has_a_pair_of_panels_a_column(table, tmp_path):
    write_plot(tmp_path / "plot.png", table)
    image = picture(tmp_path / "plot.png")
    height, width, _ = image.shape
    assert 1500 < width < 1800 and 250 < height < 600  # two columns side by side
    assert all(
        len(np.unique(half.reshape(-1, 4), axis=0)) > 50
        for half in np.array_split(image, 2, axis=1)
    )


def test_columns_wrap(tmp_path):
    columns = {f"column {letter}": {} for letter in "abcd"}
    grid = make_grid(columns, seeds=[1])
    fill(grid, tmp_path, {("Uniform", column): {1: (31.0, 29.0)} for column in list(columns)[:2]})
    write_plot(tmp_path / "two.png", make_table(grid, tmp_path))
    fill(grid, tmp_path, {("Uniform", column): {1: (31.0, 29.0)} for column in columns})
    write_plot(tmp_path / "four.png", make_table(grid, tmp_path))
    two, four = (picture(tmp_path / name).shape for name in ("two.png", "four.png"))
    assert four[1] == two[1] and 1.5 * two[0] < four[0] < 2 * two[0]  # a second line of two

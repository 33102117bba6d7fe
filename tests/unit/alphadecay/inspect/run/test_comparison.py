"""Runs side by side in the terminal: of all kinds, unfinished, damaged, with missing pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alphadecay.cli import main
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.comparison import differences, labels, read_comparison
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import alpha, make_run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Four runs that differ in everything, and a folder without one."""
    made = [
        make_run(tmp_path / "a", name="small", steps=40, interval=10, layers=2),
        make_run(tmp_path / "b", name="plain", method="uniform", interval=0),
        make_run(tmp_path / "c", name="small", state="running", layers=5),
        make_run(tmp_path / "d", name="norms", method="frobenius_norm", state="stopped"),
    ]
    (tmp_path / "e").mkdir()
    return [*made, tmp_path / "e"]


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["compare", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_figures_are_those_of_the_runs(
    folders: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = rows(capsys, *map(str, folders))
    assert code == 1  # one was left out
    small, plain, unfinished, norms = found
    alphas = [alpha(40, place) for place in range(14)]
    assert small["alpha"] == pytest.approx([min(alphas), sum(alphas) / 14, max(alphas)])
    assert small["decay"] == pytest.approx([value / 10 for value in small["alpha"]])
    assert (small["step"], small["steps"], small["tokens"]) == (40, 40, 4000)
    assert small["loss"] == pytest.approx(8 / 40**0.2)
    assert plain["alpha"] is None and plain["decay"] is None
    assert norms["alpha"] is None and norms["decay"] is not None
    assert (unfinished["state"], norms["state"]) == ("running", "stopped")
    assert {row["goodput"] for row in found} == {None}


def test_what_each_has_not_got_is_said(folders: list[Path]) -> None:
    comparison = read_comparison(folders)
    said = {one.label: one.remarks for one in comparison.runs}
    silent = "it does not say where its wall time went"
    assert said == {
        f"small ({folders[0]})": (silent,),
        "plain": ("its method, uniform, measures no alpha", silent),
        f"small ({folders[2]})": ("it is running at step 12 of 12", silent),
        "norms": (
            "it is stopped at step 12 of 12",
            "it measures the Frobenius norm in the place of alpha",
            silent,
        ),
    }
    assert list(comparison.left_out) == [str(folders[4])]


def test_missing_and_damaged_pieces(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "metrics.jsonl").write_text('{"kind": "refresh", "step": 0, "weight_decays": {}}\n')
    (bare / "config.yaml").write_text("- [")
    damaged = make_run(tmp_path / "damaged")
    lines = (damaged / "metrics.jsonl").read_text().splitlines()
    (damaged / "metrics.jsonl").write_text("\n".join([lines[0], "{", *lines[1:]]))
    comparison = read_comparison([bare, damaged])
    [one] = comparison.runs
    assert one.label == "bare" and one.remarks == (
        "it has no state.json",
        "it has no config.yaml that can be read",
        "it has no training step yet",
        "it has no validation",
        "its method, unknown, records no alpha",
        "it does not say where its wall time went",
    )
    assert "line 2: not valid JSON" in comparison.left_out[str(damaged)]
    with pytest.raises(InspectError, match=r"no run to show.*line 2"):
        read_comparison([damaged])


def test_what_sets_runs_apart(folders: list[Path]) -> None:
    runs = [read_run(folder) for folder in folders[:2]]
    assert differences(runs) == {
        "decay.method": ["alphadecay", "uniform"],
        "run.steps": ["40", "12"],
    }
    del runs[1].config["decay"]
    assert differences(runs)["decay.method"] == ["alphadecay", "–"]


def test_one_run_twice_is_one(folders: list[Path]) -> None:
    assert len(read_comparison([folders[0], folders[0]]).runs) == 1
    assert labels([read_run(folders[1])]) == ["plain"]


def test_the_table_fits_a_terminal(
    folders: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    long = make_run(tmp_path / "long", name="n" * 60)
    assert main(["compare", *map(str, folders), str(long)]) == 1
    lines = capsys.readouterr().out.splitlines()
    paths = [line for line in lines if str(tmp_path) in line]
    assert all(len(line) <= 80 for line in lines if line not in paths)
    headings = lines[0].split()
    assert headings[0] == "run" and headings[-1] == "good" and len(headings) == 9
    assert len(lines[0]) == len(lines[1])
    assert any(line.startswith("plain: its method, uniform") for line in lines)
    assert any(line.startswith("left out: ") for line in lines)


def test_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "there is no run to show" in capsys.readouterr().err

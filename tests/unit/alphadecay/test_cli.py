"""The command `alphadecay`: figures against float64 singular values, errors by their words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import alphadecay
from alphadecay.cli import main


@pytest.fixture
def matrix(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A wide matrix of a fixed seed, as a file and as it is."""
    weight = np.random.default_rng(0).standard_normal((48, 96))
    np.save(tmp_path / "weight.npy", weight.astype(np.float32))
    return tmp_path / "weight.npy", weight.astype(np.float32).astype(np.float64)


def hill_by_svd(weight: np.ndarray) -> tuple[float, float]:
    """Return the paper's alpha, and the largest distance of its power law from the data."""
    eigenvalues = np.sort(np.linalg.svd(weight, compute_uv=False) ** 2)
    half = len(eigenvalues) // 2
    tail = eigenvalues[-half:]
    x_min = eigenvalues[-half - 1]
    alpha = 1 + half / np.log(tail / x_min).sum()
    model = 1 - (tail / x_min) ** (1 - alpha)
    return alpha, np.abs(model - np.arange(half) / half).max()


def test_json_holds_the_papers_alpha(
    matrix: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    file, weight = matrix
    assert main(["estimate", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    alpha, distance = hill_by_svd(weight)
    # Eigenvalues of a float64 Gram matrix against singular values: the condition number squared.
    assert told["alpha"] == pytest.approx(alpha, rel=1e-9)
    assert told["ks_distance"] == pytest.approx(distance, rel=1e-9)
    assert told["tail_count"] == 24
    assert told["shape"] == [48, 96]


def test_text_says_the_same(
    matrix: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    file, weight = matrix
    assert main(["estimate", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["alpha", f"{hill_by_svd(weight)[0]:.4f}"]
    assert lines[2].split(maxsplit=1) == ["tail", "24 of 48 eigenvalues"]


def test_another_tail_is_taken(
    matrix: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = matrix
    assert main(["estimate", str(file), "--json", "--tail", "goodness_of_fit"]) == 0
    searched = json.loads(capsys.readouterr().out)
    assert main(["estimate", str(file), "--json"]) == 0
    half = json.loads(capsys.readouterr().out)
    assert searched["ks_distance"] < half["ks_distance"]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5), "its shape is (5,), need a matrix"),
        (np.zeros((3, 3, 3)), "its shape is (3, 3, 3), need a matrix"),
        (np.full((9, 9), np.nan), "81 of 81 values are NaN or Inf"),
        (np.ones((9, 9), dtype=int), "its values are int64, need real floats"),
        (np.ones((9, 9), dtype=complex), "its values are complex128, need real floats"),
        (np.zeros((16, 16)), "no alpha, zero: it is the zero matrix"),
        (np.random.default_rng(0).standard_normal((4, 99)), "no alpha, too_small"),
        (np.eye(16), "no alpha, degenerate"),
    ],
)
def test_what_has_no_alpha_is_told(
    array: np.ndarray, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "odd.npy", array)
    assert main(["estimate", str(tmp_path / "odd.npy")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and words in told.err


def test_other_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "many.npz", a=np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("alpha")
    (tmp_path / "empty.npy").touch()
    for name, words in {
        "missing.npy": "no such file",
        "many.npz": "an archive of several arrays",
        "objects.npy": "not an array that numpy can read",
        "text.npy": "not an array that numpy can read",
        "empty.npy": "not an array that numpy can read",
        ".": "not an array that numpy can read",
    }.items():
        assert main(["estimate", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_the_version_and_where_the_program_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == alphadecay.__version__
    assert main(["train", "prepare"]) == 2
    assert "runs from a clone or an image" in capsys.readouterr().err

"""Tables of what was measured, and pages that have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.report import fill_in, out_file, table, table_command, tables
from tests.gpu.version_0_1 import read_version_0_1

RESULTS: dict[str, Any] = {
    "machine": {"device": "NVIDIA H100 80GB HBM3", "commit": "0123456789+"},
    "parts": {
        "equality": {
            "ZeRO-3": {"weights": 3e-6, "decays": 2e-5, "ok": True},
            "DDP": {"failed": "ValueError: broken"},
        },
        "tests": {"gpu": {"passed": 12, "skipped": 1, "failures": ["a.py::b"], "ok": False}},
        "speed": {
            "corpus": {"seconds": 9.0},
            "60m alphadecay": {
                "zero_stage": 1,
                "micro_batch": 512,
                "tokens_per_second": 990_000.0,
                "mfu": 0.3,
                "refresh_seconds": 0.5,
                "refresh_share": 0.01,
                "memory_allocated": 4.0e9,
                "memory_predicted": 5.0e9,
            },
            "60m uniform": {"tokens_per_second": 1_000_000.0},
        },
        "ablations": {
            "60m compile": {
                "zero_stage": 1,
                "micro_batch": 256,
                "tokens_per_second": 495_000.0,
                "mfu": 0.15,
            }
        },
    },
}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_speed_is_told_beside_uniforms_and_the_prediction() -> None:
    ((recipe, sizes, tokens, mfu, ratio, refresh, share, first, memory),) = rows(
        table(RESULTS, "speed")
    )
    assert (recipe, sizes, tokens, mfu) == ("60M", "ZeRO-1, 512", "990,000", "30.0%")
    assert ratio == "0.980"  # 0.99 x 990 / 1000: the refreshes are in it
    assert (refresh, share, first, memory) == ("0.50", "1.00%", "–", "4.0 (5.0)")


def test_an_ablation_is_told_beside_the_recipe_as_shipped() -> None:
    assert rows(table(RESULTS, "ablations")) == [
        ["60M", "compile", "ZeRO-1, 256", "495,000", "15.0%", "0.50"]
    ]


def test_tests_that_failed_are_named() -> None:
    assert rows(table(RESULTS, "tests")) == [["gpu", "12", "a.py::b", "1"]]


def test_what_was_not_measured_is_named() -> None:
    text = "\n".join(tables(RESULTS))
    assert "- equality DDP: ValueError: broken" in text
    assert "assumes 40% MFU; 30% to 30% was measured here" in text
    assert "DDP" not in table(RESULTS, "equality")


def test_version_0_1s_files_are_read(root: Path) -> None:
    """Against the raw files: a table is no second owner of a figure."""
    folder = root / "tests" / "bench" / "results" / "h200-0.1"
    results = read_version_0_1(folder)
    (run,) = rows(table(results, "speed"))
    raw = json.loads((folder / "program-recipes.json").read_text())[0]
    assert run[2:4] == [f"{raw['tokens_per_second']:,.0f}", f"{raw['mfu']:.1%}"]
    step = json.loads((folder / "step.json").read_text())
    assert [row[1] for row in rows(table(results, "steps"))] == [
        f"{one['step_ratio']['ours']:.3f}" for one in step.values()
    ]
    assert [row[0] for row in rows(table(results, "refreshes"))] == ["60M", "350M"]
    assert len(rows(table(results, "eigvalsh"))) == 4


def test_the_page_has_the_tables_of_the_files(root: Path) -> None:
    page = (root / "tests" / "gpu" / "README.md").read_text()
    results = read_version_0_1(root / "tests" / "bench" / "results" / "h200-0.1")
    assert fill_in(page, results) == page, (
        "python -m tests.gpu table FOLDER --into tests/gpu/README.md"
    )


def test_a_marked_table_is_renewed_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- gpu: speed -->\nold\n<!-- end -->\nafter\n")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    assert table_command([str(results), "--into", str(page)], tmp_path) == 0
    table_text = table(RESULTS, "speed")
    expected = f"before\n<!-- gpu: speed -->\n{table_text}\n<!-- end -->\nafter\n"
    assert page.read_text() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain", "nothing is marked"),
        ("<!-- gpu: stacks -->\n<!-- end -->", "no figures for the table 'stacks'"),
        ("<!-- gpu: nonsense -->\n<!-- end -->", "no figures for the table 'nonsense'"),
    ],
)
def test_a_page_that_cannot_be_renewed_is_kept(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    assert table_command(["--into", str(page)], tmp_path) == 2  # the newest results
    assert message in capsys.readouterr().err
    assert page.read_text() == text


def test_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_command([], tmp_path) == 2
    assert "make gpu" in capsys.readouterr().err


def test_the_file_is_named_after_card_and_commit() -> None:
    machine = RESULTS["machine"]
    assert out_file(Path("r"), machine, False) == Path("r/nvidia-h100-80gb-hbm3-0123456789.json")
    assert out_file(Path("r"), machine, True).name.startswith("toy-")

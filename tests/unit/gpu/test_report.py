"""Tables of what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.gpu.report import out_file, stored, table, tables
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
        "engines": {
            "60m fsdp2": {
                "micro_batch": 256,
                "tokens_per_second": 880_000.0,
                "mfu": 0.27,
                "memory_allocated": 3.0e9,
            }
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


def test_the_engines_stand_side_by_side() -> None:
    assert rows(table(RESULTS, "engines")) == [
        ["60M", "DeepSpeed, ZeRO-1", "512", "990,000", "30.0%", "–", "4.0 (5.0)"],
        ["60M", "FSDP2", "256", "880,000", "27.0%", "–", "3.0 (–)"],
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


def stored_file(folder: Path, name: str, **facts: Any) -> None:
    """Store results that a machine had, of a day or of a rehearsal."""
    toy = facts.pop("toy", False)
    machine = RESULTS["machine"] | facts
    (folder / f"{name}.json").write_text(json.dumps(RESULTS | {"machine": machine, "toy": toy}))


def test_stored_results_are_the_newest_first_without_rehearsals(tmp_path: Path) -> None:
    """By the day in the file: a clone gives all of them one age."""
    stored_file(tmp_path, "a", date="2027-02-01T10:00:00+00:00", commit="second")
    stored_file(tmp_path, "b", date="2027-01-01T10:00:00+00:00", commit="first")
    stored_file(tmp_path, "c", date="2027-03-01T10:00:00+00:00", commit="rehearsal", toy=True)
    stored_file(tmp_path, "d", date="2027-04-01T10:00:00+00:00", commit="no GPU", device="CPU")
    found = [results["machine"]["commit"] for results in stored(tmp_path)]
    assert found == ["second", "first", "19b176b"]


def test_the_file_is_named_after_card_and_commit() -> None:
    machine = RESULTS["machine"]
    assert out_file(Path("r"), machine, False) == Path("r/nvidia-h100-80gb-hbm3-0123456789.json")
    assert out_file(Path("r"), machine, True).name.startswith("toy-")

"""The bench of DeepSpeed's writers runs, and says what became of a killed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import save_deepspeed


def test_save_deepspeed(tmp_path: Path) -> None:
    out = tmp_path / "save.json"
    arguments = ["--size", "toy", "--stages", "2", "--repeats", "1", "--out", str(out)]
    assert save_deepspeed.main([*arguments, "--writers", "python_decoupled"]) == 0
    (found,) = json.loads(out.read_text())["stages"]
    rows = found["writers"]
    assert list(rows) == ["torch", "python_decoupled", "plain", "asynchronous"]
    assert rows["torch"]["stall"]["median"] == 1.0
    assert rows["torch"]["loads"] == {"torch": "the saved weights"}
    assert rows["python_decoupled"]["loads"]["torch"] == "the saved weights"
    late = rows["python_decoupled"]
    assert late["commit_seconds"]["median"] > 0
    assert late["stall"]["median"] == pytest.approx(
        (late["save_seconds"]["median"] + late["commit_seconds"]["median"])
        / rows["torch"]["save_seconds"]["median"]
    )
    killed = found["killed"]["python_decoupled"]
    assert killed["latest"] == killed["whole"]
    assert "process is not running" in killed["step_said"]
    assert killed["next_save_left"] == []  # and it raised nothing

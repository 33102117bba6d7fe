"""The table of what has been tried with what names tests that exist, and leaves no model out."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT
from train.config import ARCHITECTURES

PAGE = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## What has been tried with what")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| `(\w+)`[^|]*\|(.*)\|$", re.M)
TEST = re.compile(r"^- (t\d+) `(tests/[\w/]+\.py)::(\w+)`", re.M)


def test_every_architecture_has_a_row_and_every_cell_a_test_or_a_dash() -> None:
    rows = dict(ROW.findall(SECTION))
    assert set(rows) == {name for names in ARCHITECTURES.values() for name in names}
    known = {label for label, _, _ in TEST.findall(SECTION)}
    named: set[str] = set()
    for name, cells in rows.items():
        for cell in cells.split("|"):
            found = set(re.findall(r"\bt\d+\b", cell))
            assert found <= known and (found or cell.strip() == "–"), (name, cell)
            named |= found
    named |= set(re.findall(r"\bt\d+\b", SECTION.partition("| architecture")[0]))
    assert named == known


def test_the_tests_are_there() -> None:
    tests = TEST.findall(SECTION)
    files = sorted({file for _, file, _ in tests})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    collected = {line.partition("[")[0] for line in done.stdout.splitlines()}
    assert {f"{file}::{name}" for _, file, name in tests} <= collected, done.stdout[-2000:]

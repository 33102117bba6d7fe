"""The bench of the host runs, and counts the kernels that a GPU would launch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.bench import host, host_kernels


def test_ratios_and_kernels(tmp_path: Path) -> None:
    out = tmp_path / "host.json"
    arguments = ["--eager", "--layers", "1", "--repeats", "2", "--out", str(out)]
    assert host.main(arguments) == 0
    results = json.loads(out.read_text())
    [row] = results["engines"]
    assert set(row["over_bare"]) == set(host.ARMS)
    assert row["over_bare"]["bare"]["median"] == 1.0
    assert all(ratio["q1"] <= ratio["median"] <= ratio["q3"] for ratio in row["over_bare"].values())
    kernels = results["kernels"]
    assert kernels["fused optimizer"]["optimizer"] < kernels["plain"]["optimizer"] / 2
    assert kernels["chunked loss"]["optimizer"] == kernels["plain"]["optimizer"]


def test_every_arm_is_what_its_name_says() -> None:
    for name, stage, leaf, compiled in (
        ("bare", 0, False, False),
        ("zero1_compiled", 1, False, True),
        ("zero3", 3, False, False),
        ("zero3_leaf_compiled", 3, True, True),
    ):
        words = " ".join(host.arguments_of(name, 2))
        assert f"zero{stage}.json" in words
        assert f"leaf_layers={leaf}" in words and f"compile={compiled}" in words


@pytest.mark.parametrize(
    ("name", "computes"),
    [("mm", True), ("add_", True), ("view", False), ("transpose", False), ("empty", False)],
)
def test_views_and_allocations_are_no_kernels(name: str, computes: bool) -> None:
    assert host_kernels._computes(f"aten::{name}") is computes


def test_an_operation_that_calls_others_counts_once() -> None:
    one = torch.ones(4, 4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        torch.nn.functional.linear(one, one)
    assert host_kernels._launches(recorded) == 1

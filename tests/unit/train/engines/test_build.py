"""What engine.kind auto says of itself is what the files of measurements say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from train.config import EngineConfig, TrainConfig
from train.engines.build import engine_kind, why_engine

AUTO = TrainConfig()


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_reason_has_the_figures_of_its_sources(root: Path) -> None:
    said = why_engine(AUTO)
    results = root / "tests" / "gpu" / "results"
    newer = read(results / "nvidia-h200-945791d85b.json")
    speeds = {
        "ZeRO-1 reached": newer["parts"]["speed"]["60m alphadecay"],
        "FSDP2": newer["parts"]["engines"]["60m fsdp2"],
        "ZeRO-3": read(results / "nvidia-h200-76b3040c4c.json")["parts"]["ablations"]["60m ZeRO-3"],
    }
    for name, measured in speeds.items():
        assert f"{name} {measured['tokens_per_second']:,.0f}" in said
    host = read(root / "tests" / "bench" / "results" / "host-cpu.json")
    [ours] = [each["over_bare"] for each in host["engines"] if each["layers"] == 12]
    zero, fsdp2 = (ours[name]["median"] for name in ("zero1", "fsdp2"))
    assert f"took {zero:.2f} times" in said and f"{fsdp2:.2f} times under FSDP2" in said


def test_the_reason_speaks_for_what_auto_takes(root: Path) -> None:
    assert engine_kind(AUTO) == "deepspeed"
    said = why_engine(AUTO)
    assert said.startswith("engine.kind auto takes deepspeed: ")
    speeds = [int(figure.replace(",", "")) for figure in re.findall(r"\d,\d{3},\d{3}", said)]
    assert len(speeds) == 3 and max(speeds) == speeds[0]
    for page in re.findall(r"\((\S+\.(?:md|json))\)", said):
        assert (root / page).is_file(), page


@pytest.mark.parametrize("kind", ["deepspeed", "fsdp2"])
def test_an_engine_that_was_given_needs_no_reason(kind: Any) -> None:
    assert why_engine(TrainConfig(engine=EngineConfig(kind=kind))) == ""

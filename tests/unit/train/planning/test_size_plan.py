"""The sizes of a run that is not run, as its lines tell them."""

from __future__ import annotations

from train.config.command_line import load_config
from train.engines.build import why_engine
from train.errors import Problems
from train.planning.device import GB, Device
from train.planning.size_plan import plan_sizes

GPU = Device("GPU", 80 * GB, cuda=True, bf16=True)


def lines(*arguments: str) -> list[str]:
    config = load_config(["--config", "llama_60m", *arguments])
    problems = Problems()
    told = list(plan_sizes(config, 2, GPU, problems).lines())
    assert problems.found == []
    return told


def test_the_engine_that_auto_took_is_explained_before_the_sizes() -> None:
    told = lines("--engine.kind=auto")
    why = why_engine(load_config(["--config", "llama_60m"]))
    before = told[: next(place for place, line in enumerate(told) if line.startswith("auto takes"))]
    assert " ".join(line.strip() for line in before) == why
    assert max(map(len, before)) <= 100


def test_an_engine_that_was_given_is_not() -> None:
    for kind in ("deepspeed", "fsdp2"):
        told = lines(f"--engine.kind={kind}")
        assert told[0].startswith("auto takes ") and not any("engine.kind" in line for line in told)

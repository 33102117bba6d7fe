"""Runs whose sizes are auto: they train as with the same sizes given, and start again with less
where the first step runs out of memory.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.forked import wait_for_ranks
from tests.integration.conftest import Workplace
from tests.integration.program import Outcome, figures, fork_ranks, metrics
from tests.waiting import PATIENCE
from train.config import TrainConfig
from train.engines.build import why_engine

SCRIPT = str(Path(__file__).with_name("short_of_memory.py"))
AUTO = {"run.micro_batch": "auto", "deepspeed.config": "auto"}
PLENTY = 1000


def run(workplace: Workplace, folder: Path, ranks: int, rows: int, **settings: object) -> Outcome:
    """Run on ranks of which the last cannot have more than so many rows at a time."""
    given = [f"--{key}={value}" for key, value in {"run.steps": 3, **settings}.items()]
    command = (SCRIPT, *workplace.arguments(str(folder)), *given)
    log = folder.with_suffix(".log")
    log.write_text("")
    short = {"SHORT_RANK": str(ranks - 1), "SHORT_ROWS": str(rows)}
    processes = fork_ranks(ranks, workplace.folder, log, *command, **short)
    return Outcome(wait_for_ranks(processes, PATIENCE), log.read_text())


def sizes(folder: Path) -> tuple[int, str]:
    """What the run's folder says of them."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return config["run"]["micro_batch"], config["deepspeed"]["config"]


def test_one_process_starts_again_until_it_fits(workplace: Workplace, tmp_path: Path) -> None:
    """And then it is bit for bit the run that has those sizes from the start."""
    outcome = run(workplace, tmp_path / "auto", 1, 2, **AUTO)
    assert outcome.code == 0, outcome.output
    said = outcome.output
    assert said.count("is out of memory with a micro batch of 4 and ds_configs/zero1.json") == 1
    assert said.count(why_engine(TrainConfig())) == 1  # not by the second start
    first, second = (line for line in said.splitlines() if "auto takes ds_configs" in line[:30])
    assert first.startswith("auto takes ds_configs/zero1.json and a micro batch of 4: about ")
    assert second.startswith("auto takes ds_configs/zero1.json and a micro batch of 2: about ")
    assert second.endswith("; ds_configs/zero1.json and a micro batch of 4 ran out of memory")
    assert sizes(tmp_path / "auto") == (2, "ds_configs/zero1.json")
    given = {"run.micro_batch": 2, "deepspeed.config": "ds_configs/zero1.json"}
    plain = run(workplace, tmp_path / "given", 1, PLENTY, **given)
    assert plain.code == 0, plain.output
    assert figures(tmp_path / "auto") == figures(tmp_path / "given")
    summary = json.loads((tmp_path / "auto" / "summary.json").read_text())
    assert summary["micro_batch"] == 2 and summary["chosen"].endswith("4 ran out of memory")
    [notice] = metrics(tmp_path / "auto", "notice")
    assert notice["step"] == 0 and notice["notice"] == summary["chosen"]


def test_a_rank_that_alone_is_short_has_all_start_again(
    workplace: Workplace, tmp_path: Path
) -> None:
    """The other one waits for it within a collective; an earlier run's lines outlive the start."""
    zero3 = {"deepspeed.config": "ds_configs/zero3.json"}
    plain = run(workplace, tmp_path / "given", 2, PLENTY, **zero3)
    assert plain.code == 0, plain.output
    lines = figures(tmp_path / "given")
    (tmp_path / "given" / "summary.json").unlink()
    again = zero3 | {"run.micro_batch": "auto", "resume": "never"}
    outcome = run(workplace, tmp_path / "given", 2, 1, **again)
    assert outcome.code == 0, outcome.output
    said = outcome.output
    assert said.count("rank 1 is out of memory with a micro batch of 2 and ds_configs/zero3") == 1
    assert "auto takes a micro batch of 1: about " in said
    folder = tmp_path / "given"
    assert sizes(tmp_path / "given") == (1, "ds_configs/zero3.json")
    assert figures(folder) == lines
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl.previous").rename(folder / "metrics.jsonl")
    assert figures(folder) == lines and metrics(folder, "notice") == []


def test_copies_of_an_fsdp2_model_start_again_too(workplace: Workplace, tmp_path: Path) -> None:
    """HSDP: a rank that is short has the other copy start again with it."""
    copies = {"engine.kind": "fsdp2", "engine.shard": 1}
    given = run(workplace, tmp_path / "given", 2, PLENTY, **copies, **{"run.micro_batch": 1})
    assert given.code == 0, given.output
    outcome = run(workplace, tmp_path / "auto", 2, 1, **copies, **AUTO)
    assert outcome.code == 0, outcome.output
    said = outcome.output
    assert said.count("rank 1 is out of memory with a micro batch of 2 and FSDP2 (CUDA") == 1
    assert "auto takes a micro batch of 1: about " in said and "ds_configs" not in said
    assert "engine.kind auto" not in said
    assert "FSDP2 (HSDP, 1 rank a copy)" in " ".join(said.replace("│", " ").split())
    summary = json.loads((tmp_path / "auto" / "summary.json").read_text())
    assert (summary["engine"], summary["engine_shard"]) == ("fsdp2", 1)
    [manifest] = (tmp_path / "auto" / "checkpoints").glob("step-*/manifest.json")
    assert "engine_shard" not in json.loads(manifest.read_text())  # no part of its identity
    assert sizes(tmp_path / "auto") == (1, "auto")
    assert figures(tmp_path / "auto") == figures(tmp_path / "given")
    [notice] = metrics(tmp_path / "auto", "notice")
    assert notice["micro_batch"] == 1 and notice["ds_config"] == "auto"

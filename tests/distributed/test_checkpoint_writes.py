"""Checkpoints on disks that fill up under two real ranks: no hang, nothing half written, the older
one as it was.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from alphadecay import AdamW
from tests.distributed.harness import run_ranks
from tests.distributed.zero3 import ROWS, build, ds_config, one_step
from train import checkpoint
from train.cluster.distributed import World
from train.engines.deepspeed import DeepSpeedEngine
from train.errors import UserError

WORLD_SIZE = 2


def engine_and_world(rank: int, stage: int) -> tuple[Any, Any, World]:
    config = ds_config(WORLD_SIZE, ROWS // WORLD_SIZE)
    if stage != 3:
        config["zero_optimization"] = {"stage": stage}
    engine, decay = build(AdamW, config)
    return (
        engine,
        decay,
        World(rank, rank, WORLD_SIZE, torch.device("cpu"), dist.new_group(backend="gloo")),
    )


def attempt(engine: Any, folder: Path, step: int, world: World) -> str:
    try:
        checkpoint.save(
            DeepSpeedEngine(engine),
            folder,
            step,
            {"step": step},
            {"zero_stage": 3, "world_size": WORLD_SIZE},
            world,
        )
    except UserError as error:
        return str(error)
    return ""


def full_disk(rank: int, folder: str, stage: int) -> dict[str, Any]:
    """One save that fits, one that does not, room made, and one that fits again."""
    engine, decay, world = engine_and_world(rank, stage)
    path = Path(folder)
    said = [attempt(engine, path / "c", 1, world)]
    free = shutil.disk_usage(path).free
    needed = sum(
        file.stat().st_size for file in (path / "c/step-00000001").rglob("*") if file.is_file()
    )
    if rank == 0:
        with (path / "ballast").open("wb") as file:
            file.write(bytes(free - needed // 2))
    world.barrier()
    said.append(attempt(engine, path / "c", 2, world))
    left = sorted(p.name for p in (path / "c").iterdir())
    one_step(engine, decay, 1, rank, WORLD_SIZE, ROWS // WORLD_SIZE)  # the run goes on
    if rank == 0:
        (path / "ballast").unlink()
    world.barrier()
    said.append(attempt(engine, path / "c", 3, world))
    return {"said": said, "left": left}


def limited_rank(rank: int, folder: str, limited: int) -> list[str]:
    """Rank `limited` alone may write no file longer than 20 kB."""
    engine, _, world = engine_and_world(rank, 3)
    said = [attempt(engine, Path(folder), 1, world)]
    if rank == limited:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of death
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    said.append(attempt(engine, Path(folder), 2, world))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return [*said, attempt(engine, Path(folder), 3, world)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True, timeout=120)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_disk_that_fills_up_in_the_middle(small_disk: Path, stage: int) -> None:
    ranks = run_ranks(WORLD_SIZE, full_disk, str(small_disk), stage)
    for rank in ranks:
        assert rank == ranks[0]
        first, second, third = rank["said"]
        assert (first, third) == ("", "")
        assert second.startswith("rank ") and "free in" in second
        assert rank["left"] == ["latest", "step-00000001"]
    said: list[str] = []
    found = checkpoint.find("auto", small_disk / "c", said.append)
    assert found is not None and (found.step, said) == (3, [])


@pytest.mark.parametrize("limited", [0, 1])
def test_a_failure_on_either_rank_reaches_both(tmp_path: Path, limited: int) -> None:
    ranks = run_ranks(WORLD_SIZE, limited_rank, str(tmp_path), limited)
    assert ranks[0] == ranks[1]
    first, second, third = ranks[0]
    assert (first, third) == ("", "")
    assert second.startswith(f"rank {limited}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latest",
        "step-00000001",
        "step-00000003",
    ]

"""What happens when memory runs out in a run's first step, and after it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from train.cluster.distributed import World
from train.config.command_line import load_config
from train.errors import UserError
from train.loop.attempt import Attempt

CONFIG = load_config(["--run.micro_batch=8", "--deepspeed.config=ds_configs/zero1.json"])
WORLD = World(1, 1, 2, torch.device("cpu"))
SHORT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation")


class Left(Exception):
    """The program was replaced."""


class Restart:
    """Notes what is asked of it."""

    watching = True

    def leave(self) -> None:
        raise Left

    def stop_watching(self) -> None:
        self.watching = False


def attempt(restart: Any) -> Attempt:
    return Attempt(CONFIG, WORLD, restart)


@pytest.mark.parametrize(
    "error",
    [
        SHORT,
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("ncclUnhandledCudaError: Last error: Cuda failure 2 'out of memory'"),
    ],
)
def test_all_ranks_start_again(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Left), attempt(Restart()).guarded():
        raise error
    said = capsys.readouterr().out
    assert said.startswith(
        "rank 1 is out of memory with a micro batch of 8 and ds_configs/zero1.json ("
    )
    assert said.endswith("); all ranks start again with less\n") and said.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), UserError("no such file")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, attempt(Restart()).guarded():
        raise error
    assert caught.value is error


def test_after_the_first_step_it_is_said_what_to_lower() -> None:
    restart = Restart()
    tried = attempt(restart)
    tried.succeeded()
    tried.succeeded()
    assert not restart.watching
    words = r"Tried to allocate 2 GiB.\); set --run.micro_batch lower"
    with pytest.raises(UserError, match=words), tried.guarded():
        raise SHORT


def test_so_it_is_where_the_sizes_are_the_users() -> None:
    words = r"rank 1 is out of memory.*--deepspeed.config; where it"
    with pytest.raises(UserError, match=words), attempt(None).guarded():
        raise SHORT


@pytest.mark.parametrize(("shard", "further"), [(1, "--engine.shard 0"), (0, "more ranks")])
def test_under_fsdp2_it_is_said_in_its_words(shard: int, further: str) -> None:
    words = ["--run.micro_batch=8", "--engine.kind=fsdp2", f"--engine.shard={shard}"]
    said = rf"with a micro batch of 8 and FSDP2 \(.* true or {further}; where it"
    with pytest.raises(UserError, match=said), Attempt(load_config(words), WORLD, None).guarded():
        raise SHORT

"""Each weight is drawn once, by its own seed, by however many threads."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from train.config import ModelConfig
from train.models import initialise, spec_of
from train.models.build import build_model
from train.system.cpu_count import cores_of_rank, cpu_count

TINY = ModelConfig(vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2)
STD = 0.02


class CountDraws(TorchDispatchMode):
    """Counts the operators of this thread that fill a tensor by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in function.tags:
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def expected(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """The values that the documentation of a parameter's own generator promises."""
    if len(shape) == 1:
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(shape, generator=generator) * STD


@pytest.mark.parametrize("threads", [1, 5])
def test_every_weight_has_a_generator_of_its_own(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialise, "cores_of_rank", lambda: threads)
    for name, parameter in build_model(TINY, 12, seed=3).named_parameters():
        assert torch.equal(parameter, expected(name, parameter.shape, 3)), name


def test_nothing_else_is_drawn() -> None:
    spec = spec_of(TINY)
    with CountDraws() as plain:
        spec.bare(spec.config(TINY, 12))
    with CountDraws() as ours:
        build_model(TINY, 12, seed=3)
    assert len(plain.names) > 16  # torch draws its linear layers, transformers all matrices
    assert ours.names == []


def test_buffers_are_what_the_model_makes_them() -> None:
    spec = spec_of(TINY)
    plain = dict(spec.bare(spec.config(TINY, 12)).named_buffers())
    ours = dict(build_model(TINY, 12, seed=3).named_buffers())
    assert plain and ours.keys() == plain.keys()
    assert all(torch.equal(buffer, ours[name]) for name, buffer in plain.items())


def test_what_is_no_parameter_is_filled() -> None:
    with initialise.SkipRandomFills():
        assert torch.zeros(64).normal_().ne(0).any()
        assert torch.nn.init.uniform_(torch.zeros(64)).ne(0).any()
        weight = torch.nn.Parameter(torch.zeros(64))
        assert torch.nn.init.uniform_(weight) is weight and weight.eq(0).all()


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE"])
def test_ranks_share_the_cores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(other, raising=False)
    assert cores_of_rank() == cpu_count()
    monkeypatch.setenv(name, str(cpu_count()))
    assert cores_of_rank() == 1
    monkeypatch.setenv(name, "1000")
    assert cores_of_rank() == 1


def test_deepspeed_starts_without_the_compiler_and_a_run_without_matplotlib() -> None:
    """In a process of its own, for another test may have them imported already."""
    program = """
import sys
from train.engines.deepspeed_workarounds import import_muon_uncompiled
import train.reporting.finish
import_muon_uncompiled()
from deepspeed.runtime.zero.muon.original_muon import muon_update
import torch
assert muon_update(torch.eye(4), torch.zeros(4, 4)).shape == (4, 4)
print({"torch._inductor.compile_fx", "matplotlib.figure"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "set()", done.stdout + done.stderr

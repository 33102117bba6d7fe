"""What the process environment is set to before libraries read it, and what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from train.system import cpu_count, environment

LAUNCHERS = (
    "LOCAL_WORLD_SIZE",
    "LOCAL_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "WORLD_SIZE",
    "SLURM_LOCALID",
    "SLURM_CPUS_PER_TASK",
)
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
BEFORE_2_8 = ("TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
RECORDER = ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DUMP_ON_TIMEOUT")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A node of 64 cores with GPUs, nothing set; what is set here is taken back."""
    for name in (*LAUNCHERS, *ALLOCATOR, "OMP_NUM_THREADS", *BEFORE_2_8, *RECORDER):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DS_ACCELERATOR", os.environ.get("DS_ACCELERATOR", "cpu"))
    monkeypatch.setattr(cpu_count.os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(environment, "gpu_installed", lambda: True)


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}, "8"),  # torchrun
        ({"LOCAL_SIZE": "4", "WORLD_SIZE": "4"}, "16"),  # deepspeed
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "WORLD_SIZE": "8"}, "32"),
        ({"LOCAL_WORLD_SIZE": "128", "WORLD_SIZE": "128"}, "1"),
        # a rank that srun starts, with cores of its own
        ({"SLURM_LOCALID": "3", "SLURM_CPUS_PER_TASK": "12", "WORLD_SIZE": "512"}, "12"),
        # ranks of a torchrun that srun starts
        ({"SLURM_LOCALID": "0", "SLURM_CPUS_PER_TASK": "64", "LOCAL_WORLD_SIZE": "8"}, "8"),
        ({"LOCAL_WORLD_SIZE": "8", "OMP_NUM_THREADS": "3"}, "3"),
        ({}, None),  # alone: torch's own choice
    ],
)
def test_ranks_share_the_cores_by_one_formula(monkeypatch, variables, threads):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment.prepare_environment()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_the_allocator_grows_its_segments_and_collectives_are_recorded():
    environment.prepare_environment()
    assert [os.environ[name] for name in ALLOCATOR] == ["expandable_segments:True"] * 2
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "2000"


@pytest.mark.parametrize("name", ALLOCATOR)
def test_what_the_user_has_set_stays(monkeypatch, name):
    monkeypatch.setenv(name, "max_split_size_mb:128")
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "7")
    environment.prepare_environment()
    assert [os.environ.get(each) for each in ALLOCATOR if each != name] == [None]
    assert os.environ[name] == "max_split_size_mb:128"
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "7"


def test_the_flight_recorder_goes_by_the_name_that_torch_knows(monkeypatch):
    monkeypatch.setattr(environment, "version", lambda package: "2.6.0+cu124")
    environment.prepare_environment()
    environment.send_flight_records(Path("/run/flight-"))
    assert [os.environ.get(name) for name in BEFORE_2_8] == ["2000", "/run/flight-"]
    assert "TORCH_FR_BUFFER_SIZE" not in os.environ
    monkeypatch.setattr(environment, "version", lambda package: "2.13.0")
    environment.send_flight_records(Path("/run/flight-"))
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == "/run/flight-"


def test_nothing_of_cuda_is_set_without_a_gpu(monkeypatch):
    monkeypatch.setattr(environment, "gpu_installed", lambda: False)
    environment.prepare_environment()
    assert not any(name in os.environ for name in ALLOCATOR)

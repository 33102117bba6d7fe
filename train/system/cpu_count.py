"""Counts the cores that this process may use."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Return the cores this process may use, within the limits of a container or a batch job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of_rank() -> int:
    """Return this rank's share of the cores, at least one, by what launchers say of its node.

    A task of a SLURM step has a share of its own; the ranks that torchrun, deepspeed or mpirun
    starts divide what all of them may use.
    """
    cores = cpu_count()
    given = _number("SLURM_CPUS_PER_TASK")
    if given and "SLURM_LOCALID" in os.environ and not _ranks_here():
        return min(cores, given)
    return max(1, cores // (_ranks_here() or _number("WORLD_SIZE") or 1))


def _ranks_here() -> int:
    """Return how many ranks a launcher says it has started on this node; 0 where none says."""
    # torchrun's, deepspeed's, OpenMPI's, MPICH's
    names = (
        "LOCAL_WORLD_SIZE",
        "LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "MPI_LOCALNRANKS",
    )
    return next((_number(name) for name in names if _number(name)), 0)


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0

"""Collects what one node is like, and tells which nodes are unlike the others."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from alphadecay.inspect.run.versions import versions
from train.system.device import uses_cuda
from train.system.provenance import ROOT, commit_of, source_hash

# NCCL's and the data loaders' messages on one node go through it; containers begin with 64
_SMALL_SHM_MB = 512


@dataclass
class NodeFacts:
    """One node, as it sees itself.

    Args:
        host: its name.
        commit: of the checkout, with "+" where tracked files are changed; empty where there is no
            git.
        sources: hash of the program's files.
        versions: of Python, of packages, of CUDA, NCCL and the driver.
        devices: names of the GPUs that torch sees.
        free_gb: room where the results go; None where that cannot be told.
        warnings: what may do harm.
        problems: what this node itself found to be wrong.
    """

    host: str = field(default_factory=socket.gethostname)
    commit: str = ""
    sources: str = ""
    versions: dict[str, str | None] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    free_gb: float | None = None
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect_node(
    output_dir: Path, probe: str, ranks: int, minimum_free_gb: float, root: Path = ROOT
) -> NodeFacts:
    """Return this node's facts.

    Leaves the file `probe` in output_dir, for the other nodes to find.
    """
    facts = NodeFacts(commit=commit_of(root), sources=source_hash(root))
    facts.versions = versions() | _cuda_versions()
    facts.devices = _devices()
    if facts.devices and len(facts.devices) < ranks:
        facts.problems.append(f"torch sees {len(facts.devices)} GPUs for {ranks} ranks")
    given = int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    if given and not facts.devices:
        facts.problems.append(
            f"SLURM gave it {given} GPUs, torch {facts.versions['torch']} sees none; is it a build "
            "for CPUs, or the driver?"
        )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / probe).write_text(facts.host, encoding="utf-8")
        facts.free_gb = shutil.disk_usage(output_dir).free / 1e9
        if facts.free_gb < minimum_free_gb:
            facts.problems.append(
                f"{facts.free_gb:.1f} GB are free in {output_dir}, less than {minimum_free_gb:g}"
            )
    except OSError as error:
        facts.problems.append(f"cannot write to {output_dir}: {error.strerror}")
    shm = Path("/dev/shm")
    if ranks > 1 and shm.exists() and shutil.disk_usage(shm).total < _SMALL_SHM_MB * 1e6:
        facts.warnings.append(
            f"/dev/shm holds {shutil.disk_usage(shm).total / 1e6:.0f} MB; a container wants "
            "--ipc=host or --shm-size"
        )
    return facts


def unlike_most(nodes: Mapping[int, NodeFacts]) -> dict[int, list[str]]:
    """Return, by node, what it has and most others have not.

    Where there is no majority, what the first node has is right.
    """
    differences: dict[int, list[str]] = {index: [] for index in nodes}

    def compare(value: Callable[[NodeFacts], Any], words: Callable[[NodeFacts], str]) -> None:
        counts = Counter(repr(value(facts)) for facts in nodes.values())
        usual = counts.most_common(1)[0][0]  # the first seen among equals
        model = next(facts for facts in nodes.values() if repr(value(facts)) == usual)
        for index, facts in nodes.items():
            if repr(value(facts)) != usual:
                differences[index].append(f"{words(facts)}; {model.host} has {words(model)}")

    compare(lambda facts: (facts.commit, facts.sources), _program)
    for name in dict.fromkeys(name for facts in nodes.values() for name in facts.versions):
        compare(partial(_version, name), partial(_named_version, name))
    compare(lambda facts: facts.devices, lambda facts: summary(facts.devices))
    return differences


def _program(facts: NodeFacts) -> str:
    commit = facts.commit or "-"
    return f"commit {commit}, sources {facts.sources}"


def _version(package: str, facts: NodeFacts) -> str | None:
    return facts.versions.get(package)


def _named_version(package: str, facts: NodeFacts) -> str:
    return f"{package} {_version(package, facts)}"


def missing_files(seen: Mapping[int, set[int]]) -> dict[int, list[int]]:
    """Return, by node, whose files it misses.

    Where there is no majority, the first node is right.

    Args:
        seen: by node, whose files it sees.
    """
    counts = Counter(frozenset(files) for files in seen.values())
    usual = counts.most_common(1)[0][0] if counts else frozenset()
    return {index: sorted(usual - files) for index, files in seen.items() if usual - files}


def summary(devices: list[str]) -> str:
    """Count GPUs by name: `8 × NVIDIA H100`, or `no GPU`."""
    counts = sorted(Counter(devices).items())
    return " and ".join(f"{count} × {name}" for name, count in counts) or "no GPU"


def _devices() -> list[str]:
    import torch

    if not uses_cuda():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _cuda_versions() -> dict[str, str | None]:
    import torch

    driver = Path("/sys/module/nvidia/version")
    nccl = torch.cuda.nccl.version() if uses_cuda() else None
    return {
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, nccl)) if nccl else None,
        "driver": driver.read_text().strip() if driver.exists() else None,
    }

"""The cluster that the trials share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.box import Box
from tests.integration.conftest import finished, workplace  # noqa: F401


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A SLURM of two nodes; `make cluster` installs what it needs."""
    missing = [
        name
        for name in ("slurmctld", "slurmd", "munged", "ip", "nsenter")
        if shutil.which(name) is None
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: see tests/cluster/packages.txt, or make cluster")
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    box = Box(tmp_path_factory.mktemp("box"))
    try:
        box.up()
        yield box
    finally:
        box.down()

"""The cluster that the trials share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.box import Box, why_no_box
from tests.integration.conftest import finished, workplace  # noqa: F401


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A SLURM of two nodes; `make cluster` installs what it needs."""
    if reason := why_no_box():
        pytest.skip(reason)
    box = Box(tmp_path_factory.mktemp("box"))
    try:
        box.up()
        yield box
    finally:
        box.down()

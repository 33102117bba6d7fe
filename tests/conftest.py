"""What every test shares: a CPU accelerator, one thread, and where the shared inputs are."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


# Tests that start ranks take turns in one worker of pytest-xdist, so that no four ranks share two
# cores; those of whole runs by one process share what they have trained in the other.
_GROUPS = {
    "tests/distributed": "ranks",
    "tests/golden/test_old_checkpoints.py": "ranks",
    "tests/integration": "ranks",
    "tests/trials": "ranks",
    "tests/unit/bench": "ranks",
    "tests/integration/test_bad_input.py": "one process",
    "tests/integration/test_dashboards.py": "one process",
    "tests/integration/test_old_commands.py": "one process",
    "tests/integration/test_stopping.py": "one process",
    "tests/integration/test_sweep.py": "one process",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell pytest-xdist which tests share a worker: the longest of the paths above decides."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        groups = [place for place in _GROUPS if path.startswith(place)]
        if groups:
            item.add_marker(pytest.mark.xdist_group(_GROUPS[max(groups, key=len)]))


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture
def shared() -> Path:
    """Corpora, tokenizers and figures that the project does not ship."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which is not part of the project")
    return SHARED

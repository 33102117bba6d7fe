"""Which tests share a worker of pytest-xdist, so that no four ranks share two cores."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Tests that start ranks take turns in one worker. Whole runs by one process share what they have
# trained in the other, with everything else file by file.
GROUPS = {
    "tests/distributed/": "ranks",
    "tests/golden/test_old_checkpoints.py": "ranks",
    "tests/integration/": "ranks",
    "tests/trials/": "ranks",
    "tests/unit/bench/": "ranks",
    "tests/integration/test_bad_input.py": "one process",
    "tests/integration/test_dashboards.py": "one process",
    "tests/integration/test_old_commands.py": "one process",
    "tests/integration/test_stopping.py": "one process",
    "tests/integration/test_sweep.py": "one process",
}


def group_of(nodeid: str) -> str:
    """Return the group of a test: the longest of the paths above decides, else its file."""
    path = nodeid.partition("::")[0]
    places = [place for place in GROUPS if path.startswith(place)]
    return GROUPS[max(places, key=len)] if places else path


class Turns(LoadScopeScheduling):
    """Gives a worker a whole group at a time, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def make_scheduler(config: Any, log: Any) -> Turns:
    """Return the scheduler of a session."""
    return Turns(config, log)

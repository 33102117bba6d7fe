"""Which tests share a worker."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/distributed/test_zero3.py::test_x[2-ranks]", "ranks"),
        ("tests/integration/test_run.py::test_x", "ranks"),
        ("tests/integration/test_sweep.py::test_x[1]", "one process"),
        ("tests/unit/test_turns.py::test_x", "tests/unit/test_turns.py"),
    ],
)
def test_the_longest_path_decides(nodeid: str, group: str) -> None:
    pytest.importorskip("xdist")
    from tests.xdist_turns import group_of

    assert group_of(nodeid) == group

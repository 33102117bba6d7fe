"""What launchers set, or fail to set, is named before anything else is done."""

from __future__ import annotations

import socket

import pytest

from tests.forked import fork_program, wait_for_ranks
from tests.integration.program import PROGRAM, environment


def start(workplace, tmp_path, **variables):
    """Return the exit code and the output of one rank with these variables."""
    log = tmp_path / "log"
    log.touch()
    command = (PROGRAM, *workplace.arguments(str(tmp_path / "run")))
    rank = fork_program(command, tmp_path, environment(**variables), log)
    return wait_for_ranks([rank]), log.read_text()


def test_a_taken_port_is_named(workplace, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        code, output = start(workplace, tmp_path, **place, **rank)
    assert code == 2 and "Traceback" not in output, output
    assert f"error: MASTER_PORT is {port}, and another program listens there" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "0"}, "RANK is 0 and WORLD_SIZE is not set"),
        (
            {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": ""},
            "MASTER_ADDR is ''",
        ),
    ],
)
def test_a_missing_variable_is_named(workplace, tmp_path, variables, said):
    code, output = start(workplace, tmp_path, **variables)
    assert code == 2 and "Traceback" not in output, output
    assert f"error: {said}" in output

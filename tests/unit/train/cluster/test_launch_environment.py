"""The variables of a launcher: read, or refused where no launcher would set them so."""

from __future__ import annotations

import json

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from train.cluster.launch_environment import alone, environment, meeting_place, tell_launcher
from train.errors import UserError

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sets what it needs."""
    for name in (*NAMES, "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_one_process():
    assert environment() == (0, 0, 1)


def test_a_launchers_variables(monkeypatch):
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    assert environment() == (5, 1, 8)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 and RANK is not set, so 1 other ranks"),
        ({"RANK": "x"}, "the environment variable RANK is 'x'"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "the environment variable WORLD_SIZE is ''"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "0"}, "RANK is 0 and WORLD_SIZE is not set"),
        ({"RANK": "1", "LOCAL_RANK": "1"}, "RANK is 1 and WORLD_SIZE is not set"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "the environment variable RANK is ''"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "variable LOCAL_RANK is ''"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "WORLD_SIZE is 2 and LOCAL_RANK is not set"),
    ],
)
def test_a_world_that_cannot_be(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        environment()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"WORLD_SIZE": "1"}, True),
        ({"RANK": "0", "WORLD_SIZE": "1"}, True),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "1"}, False),
        ({"RANK": "0", "WORLD_SIZE": "2"}, False),
    ],
)
def test_one_process_that_is_told_of_no_meeting_is_alone(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert alone() is expected


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        (None, "29500", "MASTER_ADDR is not set"),
        (" ", "29500", "MASTER_ADDR is ' '"),
        ("n1", None, "MASTER_PORT is not set"),
        ("n1", "", "MASTER_PORT is ''"),
        ("n1", "0", "MASTER_PORT is '0'; it must be a port, from 1 to 65535"),
        ("n1", "65536", "MASTER_PORT is '65536'"),
    ],
)
def test_a_meeting_place_that_cannot_be(monkeypatch, host, port, said):
    for name, value in (("MASTER_ADDR", host), ("MASTER_PORT", port)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        meeting_place()


def test_a_meeting_place(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "n1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert meeting_place() == ("n1", 29500)


def test_torchruns_report_ends_with_the_message(tmp_path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    tell_launcher("error: run.global_batch is 5")
    assert json.loads(path.read_text())["message"]["message"] == "error: run.global_batch is 5"
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(path))
    report = str(ChildFailedError("train/pretrain.py", {0: failure})).splitlines()
    assert report[-2].strip() == "traceback : error: run.global_batch is 5"


def test_other_launchers_are_told_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tell_launcher("error: x")
    assert list(tmp_path.iterdir()) == []

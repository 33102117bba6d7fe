"""The variables of a launcher: read, or refused where no launcher would set them so."""

from __future__ import annotations

import json

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from train.cluster.launch_environment import environment, tell_launcher
from train.errors import UserError


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sets what it needs."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_ERROR_FILE"):
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
    ],
)
def test_a_world_that_cannot_be(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        environment()


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

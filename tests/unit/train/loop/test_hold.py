"""What may stop a job that waits for the output folder, and what fails the taking of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train.cluster.distributed import World
from train.errors import Stopped, UserError
from train.loop.hold import output_dir_held
from train.loop.stopping.signals import OWN_STOP_FILE, StopRequests
from train.system import patience
from train.system.lease import Lease
from train.system.lease_files import is_held

ALONE = World(0, 0, 1, torch.device("cpu"))


def test_the_folders_stop_file_is_for_the_job_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    with output_dir_held(tmp_path, ALONE, StopRequests()):
        assert is_held(tmp_path)
    assert (tmp_path / "stop").exists() and not is_held(tmp_path)


def test_its_own_stop_file_stops_a_job_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OWN_STOP_FILE, str(tmp_path / "own"))
    (tmp_path / "own").touch()
    with (
        pytest.raises(Stopped, match="stop file"),
        output_dir_held(tmp_path, ALONE, StopRequests()),
    ):
        pytest.fail("it has begun")
    assert not is_held(tmp_path)


@pytest.mark.parametrize(("number", "held"), [(116, True), (28, False)])
def test_a_disk_that_fails_for_a_moment_refuses_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, held: bool
) -> None:
    failures = [OSError(number, "no luck")]
    real = Lease.take

    def take(lease: Lease) -> bool:
        if failures:
            raise failures.pop()
        return real(lease)

    monkeypatch.setattr(Lease, "take", take)
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)
    if held:
        with output_dir_held(tmp_path, ALONE, StopRequests()):
            assert is_held(tmp_path)
        return
    with (
        pytest.raises(UserError, match=r"cannot write to .*: no luck"),
        output_dir_held(tmp_path, ALONE, StopRequests()),
    ):
        pytest.fail("it has begun")

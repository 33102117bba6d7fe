"""A folder that only rank 0 sees is named, with the hosts that do not see it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from train.cluster.distributed import World
from train.cluster.shared_folder import check_seen, check_shared
from train.errors import UserError
from train.system import patience

ALONE = World(0, 0, 1, torch.device("cpu"))


def ranks(*others):
    """Rank 0 of a world whose other ranks answer so."""
    return SimpleNamespace(
        is_main=True, run_on_main=lambda action: action(), gather=lambda value: [value, *others]
    )


def test_a_shared_folder_passes_and_nothing_is_left(tmp_path):
    check_shared("output_dir", tmp_path, ALONE)
    check_shared("output_dir", tmp_path, ranks(("n2", True), ("n2", True)))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_for_a_moment_refuses_nothing(tmp_path, monkeypatch):
    failures = [OSError(116, "Stale file handle")] * 2
    real = Path.touch

    def touch(path):
        if failures:
            raise failures.pop()
        real(path)

    def unlink(path, **more):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "touch", touch)
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)
    check_shared("output_dir", tmp_path, ALONE)
    assert failures == [] and len(list(tmp_path.iterdir())) == 1


def test_hosts_that_see_nothing_are_named(tmp_path):
    world = ranks(("n1", True), ("n2", False), ("n3", False))
    said = r"output_dir: .* is not the same folder everywhere: .* not there on n2 \(rank 2\), n3 \("
    with pytest.raises(UserError, match=said):
        check_shared("output_dir", tmp_path, world)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_waits_for_a_file_and_then_gives_up(tmp_path):
    with pytest.raises(UserError, match=r"data.directory: .*not the same folder"):
        check_seen("data.directory", tmp_path / "meta.json", ALONE, patience=0.0)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output_dir: cannot write to .*: Not a directory"):
        check_shared("output_dir", tmp_path / "file", ALONE)

"""A file is replaced whole or not at all."""

import os
import stat

import pytest

from train.system import files


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "latest"
    for text in ("one\n", "two: ä\n"):
        files.write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["latest"]


def test_a_failure_before_the_move_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "latest"
    files.write_atomically(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"


def test_files_and_folders_are_synced_by_what_they_are(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    files.sync(tmp_path / "file")
    files.sync(tmp_path)
    assert synced == [str(tmp_path / "file"), str(tmp_path)]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_files_follow_the_umask(tmp_path, mask, mode):
    inner = tmp_path / "inner"
    inner.mkdir()
    for path in (tmp_path / "closed", inner / "open"):
        path.touch()
    (tmp_path / "closed").chmod(0o600)
    (inner / "open").chmod(0o666)
    before = os.umask(mask)
    try:
        files.follow_umask(tmp_path)
        files.write_atomically(tmp_path / "written", "text")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    for path in (tmp_path / "closed", inner / "open", tmp_path / "written"):
        assert stat.S_IMODE(path.stat().st_mode) == mode

"""Pruning takes what this run no longer needs, and nothing else."""

import json
from pathlib import Path

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, identity, steps
from train import checkpoint
from train.checkpoint.beginning import Beginning
from train.config import CheckpointConfig


def make(folder, name, commit, **more):
    """A folder with a manifest, as a checkpoint has one."""
    (folder / name).mkdir(parents=True)
    (folder / name / checkpoint.MANIFEST).write_text(json.dumps({"commit": commit} | more))
    return folder / name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    for commit, step in enumerate((1000, 2000, 3000), 1):
        make(tmp_path, f"step-{step:08d}", commit)
    return tmp_path


def test_a_conversion_beside_a_run_is_left_alone(folder):
    (folder / ".tmp-universal-00001000" / "state").mkdir(parents=True)
    (folder / "universal-00000500").mkdir()
    checkpoint.prune(folder, 3)
    assert names(folder)[0] == ".tmp-universal-00001000" and "universal-00000500" in names(folder)


def test_the_universal_one_that_a_run_went_on_from_has_served(folder, tmp_path_factory):
    (folder / "universal-00000500").mkdir()
    elsewhere = make(tmp_path_factory.mktemp("other"), "universal-00000500", 1)
    checkpoint.prune(folder, 3, consumed=elsewhere)
    assert elsewhere.is_dir() and (folder / "universal-00000500").is_dir()
    checkpoint.prune(folder, 3, consumed=folder / "universal-00000500")
    assert steps(folder) == [1000, 2000, 3000] and not (folder / "universal-00000500").exists()


@pytest.mark.parametrize("keep_every", [0, 1000])
def test_copies_by_hand_are_no_checkpoints(folder, tmp_path_factory, keep_every):
    """A copy, an archive, a link to another disk, a name of fewer digits."""
    make(folder, "step-00001000.keep", 1)
    make(folder, "step-5", 1)
    (folder / "step-00001000.tar").write_bytes(b"")
    target = make(tmp_path_factory.mktemp("disk"), "step-00000007", 1)
    (folder / "step-00000007").symlink_to(target)
    checkpoint.prune(folder, 1, keep_every)
    own = {"step-00000007", "step-00001000.keep", "step-00001000.tar", "step-5"}
    kept = {"step-00001000", "step-00002000"} if keep_every else set()
    assert set(names(folder)) == own | kept | {"step-00003000"}
    assert (target / checkpoint.MANIFEST).is_file()


def test_what_cannot_be_removed_is_told_and_the_save_stands(tmp_path, monkeypatch, capsys):
    saver = checkpoint.Saver(
        CheckpointConfig(asynchronous=False, keep=1), tmp_path / "c", engine(), identity(), WORLD
    )
    saver.save(1, {})

    def stale(path, missing_ok=False):
        raise OSError(116, "Stale file handle", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stale)
        assert saver.save(2, {}) == tmp_path / "c/step-00000002"
    assert "warning: old checkpoints could not be removed" in capsys.readouterr().err
    saver.save(3, {})
    assert steps(tmp_path / "c") == [3]


def test_what_the_run_was_begun_from_goes_before_what_it_left(tmp_path):
    """Gone back from 300 to 100: 300 is given up first, 100 once there are enough since."""
    origin = make(tmp_path, "step-00000100", 1)
    make(tmp_path, "step-00000200", 2)
    make(tmp_path, "step-00000300", 3)
    beginning = Beginning(str(origin.resolve()), "b", {})
    make(tmp_path, "step-00000150", 4, begun="b")
    checkpoint.prune(tmp_path, 2, beginning=beginning)
    assert steps(tmp_path) == [100, 150]
    make(tmp_path, "step-00000190", 5, begun="b")
    checkpoint.prune(tmp_path, 2, beginning=beginning)
    assert steps(tmp_path) == [150, 190]


def test_what_cannot_be_read_at_the_moment_may_be_the_best_there_is(folder, monkeypatch):
    ailing = folder / "step-00003000" / checkpoint.MANIFEST
    read_bytes, read_text = Path.read_bytes, Path.read_text

    def fails_for_one(read):
        def reading(path, *arguments, **options):
            if path == ailing:
                raise OSError(5, "Input/output error")
            return read(path, *arguments, **options)

        return reading

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fails_for_one(read_bytes))
        patched.setattr(Path, "read_text", fails_for_one(read_text))
        checkpoint.prune(folder, 1)
    assert steps(folder) == [2000, 3000]
    checkpoint.prune(folder, 1)
    assert steps(folder) == [3000]

"""Which folder is a checkpoint, which is taken, which is removed."""

import hashlib
import json
import shutil

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, flip, found, identity, steps
from train import checkpoint
from train.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Complete checkpoints of the steps 1, 2 and 10, made once: every one of them waits for the
    disk.
    """
    folder = tmp_path_factory.mktemp("made") / "checkpoints"
    for step in (1, 2, 10):
        checkpoint.save(engine(), folder, step, {}, identity(), WORLD)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to harm."""
    return shutil.copytree(made, tmp_path / "checkpoints")


def test_save_leaves_a_manifest_of_every_file_and_nothing_temporary(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "latest",
        "step-00000001",
        "step-00000002",
        "step-00000010",
    ]
    assert (folder / "latest").read_text() == "step-00000010\n"
    manifest = json.loads((folder / "step-00000010" / checkpoint.MANIFEST).read_text())
    assert (
        manifest["step"] == 10
        and manifest["world_size"] == 2
        and manifest["model"]["hidden_size"] == 512
    )
    assert manifest["files"] == {
        f"state/rank_{rank}.pt": {
            "bytes": 8,
            "sha256": hashlib.sha256(b"weights" + bytes([rank])).hexdigest(),
        }
        for rank in range(2)
    }


def test_the_newest_is_found(folder):
    newest, said = found(folder)
    assert (newest.step, newest.path, said) == (10, folder / "step-00000010", [])


def test_never_and_no_folder_find_nothing(folder, tmp_path):
    assert found(folder, "never") == (None, [])
    assert found(tmp_path / "nowhere") == (None, [])


def shorten(path):
    file = path / "state/rank_1.pt"
    file.write_bytes(file.read_bytes()[:-1])


def edit_manifest(**values):
    def edit(path):
        file = path / checkpoint.MANIFEST
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return edit


DAMAGES = {
    "truncated": (shorten, "rank_1.pt has 7 bytes, the manifest says 8"),
    "flipped": (flip, "rank_0.pt is not what was written"),
    "emptied": (
        lambda path: (path / "state/rank_0.pt").write_bytes(b""),
        "rank_0.pt has 0 bytes, the manifest says 8",
    ),
    "file missing": (lambda path: (path / "state/rank_0.pt").unlink(), "rank_0.pt is missing"),
    "no manifest": (lambda path: (path / checkpoint.MANIFEST).unlink(), "manifest.json is missing"),
    "half a manifest": (
        lambda path: (path / checkpoint.MANIFEST).write_text('{"format": 1, "fi'),
        "unreadable",
    ),
    "an empty manifest": (lambda path: (path / checkpoint.MANIFEST).write_text(""), "unreadable"),
    "an empty folder": (
        lambda path: (shutil.rmtree(path), path.mkdir()),
        "manifest.json is missing",
    ),
    "no files": (edit_manifest(files={}), "names no files"),
    "a file more": (
        lambda path: (path / "state/rank_2.pt").write_bytes(b"hello"),
        "rank_2.pt is not in the manifest",
    ),
    "a list": (lambda path: (path / checkpoint.MANIFEST).write_text("[]"), "unreadable"),
    "no step": (edit_manifest(step=None), "unreadable"),
    "no sizes": (edit_manifest(files={"state/rank_0.pt": {}}), "unreadable"),
    "a later format": (edit_manifest(format=99), "format 99"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_with_its_reason(folder, damage):
    harm, reason = DAMAGES[damage]
    harm(folder / "step-00000010")
    older, said = found(folder)
    assert older.step == 2
    assert len(said) == 1 and "step-00000010" in said[0] and reason in said[0]
    with pytest.raises(UserError, match="no complete checkpoint") as caught:
        found(folder, str(folder / "step-00000010"))
    assert reason in str(caught.value)


def test_what_a_killed_save_leaves_is_no_checkpoint(folder):
    shutil.copytree(folder / "step-00000010", folder / ".tmp-step-00000011")
    newest, said = found(folder)
    assert (newest.step, said) == (10, [])


def test_an_explicit_path_is_taken_even_if_older(folder):
    assert found(folder, str(folder / "step-00000001"))[0].step == 1


def test_none_complete_is_refused_rather_than_started_again(folder):
    for path in folder.glob("step-*"):
        shorten(path)
    said = []
    with pytest.raises(UserError, match="none is complete"):
        checkpoint.find("auto", folder, said.append)
    assert len(said) == 3


def test_a_save_of_a_step_that_exists_takes_its_place(folder):
    flip(folder / "step-00000010")
    checkpoint.save(engine(b"other"), folder, 10, {}, identity(), WORLD)
    assert (folder / "step-00000010/state/rank_0.pt").read_bytes() == b"other\0"
    assert found(folder)[0].step == 10


@pytest.mark.parametrize(
    ("keep", "keep_every", "left"),
    [
        (1, 0, [10]),
        (2, 0, [2, 10]),
        (5, 0, [1, 2, 10]),
        (0, 0, [1, 2, 10]),
        (1, 2, [2, 10]),
        (1, 1, [1, 2, 10]),
        (1, 5, [10]),
    ],
)
def test_prune_keeps_as_many_as_asked(folder, keep, keep_every, left):
    for name in (".tmp-step-00000011", ".old-step-00000002"):
        (folder / name).mkdir()
    checkpoint.prune(folder, keep, keep_every)
    assert steps(folder) == left
    assert {path.name for path in folder.iterdir()} == {
        "latest",
        *(f"step-{step:08d}" for step in left),
    }


def test_a_damaged_one_is_not_kept_for_good(folder):
    (folder / "step-00000002" / checkpoint.MANIFEST).unlink()
    checkpoint.prune(folder, 1, 2)
    assert steps(folder) == [10]


def test_the_newest_is_the_one_written_last_not_the_one_of_the_highest_step(folder):
    """Gone back to step 2 by its path, and on to 3: the 10 of the line that was left is not taken
    up again.
    """
    checkpoint.save(engine(), folder, 3, {}, identity(), WORLD)
    assert found(folder)[0].step == 3
    assert (folder / "latest").read_text() == "step-00000003\n"


def test_a_pointer_to_nothing_is_reported_and_passed_over(folder):
    shutil.rmtree(folder / "step-00000010")
    newest, said = found(folder)
    assert newest.step == 2
    assert said == [
        f"passing over {folder / 'latest'}: it names 'step-00000010', which is not there"
    ]
    (folder / "latest").write_text("")
    assert "it names 'nothing'" in found(folder)[1][0]
    (folder / "latest").unlink()
    assert found(folder)[1] == []


def test_a_pointer_left_behind_does_not_hold_the_run_back(folder):
    """Killed after the rename, before the pointer."""
    (folder / "latest").write_text("step-00000002\n")
    newest, said = found(folder)
    assert (newest.step, said) == (10, [])


def test_prune_never_removes_what_was_just_written_for_a_later_one(folder):
    """Going on from step 2 because 10 is damaged: 10 must not push 3 out, nor the one before."""
    (folder / "step-00000010" / checkpoint.MANIFEST).unlink()
    checkpoint.save(engine(), folder, 3, {}, identity(), WORLD)
    checkpoint.prune(folder, 2)
    assert steps(folder) == [2, 3]
    flip(folder / "step-00000003")
    checkpoint.save(engine(), folder, 1, {}, identity(), WORLD)
    checkpoint.prune(folder, 1)
    assert steps(folder) == [1]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(UserError, match="cannot write checkpoints"):
        checkpoint.save(engine(), tmp_path / "checkpoints", 1, {}, identity(), WORLD)

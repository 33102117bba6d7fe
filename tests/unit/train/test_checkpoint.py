"""Which folder is a checkpoint, which is taken, which is removed, and whose it is."""

import hashlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from train import checkpoint
from train.cli import load_config
from train.errors import UserError

WORLD = SimpleNamespace(size=2, is_main=True, once=lambda action: action(), barrier=lambda: None)


class Engine:
    """Writes what DeepSpeed would: a file per rank, and one below a folder."""

    def __init__(self, content=b"weights"):
        self.content = content

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        state = os.path.join(folder, tag)
        os.makedirs(state)
        for rank in range(2):
            with open(os.path.join(state, f"rank_{rank}.pt"), "wb") as file:
                file.write(self.content + bytes([rank]))


def identity(*arguments, data="abc"):
    return checkpoint.identity(load_config(arguments), WORLD, 3, data)


@pytest.fixture
def folder(tmp_path):
    """Complete checkpoints of the steps 1, 2 and 10."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2, 10):
        checkpoint.save(Engine(), folder, step, {}, identity(), WORLD)
    return folder


def steps(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def found(folder, resume="auto"):
    said = []
    return checkpoint.find(resume, folder, said.append), said


def test_save_leaves_a_manifest_of_every_file_and_nothing_temporary(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002", "step-00000010"]
    manifest = json.loads((folder / "step-00000010" / checkpoint.MANIFEST).read_text())
    assert manifest["step"] == 10 and manifest["world_size"] == 2 and manifest["model"]["hidden_size"] == 512
    assert manifest["files"] == {
        f"state/rank_{rank}.pt": {"bytes": 8, "sha256": hashlib.sha256(b"weights" + bytes([rank])).hexdigest()} for rank in range(2)
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


def flip(path):
    file = path / "state/rank_0.pt"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


def edit_manifest(**values):
    def edit(path):
        file = path / checkpoint.MANIFEST
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return edit


DAMAGES = {
    "truncated": (shorten, "rank_1.pt has 7 bytes, the manifest says 8"),
    "flipped": (flip, "rank_0.pt is not what was written"),
    "file missing": (lambda path: (path / "state/rank_0.pt").unlink(), "rank_0.pt is missing"),
    "no manifest": (lambda path: (path / checkpoint.MANIFEST).unlink(), "manifest.json is missing"),
    "half a manifest": (lambda path: (path / checkpoint.MANIFEST).write_text('{"format": 1, "fi'), "unreadable"),
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
    for path in folder.iterdir():
        shorten(path)
    said = []
    with pytest.raises(UserError, match="none is complete"):
        checkpoint.find("auto", folder, said.append)
    assert len(said) == 3


def test_a_save_of_a_step_that_exists_takes_its_place(folder):
    flip(folder / "step-00000010")
    checkpoint.save(Engine(b"other"), folder, 10, {}, identity(), WORLD)
    assert (folder / "step-00000010/state/rank_0.pt").read_bytes() == b"other\0"
    assert found(folder)[0].step == 10


@pytest.mark.parametrize(("keep", "left"), [(1, [10]), (2, [2, 10]), (5, [1, 2, 10]), (0, [1, 2, 10])])
def test_prune_keeps_as_many_as_asked(folder, keep, left):
    (folder / ".tmp-step-00000011").mkdir()
    checkpoint.prune(folder, keep)
    assert steps(folder) == left
    assert not list(folder.glob(".tmp-*"))


def test_prune_never_removes_what_was_just_written_for_a_later_one(folder):
    """Going on from step 2 because 10 is damaged: 10 must not push 3 out, nor the one before."""
    (folder / "step-00000010" / checkpoint.MANIFEST).unlink()
    checkpoint.save(Engine(), folder, 3, {}, identity(), WORLD)
    checkpoint.prune(folder, 2)
    assert steps(folder) == [2, 3]
    flip(folder / "step-00000003")
    checkpoint.save(Engine(), folder, 1, {}, identity(), WORLD)
    checkpoint.prune(folder, 1)
    assert steps(folder) == [1]


@pytest.mark.parametrize(
    ("arguments", "data", "said"),
    [
        (["--model.hidden_size", "1024"], "abc", "model.hidden_size was 512, is 1024"),
        (["--data.sequence_length", "128"], "abc", "sequence_length was 256, is 128"),
        (["--optim.name", "adam"], "abc", "optimizer was adamw, is adam"),
        ([], "xyz", "data was abc, is xyz"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(folder, arguments, data, said):
    with pytest.raises(UserError) as caught:
        checkpoint.check_identity(found(folder)[0], identity(*arguments, data=data))
    assert f"step-00000010 was written by another run: {said}. " in str(caught.value)


def test_every_difference_is_named(folder):
    who = identity("--model.num_layers", "2", "--model.vocab_size", "100") | {"world_size": 4, "zero_stage": 1}
    with pytest.raises(UserError) as caught:
        checkpoint.check_identity(found(folder)[0], who)
    for said in ("model.num_layers was 8, is 2", "model.vocab_size was 32000, is 100", "world_size was 2, is 4", "zero_stage was 3, is 1"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--model.activation_checkpointing", "true"], ["--model.attention", "eager"], ["--optim.lr", "0.1"], ["--run.seed", "7"]],
)
def test_what_does_not_change_the_state_may_change(folder, arguments):
    checkpoint.check_identity(found(folder)[0], identity(*arguments))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(UserError, match="cannot write checkpoints"):
        checkpoint.save(Engine(), tmp_path / "checkpoints", 1, {}, identity(), WORLD)

"""What the file system does not give is passed over with its reason, like anything incomplete."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, found, identity
from train import checkpoint
from train.errors import UserError

ERRORS = (errno.EIO, errno.ESTALE, errno.EACCES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "checkpoints"
    for step in (1, 2):
        checkpoint.save(engine(), folder, step, {}, identity(), WORLD)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "checkpoints")


def fail(monkeypatch, place, number, *calls):
    """Have the calls of Path fail for what has all of these folders and files in its path."""
    for call in calls:
        real = getattr(Path, call)

        def failing(self, *args, real=real, **more):
            if {*place} <= {*self.parts}:
                raise OSError(number, os.strerror(number), str(self))
            return real(self, *args, **more)

        monkeypatch.setattr(Path, call, failing)


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(
    ("place", "calls"),
    [
        (("rank_0.pt",), ("open",)),  # the bytes
        (("rank_0.pt",), ("stat",)),
        (("manifest.json",), ("open", "read_text")),
        ((), ("stat",)),
    ],
)
def test_one_that_cannot_be_read_is_passed_over(folder, monkeypatch, number, place, calls):
    fail(monkeypatch, ("step-00000002", *place), number, *calls)
    newest, said = found(folder)
    assert newest is not None and newest.step == 1
    file = folder.joinpath("step-00000002", *place).name
    assert said[-1].startswith(f"passing over {folder / 'step-00000002'}: ")
    assert said[-1].endswith(f"{file} cannot be read: {os.strerror(number)}")


@pytest.mark.parametrize("number", ERRORS)
def test_a_pointer_that_cannot_be_read_holds_nothing_back(folder, monkeypatch, number):
    fail(monkeypatch, ("latest",), number, "stat", "open", "read_text")
    newest, said = found(folder)
    assert newest is not None and newest.step == 2
    assert os.strerror(number) in said[0]


@pytest.mark.parametrize("number", ERRORS)
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(folder, monkeypatch, number):
    def scandir(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"cannot read {folder}: {os.strerror(number)}"):
        checkpoint.find("auto", folder, print)

"""What the file system does not give is passed over with its reason, like anything incomplete."""

import errno
import os
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, identity
from tests.unit.train.checkpoint.saving import found as newest
from train import checkpoint
from train.checkpoint import manifest, together
from train.checkpoint.universal import ALONE
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
    found, said = newest(folder)
    assert found is not None and found.step == 1
    file = folder.joinpath("step-00000002", *place).name
    assert said[-1].startswith(f"passing over {folder / 'step-00000002'}: ")
    assert said[-1].endswith(f"{file} cannot be read: {os.strerror(number)}")


def test_a_manifest_that_fails_at_the_second_look_is_passed_over(folder, monkeypatch):
    newer = folder / "step-00000002"

    def read(path, real=manifest.read):
        if path == newer:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(import_module("train.checkpoint.find"), "read", read)
    found, said = newest(folder)
    assert found is not None and found.step == 1 and "Stale file handle" in said[-1]


@pytest.mark.parametrize("number", ERRORS)
def test_where_none_can_be_read_it_looks_again_and_then_gives_up(folder, monkeypatch, number):
    said, pauses = [], []

    def sleep(seconds, mends=False):
        pauses.append(seconds)
        if mends:
            monkeypatch.undo()

    def look(after):
        pauses.clear()
        fail(monkeypatch, ("manifest.json",), number, "open", "read_text")
        monkeypatch.setattr(
            together.time, "sleep", lambda seconds: sleep(seconds, len(pauses) + 1 == after)
        )
        return checkpoint.find_together("auto", folder, ALONE, said.append)

    found = look(after=2)
    assert found is not None and found.step == 2 and pauses == list(together.PAUSES[:2])
    assert said[-1].endswith("can be read now; looking again in 10 s")
    with pytest.raises(UserError, match="none is complete; where the file system fails"):
        look(after=0)
    assert pauses == list(together.PAUSES)


@pytest.mark.parametrize("number", ERRORS)
def test_a_pointer_that_cannot_be_read_holds_nothing_back(folder, monkeypatch, number):
    fail(monkeypatch, ("latest",), number, "stat", "open", "read_text")
    found, said = newest(folder)
    assert found is not None and found.step == 2
    assert os.strerror(number) in said[0]


@pytest.mark.parametrize("number", ERRORS)
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(folder, monkeypatch, number):
    def scandir(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"cannot read {folder}: {os.strerror(number)}"):
        checkpoint.find("auto", folder, print)

"""`--resume never` and `--resume PATH` begin a run once; the same command then goes on."""

import errno
from pathlib import Path

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, identity, steps
from train import checkpoint
from train.config import CheckpointConfig
from train.config.command_line import load_config
from train.errors import UserError
from train.system import patience


class Run:
    """Starts of a run, as the program makes them; each saves one more step."""

    def __init__(self, folder):
        self.folder = folder
        self.said = []

    def start(self, resume, *arguments, save=True):
        """Return the step that a start goes on from; None where it begins."""
        config = load_config(
            ["--output_dir", str(self.folder), "--resume", str(resume), *arguments]
        )
        checkpoints = self.folder / "checkpoints"
        how = checkpoint.how_to_resume(config, self.said.append)
        found = checkpoint.find(how, checkpoints, self.said.append)
        checkpoint.write_beginning(self.folder, how.beginning)
        saver = checkpoint.Saver(
            CheckpointConfig(asynchronous=False, keep=2),
            checkpoints,
            engine(),
            identity(),
            WORLD,
            beginning=how.beginning,
        )
        step = found.step if found else 0
        if save:
            saver.save(step + 10, {})
        return found.step if found else None


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run")


def test_never_begins_once(run):
    assert run.start("never") is None
    assert run.start("never") == 10
    assert run.start("never") == 20
    assert any("was begun with --resume never and goes on" in line for line in run.said)


class Unreadable:
    """Has a file's text fail so many times, as a stale handle does."""

    def __init__(self, monkeypatch, name, failures):
        self.failures = failures
        real = Path.read_text

        def read_text(path, **more):
            if path.name == name and self.failures:
                self.failures -= 1
                raise OSError(errno.ESTALE, "Stale file handle", str(path))
            return real(path, **more)

        monkeypatch.setattr(Path, "read_text", read_text)
        monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("name", ["begun.json", "manifest.json"])
def test_what_cannot_be_read_for_a_moment_is_no_reason_to_begin_again(run, monkeypatch, name):
    run.start("never")
    run.start("never")
    flaky = Unreadable(monkeypatch, name, failures=1)
    assert run.start("never") in (10, 20) and flaky.failures == 0
    assert run.start("never") == 30 or name == "manifest.json"


@pytest.mark.parametrize(
    ("name", "said"),
    [("begun.json", "begun.json: Stale file handle; start again later"), ("manifest.json", "none")],
)
def test_what_cannot_be_read_at_all_refuses_the_start(run, monkeypatch, name, said):
    run.start("never")
    Unreadable(monkeypatch, name, failures=1000)
    with pytest.raises(UserError, match=said):
        run.start("never")
    assert steps(run.folder / "checkpoints") == [10]


def test_killed_before_its_first_save_it_begins_again_and_not_from_the_run_before(run):
    assert run.start("auto") is None
    assert run.start("never", save=False) is None
    assert run.start("never", save=False) is None
    assert run.start("never") is None
    assert run.start("never") == 10


def test_a_path_is_begun_from_once_and_may_be_pruned_then(run):
    for _ in range(3):
        run.start("auto")
    path = run.folder / "checkpoints/step-00000020"
    assert run.start(path) == 20  # writes 30 again
    assert run.start(path) == 30
    assert run.start(path) == 40
    assert not path.exists() and steps(run.folder / "checkpoints") == [40, 50]
    assert run.start(path) == 50


def test_auto_goes_on_from_the_newest_and_so_does_the_command_that_began(run):
    run.start("never")
    assert run.start("auto") == 10
    assert run.start("never") == 20


def test_other_settings_begin_again_and_what_only_bounds_the_run_does_not(run):
    run.start("never")
    assert run.start("never", "--run.max_hours", "3") == 10
    assert run.start("never", "--optim.lr", "0.5") is None
    assert "optim.lr was 0.001, is 0.5" in run.said[-1] and "--resume auto" in run.said[-1]


def test_another_path_begins_anew(run):
    for _ in range(2):
        run.start("auto")
    first, second = (run.folder / f"checkpoints/step-000000{step}" for step in (10, 20))
    assert run.start(first, save=False) == 10
    assert run.start(second) == 20
    assert run.start(second) == 30

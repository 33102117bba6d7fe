"""`--resume never` and `--resume PATH` begin a run once; the same command then goes on."""

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, identity, steps
from train import checkpoint
from train.config import CheckpointConfig
from train.config.command_line import load_config


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

"""A disk that is full: said before anything is written, borne for a while, and never the older
checkpoints' loss.
"""

from types import SimpleNamespace

import pytest

from tests.unit.train.checkpoint.saving import WORLD, Writer, engine, found, identity, steps
from train import checkpoint
from train.checkpoint import space
from train.config import CheckpointConfig
from train.errors import UserError


class Full(Writer):
    """Fails at the second file, as torch does on a full disk, while `full`."""

    full = True

    def save(self, state_dict, path):
        if self.full and path.endswith("rank_1.pt"):
            with open(path, "wb") as file:
                file.write(state_dict[:3])
            raise RuntimeError(
                "[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 22\nmore"
            )
        super().save(state_dict, path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoint.save(engine(), folder, 1, {}, identity(), WORLD)
    return folder


def saver(folder, writer=None, **settings):
    return checkpoint.Saver(
        CheckpointConfig(asynchronous=False, **settings),
        folder,
        engine(writer=writer),
        identity(),
        WORLD,
    )


def free(monkeypatch, count):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=count))


def test_a_failure_in_the_middle_leaves_nothing_of_itself_and_the_older_ones(folder):
    with pytest.raises(
        checkpoint.NotSaved, match=r"rank 0: \[enforce fail.*unexpected pos 128 vs 22 \(.* free in "
    ):
        checkpoint.save(engine(writer=Full()), folder, 2, {}, identity(), WORLD)
    assert sorted(path.name for path in folder.iterdir()) == ["latest", "step-00000001"]
    assert found(folder)[0].step == 1


def test_deepspeed_gets_its_writer_back_after_a_failure(folder):
    writer = Full()
    full = engine(writer=writer)
    with pytest.raises(checkpoint.NotSaved):
        checkpoint.save(full, folder, 2, {}, identity(), WORLD)
    assert full.handle.checkpoint_engine is writer
    assert "_copy_recovery_script" not in vars(full.handle)


def test_the_run_goes_on_after_a_failure_and_says_so(folder, capsys):
    writer = Full()
    run = saver(folder, writer)
    assert run.save(2, {}) is None and run.save(3, {}) is None
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "step 3 was NOT saved" in warnings[1] and "2 in a row, 2 in all" in warnings[1]
    writer.full = False
    assert run.save(4, {}) == folder / "step-00000004"
    writer.full = True
    assert run.save(5, {}) is None  # the row was broken
    assert "1 in a row, 3 in all" in capsys.readouterr().err
    assert steps(folder) == [1, 4]


def test_as_many_in_a_row_as_are_borne_and_no_more(folder):
    run = saver(folder, Full(), max_failures=3)
    assert run.save(2, {}) is None and run.save(3, {}) is None
    with pytest.raises(
        UserError, match=r"step 4 was NOT saved.*3 in a row.*goes on from the newest in"
    ):
        run.save(4, {})
    assert steps(folder) == [1]


def test_the_last_save_must_not_fail(folder):
    with pytest.raises(UserError, match=r"step 9 was NOT saved.*the run's last"):
        saver(folder, Full()).save(9, {}, last=True)


def test_the_last_save_is_tried_again_where_the_disk_failed_for_a_moment(folder, capsys):
    class Stale(Writer):
        failures = 2

        def save(self, state_dict, path):
            if self.failures:
                self.failures -= 1
                raise OSError(116, "Stale file handle")
            super().save(state_dict, path)

    run = saver(folder, Stale())
    assert run.save(9, {}, last=True) == folder / "step-00000009"
    assert capsys.readouterr().err.count("tried again: rank 0: Stale file handle") == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "latest",
        "step-00000001",
        "step-00000009",
    ]


def test_a_disk_that_tells_no_room_stops_no_run(folder, monkeypatch, capsys):
    """What fails a write, a stale handle, often fails the look at the room as well."""

    class Stale(Writer):
        def save(self, state_dict, path):
            monkeypatch.setattr(space.shutil, "disk_usage", stale)
            stale()

    def stale(*_):
        raise OSError(116, "Stale file handle")

    assert saver(folder, Stale()).save(2, {}) is None
    assert "step 2 was NOT saved: rank 0: Stale file handle (" in capsys.readouterr().err
    saver(folder)
    assert f"warning: the room in {folder} is not known" in capsys.readouterr().err


def test_too_little_room_is_said_before_anything_is_written(folder, monkeypatch):
    run = saver(folder)
    free(monkeypatch, 3 << 20)
    with pytest.raises(
        UserError,
        match=r"step 2 was NOT saved: it needs about 4\.0 MiB and .*checkpoints has 3\.0 MiB free",
    ):
        run.save(2, {}, last=True)
    assert sorted(path.name for path in folder.iterdir()) == ["latest", "step-00000001"]


def test_a_run_whose_disk_cannot_hold_one_does_not_start(tmp_path, monkeypatch):
    free(monkeypatch, 1 << 20)
    with pytest.raises(
        UserError,
        match=r"no room for a checkpoint: it needs about 4\.0 MiB .* has 1\.0 MiB free; make room",
    ):
        saver(tmp_path / "not" / "yet" / "there")


def test_the_estimate_is_masters_moments_and_weights():
    assert space.bytes_needed(7000, 4, masters=True, ranks=1) == 7000 * 16 + (2 << 20)
    assert space.bytes_needed(7000, 2, masters=True, ranks=4) == 7000 * 14 + (8 << 20)
    # Unsharded in float32 the weights are the masters.
    assert space.bytes_needed(7000, 4, masters=False, ranks=1) == 7000 * 12 + (2 << 20)
    averaged = space.bytes_needed(7000, 4, masters=True, ranks=1, averages=True)
    assert averaged == 7000 * 20 + (2 << 20)

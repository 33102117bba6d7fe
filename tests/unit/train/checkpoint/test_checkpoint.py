"""Which folder is a checkpoint, which is taken, which is removed, and whose it is."""

import hashlib
import json
import shutil

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, flip, found, identity, steps
from train import checkpoint
from train.checkpoint.find import another_layout
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


@pytest.mark.parametrize(
    ("arguments", "data", "said"),
    [
        (["--model.hidden_size", "1024"], "abc", "model.hidden_size was 512, is 1024"),
        (["--data.sequence_length", "128"], "abc", "sequence_length was 256, is 128"),
        (["--optim.name", "adam"], "abc", "optimizer.name was adamw, is adam"),
        (
            ["--optim.weight_decay", "0.5", "--optim.beta2", "0.95"],
            "abc",
            "optimizer.beta2 was 0.999, is 0.95; optimizer.weight_decay was 0.1, is 0.5",
        ),
        (["--decay.method", "uniform"], "abc", "decay.method was alphadecay, is uniform"),
        (["--decay.s2", "3"], "abc", "decay.s2 was 5.0, is 3.0"),
        (["--run.precision", "bf16"], "abc", "precision was float32, is bf16"),
        (["--run.global_batch", "256"], "abc", "global_batch was 512, is 256"),
        (["--run.seed", "7"], "abc", "seed was 42, is 7; init_seed was 42, is 7"),
        (["--run.init_seed", "7"], "abc", "init_seed was 42, is 7"),
        (["--run.data_seed", "7"], "abc", "seed was 42, is 7"),
        ([], "xyz", "data was abc, is xyz"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(folder, arguments, data, said):
    with pytest.raises(UserError) as caught:
        checkpoint.check_identity(found(folder)[0], identity(*arguments, data=data))
    assert f"step-00000010 was written by another run: {said}. " in str(caught.value)


def test_every_difference_is_named(folder):
    run_identity = identity("--model.num_layers", "2", "--model.vocab_size", "100") | {
        "world_size": 4,
        "zero_stage": 1,
    }
    with pytest.raises(UserError) as caught:
        checkpoint.check_identity(found(folder)[0], run_identity, "never")
    assert "--checkpoint.convert auto" in str(caught.value)
    for said in (
        "model.num_layers was 8, is 2",
        "model.vocab_size was 32000, is 100",
        "world_size was 2, is 4",
        "zero_stage was 3, is 1",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model.activation_checkpointing", "true"],
        ["--model.attention", "eager"],
        ["--optim.lr", "0.1"],
        ["--run.micro_batch", "4"],
    ],
)
def test_what_does_not_change_the_state_may_change(folder, arguments):
    checkpoint.check_identity(found(folder)[0], identity(*arguments))


@pytest.mark.parametrize(
    ("was", "now"), [((2, 3), (4, 3)), ((2, 3), (1, 2)), ((2, 1), (2, 2)), ((4, 0), (2, 0))]
)
def test_another_world_size_or_stage_is_not_another_run(folder, was, now):
    layouts = [{"world_size": ranks, "zero_stage": stage} for ranks, stage in (was, now)]
    checkpoint.save(engine(), folder, 11, {}, identity() | layouts[0], WORLD)
    newest = found(folder)[0]
    checkpoint.check_identity(newest, identity() | layouts[1])
    # stage 0 holds it whole
    assert another_layout(newest, identity() | layouts[1]) == (now[1] != 0)


LAYOUTS = {
    "fsdp2": {"engine": "fsdp2"},
    **{f"zero{stage}": {"engine": "deepspeed", "zero_stage": stage} for stage in range(4)},
}


def of_layout(name, *arguments):
    without = ("engine", "zero_stage")
    own = {key: value for key, value in identity(*arguments).items() if key not in without}
    return own | LAYOUTS[name]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("zero3", "fsdp2", "engine was deepspeed, is fsdp2"),
        ("fsdp2", "zero3", "engine was fsdp2, is deepspeed"),
        ("fsdp2", "zero0", "engine was fsdp2, is deepspeed"),
        ("zero0", "zero3", "zero_stage was 0, is 3"),
        ("zero2", "zero0", "zero_stage was 2, is 0"),
        ("zero2", "zero1", "zero_stage was 2, is 1"),
    ],
)
def test_another_engine_or_stage_is_converted(folder, optimizer, was, now, said):
    name = ("--optim.name", optimizer)
    checkpoint.save(engine(), folder, 11, {}, of_layout(was, *name), WORLD)
    newest = found(folder)[0]
    other = of_layout(now, *name)
    checkpoint.check_identity(newest, other)
    assert another_layout(newest, other)
    with pytest.raises(UserError) as caught:
        checkpoint.check_identity(newest, other, "never")
    assert said in f"{caught.value}"
    assert f"{caught.value}".endswith("; --checkpoint.convert auto converts it")


@pytest.mark.parametrize("layout", ["fsdp2", "zero0"])
def test_what_fits_any_number_of_ranks_needs_no_conversion(folder, layout):
    checkpoint.save(engine(), folder, 11, {}, of_layout(layout) | {"world_size": 2}, WORLD)
    other = of_layout(layout) | {"world_size": 4}
    checkpoint.check_identity(found(folder)[0], other, "never")
    assert not another_layout(found(folder)[0], other)


@pytest.mark.parametrize(
    ("was", "now", "optimizer", "reads"),
    [
        ("zero1", "zero3", "adamw", True),
        ("zero3", "zero2", "adam", True),
        ("zero2", "zero3", "sgdw", False),
        ("zero0", "zero3", "adamw", False),
        ("zero3", "zero0", "adamw", False),
        ("fsdp2", "zero3", "adamw", False),
        ("zero3", "fsdp2", "adamw", False),
    ],
)
def test_deepspeeds_loader_reads_what_it_can(tmp_path, was, now, optimizer, reads):
    name = ("--optim.name", optimizer)
    manifest = of_layout(was, *name) | {"step": 3, "files": {}}
    converted = checkpoint.Checkpoint(tmp_path, manifest | {"universal": True})
    assert checkpoint.deepspeed_reads(converted, of_layout(now, *name)) == reads
    assert not checkpoint.deepspeed_reads(
        checkpoint.Checkpoint(tmp_path, manifest), of_layout(now, *name)
    )


def test_a_checkpoint_from_before_there_was_a_momentum_goes_on(folder):
    older = identity() | {"optimizer": dict(identity()["optimizer"])}
    del older["optimizer"]["momentum"]
    checkpoint.save(engine(), folder, 11, {}, older, WORLD)
    checkpoint.check_identity(found(folder)[0], identity())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(UserError, match="cannot write checkpoints"):
        checkpoint.save(engine(), tmp_path / "checkpoints", 1, {}, identity(), WORLD)

"""Whose a checkpoint is, and which run may go on from it."""

import shutil

import pytest

from tests.unit.train.checkpoint.saving import WORLD, engine, found, identity
from train import checkpoint
from train.checkpoint.find import another_layout
from train.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A complete checkpoint, made once: it waits for the disk."""
    folder = tmp_path_factory.mktemp("made") / "checkpoints"
    checkpoint.save(engine(), folder, 10, {}, identity(), WORLD)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to write into."""
    return shutil.copytree(made, tmp_path / "checkpoints")


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
    assert said in f"{caught.value}" and "None" not in f"{caught.value}"
    assert f"{caught.value}".endswith("; --checkpoint.convert auto converts it")


@pytest.mark.parametrize("layout", ["fsdp2", "zero0"])
def test_what_fits_any_number_of_ranks_needs_no_conversion(folder, layout):
    checkpoint.save(engine(), folder, 11, {}, of_layout(layout) | {"world_size": 2}, WORLD)
    other = of_layout(layout) | {"world_size": 4}
    checkpoint.check_identity(found(folder)[0], other, "never")
    assert not another_layout(found(folder)[0], other)


@pytest.mark.parametrize(
    ("was", "now", "moment", "reads"),
    [
        ("zero1", "zero3", "exp_avg", True),
        ("zero3", "zero2", "exp_avg", True),
        ("zero2", "zero3", "momentum_buffer", False),
        ("zero2", "zero3", "fp32", False),  # saved before the first step
        ("zero0", "zero3", "exp_avg", False),
        ("zero3", "zero0", "exp_avg", False),
        ("fsdp2", "zero3", "exp_avg", False),
        ("zero3", "fsdp2", "exp_avg", False),
    ],
)
def test_deepspeeds_loader_reads_what_it_can(tmp_path, was, now, moment, reads):
    files = {f"state/zero/lm_head.weight/{moment}.pt": {}}
    manifest = of_layout(was) | {"step": 3, "files": files}
    for universal in (True, False):
        one = checkpoint.Checkpoint(tmp_path, manifest | {"universal": universal})
        assert checkpoint.deepspeed_reads(one, of_layout(now)) == (reads and universal)


def test_a_checkpoint_from_before_there_was_a_momentum_goes_on(folder):
    older = identity() | {"optimizer": dict(identity()["optimizer"])}
    del older["optimizer"]["momentum"]
    checkpoint.save(engine(), folder, 11, {}, older, WORLD)
    checkpoint.check_identity(found(folder)[0], identity())

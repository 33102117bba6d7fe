"""Going on at another world size, ZeRO stage or engine: the same tokens, the same loss, the same
decays.
"""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import ROOT
from tests.distributed.harness import run_ranks
from tests.integration.program import metrics, run
from tests.integration.ranks import train_watched
from train import checkpoint

# float32: another number of ranks adds the same gradients in another order, an ulp or two of a loss
# near 5.
TOLERANCE = 1e-6
LEG = 3
LEGS = (2, 4, 1, 2)
FSDP2 = ("--engine.kind", "fsdp2")
HSDP = (*FSDP2, "--engine.shard", "2")  # two copies on four ranks
HSDP_OF_1 = (*FSDP2, "--engine.shard", "1")  # a copy on every rank


def zero(stages):
    """The legs by their ZeRO stages."""
    return tuple(("--deepspeed.config", f"ds_configs/zero{stage}.json") for stage in stages)


@pytest.mark.parametrize(
    ("engine", "said"),
    [(*zero((2,)), "ZeRO-2"), (FSDP2, "FSDP2"), (*zero((0,)), "ZeRO-0")],
    ids=("zero2", "fsdp2", "zero0"),
)
def test_two_ranks_of_stage_3_go_on_as_one_of_another(workplace, finished, engine, said):
    whole = finished("deepspeed")
    folder = workplace.folder / f"cut-world-{said}"
    shutil.copytree(whole / "checkpoints/step-00000003", folder / "checkpoints/step-00000003")
    shutil.copy(whole / "metrics.jsonl", folder)
    outcome = workplace.run(1, folder.name, *engine)
    assert outcome.code == 0, outcome.output
    assert (
        f"written by 2 ranks with ZeRO-3; this run is 1 rank with {said}: converting it"
        in outcome.output
    )
    assert "step 3 of 6" in outcome.output
    for kind, key in (("train", "loss"), ("train", "lr"), ("validation", "val_loss")):
        ours, theirs = ([record[key] for record in metrics(f, kind)] for f in (folder, whole))
        assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE), key
    ours, theirs = (metrics(f, "refresh") for f in (folder, whole))
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a["weight_decays"] == pytest.approx(b["weight_decays"], rel=1e-3)
    assert not list((folder / "checkpoints").glob("universal-*"))  # it has served


def test_the_command_makes_what_the_run_would_make(workplace, finished, tmp_path):
    source = finished("deepspeed") / "checkpoints/step-00000003"
    for out, code, said in (
        (tmp_path / "out", 0, str(tmp_path / "out")),
        (tmp_path / "out", 2, f"error: {tmp_path / 'out'} exists"),
    ):
        arguments = ("convert", str(source), "--out", str(out), "--workers", "2")
        done = run(1, ROOT, "-m", "train", *arguments)
        assert done.code == code, done.output
        assert said in done.output and "Traceback" not in done.output
    made = checkpoint.find(str(tmp_path / "out"), tmp_path, print)
    assert (
        made is not None and made.universal and made.step == 3 and made.manifest["world_size"] == 2
    )
    names = {
        name.removeprefix("state/zero/model.layers.1.mlp.up_proj.weight/")
        for name in made.manifest["files"]
    }
    assert {
        "fp32.pt",
        "exp_avg.pt",
        "exp_avg_sq.pt",
        "step.pt",
        "state/zero/optimizer_state.pt",
    } <= names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    outcome = workplace.run(
        1, "refused-convert", "--resume", str(source), "--checkpoint.convert", "never"
    )
    assert (
        outcome.code == 2
        and "world_size was 2, is 1" in outcome.output
        and "--checkpoint.convert auto" in outcome.output
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "engines",
    [
        *(zero(stages) for stages in ((2, 2, 2, 2), (3, 3, 3, 3), (1, 1, 1, 1), (2, 3, 3, 2))),
        (FSDP2,) * 4,
        (FSDP2, HSDP, FSDP2, HSDP_OF_1),
        (*zero((3,)), HSDP, *zero((0,)), FSDP2),
        (FSDP2, *zero((0, 1)), FSDP2),
    ],
    ids=("2-2-2-2", "3-3-3-3", "1-1-1-1", "2-3-3-2", "fsdp2", "fsdp2-hsdp", "mixed", "mixed-too"),
)
def test_2_to_4_to_1_to_2_ranks_is_the_run_that_never_changed(
    workplace, finished, engines, request
):
    finished("python")  # the corpus is prepared

    def leg(world_size, engine, output):
        return run_ranks(
            world_size,
            train_watched,
            world_size,
            [
                "--config",
                str(workplace.recipe),
                "--output_dir",
                str(workplace.folder / output),
                "--run.steps",
                str(LEG * len(LEGS)),
                *engine,
                "--checkpoint.every",
                str(LEG),
                "--checkpoint.keep",
                "0",
                "--data.directory",
                str(workplace.folder / "prepared"),
            ],
        )

    name = request.node.callspec.id
    whole = leg(2, engines[0], f"other-whole-{name}")[0]
    assert sorted(whole["losses"]) == list(range(1, LEG * len(LEGS) + 1))
    folder = workplace.folder / f"other-{name}"
    for turn, (ranks, engine) in enumerate(zip(LEGS, engines, strict=True)):
        gone_on = leg(ranks, engine, folder.name)
        for rank in gone_on:
            assert rank["first"] == LEG * turn
            assert rank["decays"] == gone_on[0]["decays"]  # bit for bit
        for step, loss in gone_on[0]["losses"].items():
            assert gone_on[0]["batches"][step] == whole["batches"][step]
            assert loss == pytest.approx(whole["losses"][step], rel=0, abs=TOLERANCE), (turn, step)
        for late in range(turn + 2, len(LEGS) + 1):  # cut after this leg
            shutil.rmtree(folder / f"checkpoints/step-{LEG * late:08d}")
    assert gone_on[0]["decays"] == pytest.approx(whole["decays"], rel=1e-3)

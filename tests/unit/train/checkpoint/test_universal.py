"""When a checkpoint is converted, when the conversion that is there is taken, and what every stage
finds in it.
"""

import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.unit.train.checkpoint.saving import WORLD, engine, flip, identity
from train import checkpoint
from train.checkpoint import space, universal
from train.checkpoint.manifest import read
from train.errors import UserError

STEP = torch.tensor(7.0)


def convert_stage_3(source, target, workers):
    """What DeepSpeed's converter leaves of a stage 3 checkpoint: bare tensors, one step for all."""
    (target / "zero/w").mkdir(parents=True)
    for name in ("fp32", "exp_avg", "exp_avg_sq"):
        torch.save(torch.arange(3.0), target / f"zero/w/{name}.pt")
    groups = [{"lr": 0.1, "base_weight_decay": 0.5, "params": [0]}]
    inner = {"state": {0: {"step": STEP, "exp_avg": torch.zeros(9)}}, "param_groups": groups}
    torch.save(
        {"optimizer_state_dict": inner, "param_groups": groups, "overflow": False},
        target / "zero/optimizer_state.pt",
    )
    (target / "zero_pp_rank_0_mp_rank_00_model_states.pt").write_bytes(b"client state")


def convert_stage_2(source, target, workers):
    """Write what it leaves of stage 1 or 2: dicts, a step a parameter, no optimizer_state_dict."""
    (target / "zero/w").mkdir(parents=True)
    for name in ("fp32", "exp_avg", "exp_avg_sq"):
        torch.save({"param": torch.arange(3.0)}, target / f"zero/w/{name}.pt")
    torch.save(STEP, target / "zero/w/step.pt")
    groups = [{"lr": 0.1, "base_weight_decay": 0.5, "params": [0]}]
    torch.save(
        {"param_groups": groups, "clip_grad": 1.0, "ds_version": "0.1"},
        target / "zero/optimizer_state.pt",
    )
    (target / "mp_rank_00_model_states.pt").write_bytes(b"client state")


@pytest.fixture
def converted(monkeypatch):
    """The steps converted, counted; DeepSpeed's part is stood in for."""
    calls = []

    def run(source, target, workers):
        calls.append(source)
        convert_stage_3(source, target, workers)

    monkeypatch.setattr(universal, "_run_converter", run)
    return calls


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    return checkpoint.save(engine(), folder, 5, {}, identity(), WORLD)


@pytest.fixture
def source(saved, tmp_path):
    return read(shutil.copytree(saved, tmp_path / saved.name))


def fit(source, **layout):
    said = []
    return checkpoint.convert_if_needed(source, identity() | layout, said.append), said


def test_one_that_fits_is_left_alone(source, converted):
    assert fit(source) == (source, [])
    assert not converted


def test_another_world_size_is_converted_once_and_said(source, converted):
    made, said = fit(source, world_size=4)
    assert made.universal and made.step == 5 and made.path.name == "universal-00000005"
    assert (
        "written by 2 ranks with ZeRO-3; this run is 4 ranks with ZeRO-3: converting it to "
        in said[0]
    )
    again, said = fit(source, world_size=1, zero_stage=2)
    assert again == made and len(converted) == 1
    assert "this run is 1 rank with ZeRO-2: taking " in said[0]
    assert sorted(path.name for path in made.path.parent.iterdir()) == [
        "step-00000005",
        "universal-00000005",
    ]
    checkpoint.check_identity(made, identity() | {"world_size": 7}, "never")  # it fits any
    assert fit(made, world_size=7) == (made, [])


def test_a_conversion_that_is_damaged_or_of_another_checkpoint_is_made_again(source, converted):
    made, _ = fit(source, world_size=4)
    file = made.path / "state/zero/w/fp32.pt"
    file.write_bytes(file.read_bytes()[:-1])
    fit(source, world_size=4)
    assert len(converted) == 2 and not universal.why_incomplete(made.path)
    # written again since
    (source.path / checkpoint.MANIFEST).write_text(
        (source.path / checkpoint.MANIFEST).read_text() + "\n"
    )
    fit(source, world_size=4)
    assert len(converted) == 3


@pytest.mark.parametrize("converter", [convert_stage_2, convert_stage_3])
def test_every_stage_finds_what_it_looks_for(source, monkeypatch, converter):
    monkeypatch.setattr(universal, "_run_converter", converter)
    state = checkpoint.convert(source, source.path.with_name("u")).path / "state"
    for name in ("fp32", "exp_avg", "exp_avg_sq"):
        assert torch.equal(
            torch.load(state / f"zero/w/{name}.pt", weights_only=True)["param"], torch.arange(3.0)
        )
    assert torch.load(state / "zero/w/step.pt", weights_only=True) == STEP  # stages 1 and 2
    common = torch.load(state / "zero/optimizer_state.pt", weights_only=True)
    assert common["optimizer_state_dict"]["state"] == {0: {"step": STEP}}  # stage 3
    assert common["param_groups"] == common["optimizer_state_dict"]["param_groups"]
    assert common["param_groups"][0]["base_weight_decay"] == 0.5
    assert common["ds_version"] and "clip_grad" not in common  # the recipe's clipping holds
    for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt"):
        assert (state / name).read_bytes() == b"client state"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (None, "cannot convert .* it needs about"),
        ("stage 0", "ZeRO stage 0"),
        ("universal", "universal already"),
    ],
)
def test_what_cannot_be_converted_is_refused(source, converted, monkeypatch, damage, said):
    manifest = source.manifest | {
        "stage 0": {"zero_stage": 0},
        "universal": {"universal": True},
    }.get(damage, {})
    if damage is None:
        monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(UserError, match=said):
        checkpoint.convert(checkpoint.Checkpoint(source.path, manifest), source.path.with_name("u"))
    assert not converted and [path.name for path in source.path.parent.iterdir()] == [
        "step-00000005"
    ]


def test_a_converter_that_fails_leaves_nothing(source, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(universal, "_run_converter", fails)
    with pytest.raises(UserError, match=r"cannot convert .*step-00000005: No space left on device"):
        checkpoint.convert(source, source.path.with_name("u"))
    assert [path.name for path in source.path.parent.iterdir()] == ["step-00000005"]


def test_a_damaged_checkpoint_is_never_converted(source):
    flip(source.path)
    assert "not what was written" in universal.why_incomplete(source.path)
    with pytest.raises(UserError, match="no complete checkpoint"):
        checkpoint.find(str(source.path), source.path.parent, print)

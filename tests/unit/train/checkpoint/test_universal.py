"""When a checkpoint is converted, when the conversion that is there is taken, and what every stage
finds in it. DeepSpeed's own converter is the oracle in tests/distributed.
"""

import json
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.unit.train.checkpoint.layouts import STEP, expected, write_checkpoint
from tests.unit.train.checkpoint.saving import identity
from tests.waiting import until
from train import checkpoint
from train.checkpoint import space, universal, universal_files
from train.checkpoint.manifest import read, why_incomplete
from train.checkpoint.stored_state import read_masters
from train.checkpoint.universal import ALONE
from train.errors import UserError
from train.system.lease import Lease


@pytest.fixture
def source(tmp_path):
    return write_checkpoint(tmp_path / "checkpoints", stage=3)


@pytest.fixture
def written(monkeypatch):
    """The parameters that are written, by name."""
    names = []
    real = universal.write_parameter

    def write(zero, name, *rest):
        real(zero, name, *rest)
        names.append(name)

    monkeypatch.setattr(universal, "write_parameter", write)
    return names


def fit(source, **layout):
    said = []
    made = checkpoint.convert_if_needed(source, identity() | layout, ALONE, said.append)
    return made, said


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_that_fits_is_left_alone(source, written):
    assert fit(source) == (source, [])
    assert not written


def test_another_world_size_is_converted_once_and_said(source, written):
    made, said = fit(source, world_size=4)
    assert made.universal and made.step == 5 and made.path.name == "universal-00000005"
    assert (
        "written by 2 ranks with ZeRO-3; this run is 4 ranks with ZeRO-3: converting it to "
        in said[0]
    )
    again, said = fit(source, world_size=1, zero_stage=2)
    assert again == made and sorted(written) == ["a", "b", "c"]
    assert "this run is 1 rank with ZeRO-2: taking " in said[0]
    assert names_in(made.path.parent) == ["step-00000005", "universal-00000005"]
    checkpoint.check_identity(made, identity() | {"world_size": 7}, "never")  # it fits any
    assert fit(made, world_size=7) == (made, [])


def test_the_form_of_an_earlier_version_is_made_again(source, written):
    made, _ = fit(source, world_size=4)
    manifest = json.loads((made.path / "manifest.json").read_text())
    del manifest["files"]["state/common.pt"]
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    again, said = fit(source, world_size=4)
    assert "converting it to" in said[0] and "state/common.pt" in again.manifest["files"]
    assert sorted(written) == sorted(["a", "b", "c"] * 2)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content[::-1]])
def test_a_conversion_that_is_damaged_is_made_again(source, written, change):
    made, _ = fit(source, world_size=4)
    file = made.path / "state/zero/a/fp32.pt"
    file.write_bytes(change(file.read_bytes()))
    fit(source, world_size=4)
    assert len(written) == 6 and not why_incomplete(made.path)


def test_one_that_another_process_makes_is_waited_for_and_taken(source, written):
    """The other one holds the folder that it writes to, and moves it into place."""
    made, _ = fit(source, world_size=4)
    digest = json.loads((made.path / checkpoint.MANIFEST).read_text())["source"]
    temporary = made.path.with_name(f".tmp-{made.path.name}-{digest[:8]}")
    other = Lease(temporary, "it", beat=0.02)
    other.holder = replace(other.holder, host="n2", machine="n2")
    other.take()
    said = []
    waiting = threading.Thread(
        target=checkpoint.convert, args=(source, made.path), kwargs={"say": said.append}
    )
    waiting.start()
    until(lambda: said)
    shutil.rmtree(temporary, ignore_errors=True)
    waiting.join()
    assert "held by process" in said[0] and sorted(written) == ["a", "b", "c"]
    assert names_in(made.path.parent) == ["step-00000005", "universal-00000005"]


def test_a_conversion_of_another_checkpoint_is_made_again(source, written):
    fit(source, world_size=4)
    manifest = source.path / checkpoint.MANIFEST  # written again since
    manifest.write_text(manifest.read_text() + "\n")
    fit(source, world_size=4)
    assert len(written) == 6


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_stage_finds_what_it_looks_for(tmp_path, stage, ranks):
    source = write_checkpoint(tmp_path / "checkpoints", stage, ranks)
    made = checkpoint.convert(source, source.path.with_name("u"))
    assert not why_incomplete(made.path)
    state = made.path / "state"
    assert names_in(state / "zero") == ["a", "b", "c", "optimizer_state.pt"]  # a tied one once
    for name, kinds in expected().items():
        for kind, tensor in kinds.items():
            stored = torch.load(state / f"zero/{name}/{kind}.pt", weights_only=True)
            assert torch.equal(stored["param"], tensor)
            assert stored["param"].untyped_storage().nbytes() == tensor.nbytes
        assert torch.load(state / f"zero/{name}/step.pt", weights_only=True) == STEP
    common = torch.load(state / "zero/optimizer_state.pt", weights_only=True)
    assert common["optimizer_state_dict"]["state"] == {0: {"step": STEP}}  # stage 3
    assert common["param_groups"] == common["optimizer_state_dict"]["param_groups"]
    assert common["param_groups"][0]["base_weight_decay"] == 0.5
    assert common["ds_version"] and "clip_grad" not in common  # the recipe's clipping holds
    first = "zero_pp_rank_0_mp_rank_00" if stage == 3 else "mp_rank_00"
    for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt"):
        stored = torch.load(state / name, weights_only=True)
        assert stored["named"] == f"{first}_model_states.pt"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (None, "cannot convert .* it needs about"),
        ("universal", "universal already"),
    ],
)
def test_what_cannot_be_converted_is_refused(source, monkeypatch, damage, said):
    manifest = source.manifest | ({"universal": True} if damage else {})
    if damage is None:
        monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(UserError, match=said):
        checkpoint.convert(checkpoint.Checkpoint(source.path, manifest), source.path.with_name("u"))
    assert names_in(source.path.parent) == ["step-00000005"]


def test_a_conversion_that_fails_leaves_nothing(source, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(universal_files.torch, "save", fails)
    with pytest.raises(UserError, match=r"cannot convert .*step-00000005: No space left on device"):
        checkpoint.convert(source, source.path.with_name("u"))
    assert names_in(source.path.parent) == ["step-00000005"]


class Killed(BaseException):
    """Ends a conversion as a signal would: nothing is cleaned up."""


def test_a_conversion_that_was_killed_goes_on_where_it_was(source, monkeypatch, written):
    real = torch.save

    def save(content, path):
        if "part-a" not in str(path):
            raise Killed
        real(content, path)

    final = source.path.with_name("u")
    monkeypatch.setattr(universal_files.torch, "save", save)
    with pytest.raises(Killed):
        checkpoint.convert(source, final, threads=1)
    assert written == ["a"]
    assert not final.exists()
    monkeypatch.setattr(universal_files.torch, "save", real)
    made = checkpoint.convert(source, final, threads=1)
    assert written == ["a", "b", "c"]
    assert not why_incomplete(made.path)
    assert names_in(final.parent) == ["step-00000005", "u"]


def test_a_damaged_checkpoint_is_never_converted(source):
    file = source.path / "state/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    assert "not what was written" in why_incomplete(source.path)
    with pytest.raises(UserError, match="no complete checkpoint"):
        checkpoint.find(str(source.path), source.path.parent, print)


def test_the_manifest_names_the_source(source):
    made = checkpoint.convert(source, source.path.with_name("u"))
    assert made.manifest["world_size"] == 2 and made.manifest["zero_stage"] == 3
    assert read(made.path).manifest["source"] == universal._digest(source)


@pytest.mark.parametrize(
    ("kept", "steps"),
    [
        ({"alphadecay": {"step": 10}, "global_steps": 12}, 10),  # two were skipped under FSDP2
        ({"alphadecay": {"held": {}}, "global_steps": 12}, 12),
        ({"alphadecay": None, "global_steps": 12}, 12),
        ({}, 5),
    ],
)
def test_deepspeed_counts_on_from_what_the_decay_has_seen(source, kept, steps):
    assert universal_files._steps(kept, source) == steps


def test_random_states_and_weights_are_taken_over(source):
    own = source.path / "state" / "own_rank_00001.pt"
    torch.save({"torch": torch.arange(3)}, own)
    made = checkpoint.convert(source, source.path.with_name("u"))
    assert "state/own_rank_00001.pt" in made.manifest["files"]
    assert checkpoint.load_rank_state(made, 1)["torch"].tolist() == [0, 1, 2]
    assert checkpoint.load_rank_state(made, 0) is None
    masters = read_masters(made.path / "state")
    whole = expected()
    assert masters.keys() == whole.keys()
    assert all(torch.equal(masters[name], kinds["fp32"]) for name, kinds in whole.items())

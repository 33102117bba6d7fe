"""Writes the files of a checkpoint's universal form.

  zero/NAME/fp32.pt, exp_avg.pt, …                {"param": the whole tensor}
  zero/NAME/ema.pt                                where the run keeps an average of the weights
  zero/NAME/step.pt                               the optimizer's count (stages 1 and 2 look here)
  common.pt                                       the client state
  own_rank_*.pt                                   random states, as they were
and from ZeRO stages 1 to 3, for DeepSpeed's loader
  zero/optimizer_state.pt                         what all parameters share, for both families
  *_model_states.pt                               as they were, the first under both names
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.sources.stored import STEP, OptimizerState, StoredWeight
from train.checkpoint.manifest import RANK_STATE, STATE, Checkpoint
from train.checkpoint.names import DECAY
from train.checkpoint.stored_state import open_optimizer, read_client_state
from train.engines.by_name import PARAMETERS, Common
from train.system.files import sync

_MODEL_STATES = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
_SHARED = ("loss_scaler", "dynamic_loss_scale", "overflow")
_UNFINISHED = ".part-"


def write_parameter(zero: Path, name: str, weights: Mapping[str, StoredWeight], step: Any) -> None:
    """Write one parameter's folder, complete or not at all."""
    folder = zero / f"{_UNFINISHED}{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for kind, weight in weights.items():
        torch.save({"param": _compact(weight.read())}, folder / f"{kind}.pt")
    if step is not None:
        torch.save(step, folder / f"{STEP}.pt")
    for path in folder.iterdir():
        sync(path)
    os.rename(folder, zero / name)


def write_common(source: Checkpoint, target: Path) -> list[Path]:
    """Write what does not belong to one parameter; return the files."""
    state = source.path / STATE
    optimizer = open_optimizer(state)
    client_state = read_client_state(state)
    files = [Common(client_state, _steps(client_state, source)).write(target)]
    for path in state.glob(RANK_STATE.replace("{:05d}", "*")):
        _place(path, target / path.name)
        files.append(target / path.name)
    if optimizer.others:
        files += _write_for_deepspeed(optimizer, state, target)
    for path in files:
        sync(path)
    return files


def _steps(client_state: Mapping[str, Any], source: Checkpoint) -> int:
    """Return the steps that an engine of DeepSpeed's counts on from.

    A decay's refreshes go by that count, and it has seen as many; under FSDP2 none that was
    skipped.
    """
    seen = client_state.get(DECAY) or {}
    return int(seen.get("step", client_state.get("global_steps", source.step)))


def _write_for_deepspeed(optimizer: OptimizerState, source: Path, target: Path) -> list[Path]:
    """Write the optimizer's common state and the model states; return the files."""
    files = [target / PARAMETERS / "optimizer_state.pt"]
    torch.save(_shared(optimizer), files[0])
    there = sorted(source.glob("*_model_states.pt"), key=lambda path: path.name)
    named = {path.name: path for path in there}
    first = next(named[name] for name in _MODEL_STATES if name in named)
    for name, path in (named | dict.fromkeys(_MODEL_STATES, first)).items():
        _place(path, target / name)
        files.append(target / name)
    return files


def _shared(state: OptimizerState) -> dict[str, Any]:
    groups = state.param_groups
    by_stage_3 = {"state": {0: {"step": state.step}}, "param_groups": groups}
    shared = {key: state.others[key] for key in _SHARED if key in state.others}
    return {
        **shared,
        "ds_version": _deepspeed_version(),
        "param_groups": groups,
        "optimizer_state_dict": by_stage_3,
    }


def _place(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor without the rest of a storage that it is a part of."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _deepspeed_version() -> str:
    import deepspeed

    return str(deepspeed.__version__)

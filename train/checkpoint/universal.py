"""Converts checkpoints to the universal form: the state by parameter instead of by rank.

Any world size and ZeRO stage 1 to 3 can load it. DeepSpeed's converter does the work. What it
writes serves only the stage it came from; `_serve_every_stage` adds the rest: the step of every
parameter (stage 3 keeps it once), every tensor in a dict (stage 3 writes it bare), the optimizer's
common state in the form of both families, and the model-state file under both names.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from train.checkpoint.find import another_layout
from train.checkpoint.manifest import (
    FORMAT,
    MANIFEST,
    STATE,
    Checkpoint,
    facts_of_files,
    read,
    why_incomplete,
)
from train.checkpoint.names import TEMPORARY, universal_name
from train.checkpoint.safe_load import safe_load
from train.checkpoint.space import describe_failure, shortage
from train.checkpoint.write import commit
from train.errors import UserError
from train.system.files import sync

_OPTIMIZER = Path("zero/optimizer_state.pt")
_MODEL_STATES = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
_SHARED = ("loss_scaler", "dynamic_loss_scale", "overflow", "ds_version")


def convert_if_needed(
    checkpoint: Checkpoint, run_identity: Mapping[str, Any], say: Callable[[str], None]
) -> Checkpoint:
    """Return the checkpoint itself where it fits, else its universal form, made once.

    It fits where world size and ZeRO stage are this run's.

    Raises:
        UserError: it cannot be converted.
    """
    if not another_layout(checkpoint, run_identity):
        return checkpoint
    final = checkpoint.path.with_name(universal_name(checkpoint.step))
    saved = checkpoint.manifest
    was = f"{checkpoint.path} was written by {_layout(saved)}; this run is {_layout(run_identity)}"
    if not why_incomplete(final) and read(final).manifest.get("source") == _digest(checkpoint):
        say(f"{was}: taking {final}")
        return read(final)
    say(f"{was}: converting it to {final}")
    return convert(checkpoint, final)


def convert(source: Checkpoint, final: Path, workers: int = 1) -> Checkpoint:
    """Write the universal form of a verified checkpoint of ZeRO stage 1 to 3.

    It commits by rename.

    Args:
        workers: processes that extract; more than one only where no process group has been started.

    Raises:
        UserError: there is no room, or DeepSpeed's converter cannot read it.
    """
    if source.universal:
        raise UserError(f"{source.path} is universal already")
    if source.manifest["zero_stage"] == 0:
        raise UserError(
            f"{source.path} is of ZeRO stage 0, which DeepSpeed cannot convert; stage 0 loads it "
            "at any world size"
        )
    temporary = final.with_name(f"{TEMPORARY}{final.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    size = sum(facts["bytes"] for facts in source.manifest["files"].values())
    short = shortage(final.parent, 2 * size)  # parameters and moments in pieces, then whole
    if short:
        raise UserError(f"cannot convert {source.path}: {short}")
    try:
        _run_converter(source.path / STATE, temporary / STATE, workers)
        _serve_every_stage(temporary / STATE)
        commit(temporary, final, _universal_manifest(source, temporary))
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"cannot convert {source.path}: {describe_failure(error, final.parent)}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read(final)


def _universal_manifest(source: Checkpoint, folder: Path) -> dict[str, Any]:
    """Sync the converted files, and return the manifest for them."""
    files = [path for path in (folder / STATE).rglob("*") if path.is_file()]
    for path in files:
        sync(path)
    dropped = ("files", "format", "commit")
    kept = {key: value for key, value in source.manifest.items() if key not in dropped}
    return {
        "format": FORMAT,
        **kept,
        "universal": True,
        "source": _digest(source),
        "files": facts_of_files(folder, files),
    }


def _run_converter(source: Path, target: Path, workers: int) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    target.mkdir(parents=True)
    arguments = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=workers,
        num_merge_workers=workers,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    # The converter narrates.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)
    (target.parent / "latest_universal").unlink(missing_ok=True)


def _serve_every_stage(state: Path) -> None:
    """Add what the other stages look for."""
    saved = safe_load(state / _OPTIMIZER)
    inner = saved.get("optimizer_state_dict", {})
    groups = saved["param_groups"]
    folders = {path.parent for path in (state / "zero").rglob("fp32.pt")}
    step = inner["state"][0]["step"] if inner else safe_load(min(folders) / "step.pt")
    for folder in folders:
        torch.save(step, folder / "step.pt")
        for path in folder.glob("*.pt"):
            tensor = safe_load(path) if path.name != "step.pt" else None
            if isinstance(tensor, torch.Tensor):
                torch.save({"param": tensor}, path)
    common = {key: saved[key] for key in _SHARED if key in saved}
    common["ds_version"] = _deepspeed_version()
    by_stage_3 = {"state": {0: {"step": step}}, "param_groups": groups}
    optimizer = common | {"param_groups": groups, "optimizer_state_dict": by_stage_3}
    torch.save(optimizer, state / _OPTIMIZER)
    there = [state / name for name in _MODEL_STATES if (state / name).is_file()]
    for name in _MODEL_STATES:
        if not (state / name).exists():
            os.link(there[0], state / name)


def _deepspeed_version() -> str:
    import deepspeed

    return str(deepspeed.__version__)


def _digest(checkpoint: Checkpoint) -> str:
    return hashlib.sha256((checkpoint.path / MANIFEST).read_bytes()).hexdigest()


def _layout(run_identity: Mapping[str, Any]) -> str:
    ranks = run_identity["world_size"]
    plural = "s" if ranks != 1 else ""
    return f"{ranks} rank{plural} with ZeRO-{run_identity['zero_stage']}"

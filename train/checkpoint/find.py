"""Finds the checkpoint that a run goes on from, and checks that it is this run's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alphadecay.inspect.run_folder import newest_first
from train.checkpoint.beginning import Resume, may_be_begun_by
from train.checkpoint.manifest import CANNOT_BE_READ, LATEST, Checkpoint, read, why_incomplete
from train.checkpoint.names import step_folders
from train.config import HOW_IT_COMPUTES, DecayConfig, ModelConfig, OptimConfig, TrainConfig
from train.engines.precision import resolve_precision
from train.errors import UserError

NONE_DAMAGED: Mapping[Path, str] = MappingProxyType({})
LAYOUT = ("engine", "zero_stage", "world_size")  # how the state is cut up, not what it is


class NoneReadable(UserError):
    """There are checkpoints, and the file system gives none of them: a later look may find one."""


def identity(
    config: TrainConfig, world_size: int, layout: Mapping[str, Any], data: str
) -> dict[str, Any]:
    """Return what a checkpoint must share with the run that goes on from it.

    Of LAYOUT it only tells whether the checkpoint must be converted. The seed of the data and the
    global batch decide which tokens batch k holds, so another one would repeat some and leave
    others out. The optimizer's constants come back with its state, and a decay method with its own:
    others would be taken over without effect.
    """
    return {
        "model": asdict(config.model) | dict.fromkeys(HOW_IT_COMPUTES),
        "optimizer": {
            key: getattr(config.optim, key)
            for key in ("name", "beta1", "beta2", "eps", "momentum", "weight_decay", "ema")
        },
        # A manifest has lists where the configuration has tuples.
        "decay": json.loads(json.dumps(asdict(config.decay))),
        "precision": resolve_precision(config.run.precision),
        **layout,
        "world_size": world_size,
        "data": data,
        "sequence_length": config.positions,
        "global_batch": config.run.global_batch,
        "seed": config.run.seed_of_data,
        "init_seed": config.run.seed_of_init,
    }


def find(
    resume: str | Resume,
    folder: Path,
    say: Callable[[str], None],
    hashed: bool = True,
    damaged: Mapping[Path, str] = NONE_DAMAGED,
) -> Checkpoint | None:
    """Return the checkpoint to go on from.

    It is the newest complete one for "auto", none for "never", else the one at the path given.

    Args:
        resume: auto, never, a path; or what `how_to_resume` found.
        hashed: as `why_incomplete`; without, only for files that the restricted loader reads, or
            where the bytes are checked next.
        damaged: checkpoints that are known to be, and why.

    Raises:
        NoneReadable: not one is complete, and some cannot be read at the moment.
        UserError: the path given is no complete checkpoint; or there are checkpoints and not one is
            complete.
    """
    since = resume.since if isinstance(resume, Resume) else ""
    resume = resume.resume if isinstance(resume, Resume) else resume
    if resume == "never":
        return None
    if resume != "auto":
        found, reason = _read(Path(resume), hashed, damaged)
        if found is None:
            raise _kind([reason])(
                f"resume: {resume} is no complete checkpoint: {reason}; name a folder such as "
                f"{folder}/step-00000100"
            )
        return found
    candidates = _newest_first(folder, since)
    _check_latest(folder, say)
    reasons = []
    for path in candidates:
        found, reason = _read(path, hashed, damaged)
        if found is not None:
            return found
        reasons.append(reason)
        say(f"passing over {path}: {reason}")
    if candidates:
        raise _kind(reasons)(
            f"{folder} has checkpoints and none is complete; where the file system fails for a "
            "moment, start again later; --resume never begins anew, in an output_dir of its own"
        )
    return None


def _read(path: Path, hashed: bool, damaged: Mapping[Path, str]) -> tuple[Checkpoint | None, str]:
    """Return a complete checkpoint; else None, and why it is none."""
    reason = damaged.get(path) or why_incomplete(path, hashed)
    if reason:
        return None, reason
    try:
        return read(path), ""
    except (OSError, ValueError) as error:
        return None, f"its manifest {CANNOT_BE_READ}: {error}"


def _kind(reasons: list[str]) -> type[UserError]:
    """Return what to raise: whether a later look may find what this one did not."""
    return NoneReadable if any(CANNOT_BE_READ in reason for reason in reasons) else UserError


def peek(resume: Resume, folder: Path) -> Checkpoint | None:
    """Return the checkpoint that `find` looks at first, by its manifest alone; hash nothing."""
    if resume.resume == "never":
        return None
    by_name = [Path(resume.resume)]
    paths = _newest_first(folder, resume.since) if resume.resume == "auto" else by_name
    for path in paths:
        with suppress(OSError, ValueError):
            return read(path)
    return None


def check_identity(
    checkpoint: Checkpoint, run_identity: Mapping[str, Any], convert: str = "auto"
) -> None:
    """Refuse a checkpoint of another run, or one that must be converted and is not to be.

    Raises:
        UserError: names every value that differs.
    """
    saved = _with_later_keys(checkpoint.manifest)
    other = checkpoint.universal or convert == "auto" or _fits_any(saved, run_identity)
    allowed: tuple[str, ...] = LAYOUT if other else ()
    if saved["engine"] != run_identity["engine"]:
        allowed = (*allowed, "zero_stage")  # one of them has none
    compared = {key: value for key, value in run_identity.items() if key not in allowed}
    differences = list(_differences("", {key: saved.get(key) for key in compared}, compared))
    if differences:
        raise UserError(
            f"{checkpoint.path} was written by another run: {'; '.join(differences)}. "
            "Go on with the recipe it was written with, or give this run an --output_dir of its own"
            + _hint(saved, run_identity, convert)
        )


def another_layout(checkpoint: Checkpoint, run_identity: Mapping[str, Any]) -> bool:
    """Return whether the state has to be converted first.

    Stage 0 holds it whole, in one file for any number of ranks; FSDP2's shards fit any.
    """
    saved = _with_later_keys(checkpoint.manifest)
    if checkpoint.universal or _fits_any(saved, run_identity):
        return False
    return not _layout_is_alike(saved, run_identity)


def _fits_any(saved: Mapping[str, Any], run_identity: Mapping[str, Any]) -> bool:
    """Return whether the ranks' number does not matter to what was written."""
    if saved["engine"] != run_identity["engine"]:
        return False
    return saved["engine"] == "fsdp2" or saved["zero_stage"] == run_identity["zero_stage"] == 0


def _with_later_keys(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with the defaults of settings that came after it was written.

    A setting's default is what the program did before the setting was there.
    """
    model = asdict(ModelConfig()) | manifest.get("model", {})
    decay = json.loads(json.dumps(asdict(DecayConfig()))) | manifest.get("decay", {})
    later = {"momentum": OptimConfig.momentum, "ema": OptimConfig.ema}
    optimizer = later | manifest.get("optimizer", {})
    return {
        "engine": "deepspeed",
        **manifest,
        "model": model,
        "decay": decay,
        "optimizer": optimizer,
    }


def _hint(saved: Mapping[str, Any], run_identity: Mapping[str, Any], convert: str) -> str:
    fits = _layout_is_alike(saved, run_identity) or _fits_any(saved, run_identity)
    return "" if convert == "auto" or fits else "; --checkpoint.convert auto converts it"


def _layout_is_alike(saved: Mapping[str, Any], run_identity: Mapping[str, Any]) -> bool:
    return all(saved.get(key) == run_identity.get(key) for key in LAYOUT)


def _newest_first(folder: Path, since: str = "") -> list[Path]:
    """Return the folders of checkpoints, newest first.

    Args:
        since: only those of the beginning of this name; empty takes all.

    Raises:
        NoneReadable: the folder cannot be read; it must not pass for an empty one.
    """

    try:
        folders = step_folders(folder)
    except OSError as error:
        raise NoneReadable(f"cannot read {folder}: {error.strerror}") from error
    own = [path for path in folders if not since or may_be_begun_by(path, since)]
    return newest_first(own)


def _check_latest(folder: Path, say: Callable[[str], None]) -> None:
    pointer = folder / LATEST
    try:
        if not pointer.is_file():
            return
        name = pointer.read_text(encoding="utf-8", errors="replace").strip()
        if not name or not (folder / name).is_dir():
            named = name or "nothing"
            say(f"passing over {pointer}: it names {named!r}, which is not there")
    except OSError as error:  # it is only a hint
        say(f"passing over {pointer}: {error.strerror}")


def _differences(prefix: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now.items():
        if isinstance(value, Mapping) and isinstance(saved.get(key), Mapping):
            yield from _differences(f"{prefix}{key}.", saved[key], value)
        elif saved.get(key) != value:
            yield f"{prefix}{key} was {saved.get(key)}, is {value}"

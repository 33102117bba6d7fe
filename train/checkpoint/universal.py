"""Converts checkpoints to the universal form: the state by parameter instead of by rank.

Either engine loads it at any world size and ZeRO stage. Between ZeRO stages 1 to 3 DeepSpeed's own
loader does, where the moments are Adam's, else `train.engines.by_name`. DeepSpeed's converter is
not used: it unpickles in full, writes every byte twice, cannot take tied weights at stages 1 and 2,
and serves only the stage that the checkpoint came from.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from alphadecay.inspect.sources.stored import StoredWeight
from train.checkpoint.byte_progress import ByteProgress
from train.checkpoint.find import another_layout
from train.checkpoint.manifest import (
    FORMAT,
    MANIFEST,
    STATE,
    Checkpoint,
    FileFacts,
    facts_of_files,
    read,
    why_incomplete,
)
from train.checkpoint.names import TEMPORARY, universal_name
from train.checkpoint.space import describe_failure, shortage
from train.checkpoint.stored_state import open_optimizer
from train.checkpoint.together import damage
from train.checkpoint.universal_files import write_common, write_parameter
from train.checkpoint.write import commit
from train.cluster.distributed import World
from train.engines.by_name import COMMON, PARAMETERS
from train.errors import UserError
from train.system.cpu_count import cpu_count
from train.system.lease import Lease, LeaseLost
from train.system.lease_files import remove_leases

ALONE = World(0, 0, 1, torch.device("cpu"))
_THREADS = min(4, cpu_count())  # each holds one parameter at a time
_ERRORS = (OSError, RuntimeError, ValueError, KeyError, UnpicklingError, UserError)

Say = Callable[[str], None]


def convert_if_needed(
    checkpoint: Checkpoint, run_identity: Mapping[str, Any], world: World, say: Say
) -> Checkpoint:
    """Return the checkpoint itself where it fits, else its universal form, made once. Collective.

    It fits where world size, ZeRO stage and engine are this run's.

    Raises:
        UserError: it cannot be converted.
    """
    if not another_layout(checkpoint, run_identity):
        return checkpoint
    final = checkpoint.path.with_name(universal_name(checkpoint.step))
    saved = checkpoint.manifest
    was = f"{checkpoint.path} was written by {_layout(saved)}; this run is {_layout(run_identity)}"
    if world.run_on_main(lambda: _is_form_of(final, checkpoint)) and not damage(final, world, say):
        say(f"{was}: taking {final}")
        return read(final)
    say(f"{was}: converting it to {final}")
    return convert(checkpoint, final, world, say)


def convert(
    source: Checkpoint,
    final: Path,
    world: World = ALONE,
    say: Say = lambda text: None,
    threads: int = _THREADS,
) -> Checkpoint:
    """Write the universal form of a verified checkpoint. Collective.

    Every rank converts its share of the parameters, for as long as it takes. It commits by rename;
    killed before that, it goes on with the parameters that are not done.

    Args:
        threads: parameters converted at a time by each rank.

    Raises:
        UserError: there is no room, or the checkpoint cannot be read. On every rank.
    """
    temporary = final.with_name(f"{TEMPORARY}{final.name}-{_digest(source)[:8]}")
    lease = Lease(temporary, f"the conversion of {source.path}", wait=True, say=say)
    if world.run_on_main(lambda: _begin(source, final, temporary, lease), patient=True):
        return read(final)
    failure = ""
    facts: FileFacts = {}
    try:
        facts = _convert_share(source, temporary, world, say, threads)
    except _ERRORS as error:
        failure = describe_failure(error, final.parent)
    world.wait_for_all()
    words = world.gather((failure, facts))
    world.run_on_main(lambda: _finish(source, temporary, final, words, lease))
    return read(final)


def deepspeed_reads(checkpoint: Checkpoint, run_identity: Mapping[str, Any]) -> bool:
    """Return whether it is DeepSpeed's own loader that takes a universal checkpoint into this run.

    It knows none of FSDP2's, has no such form at stage 0, and wants Adam's moments.
    """
    stages = [each.get("zero_stage") for each in (checkpoint.manifest, run_identity)]
    by_adam = any(name.endswith("/exp_avg.pt") for name in checkpoint.manifest["files"])
    return checkpoint.universal and all(stages) and by_adam


def _is_form_of(final: Path, checkpoint: Checkpoint) -> bool:
    """Return whether there is a complete universal form of just this checkpoint."""
    if why_incomplete(final, hashed=False):
        return False
    made = read(final).manifest
    # those of earlier versions are for DeepSpeed's loader alone
    return made.get("source") == _digest(checkpoint) and f"{STATE}/{COMMON}" in made["files"]


def _begin(source: Checkpoint, final: Path, temporary: Path, lease: Lease) -> bool:
    """Make the folder, or find there what a killed conversion has done.

    Returns whether nothing is left to do, for another process has converted it meanwhile.
    """
    if source.universal:
        raise UserError(f"{source.path} is universal already")
    size = sum(facts["bytes"] for facts in source.manifest["files"].values())
    waited = False
    try:
        done = sum(path.stat().st_size for path in temporary.rglob("*.pt"))
        short = shortage(temporary.parent, max(0, size - done))
        if not short:
            waited = lease.take()
            (temporary / STATE / PARAMETERS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        short = describe_failure(error, temporary.parent)
    if short:
        raise UserError(f"cannot convert {source.path}: {short}")
    done_by_another = waited and _is_form_of(final, source)
    if done_by_another:
        lease.release()
        shutil.rmtree(temporary, ignore_errors=True)
    return done_by_another


def _convert_share(
    source: Checkpoint, temporary: Path, world: World, say: Say, threads: int
) -> FileFacts:
    """Convert this rank's parameters; return the facts of their files."""
    state = open_optimizer(source.path / STATE)
    zero = temporary / STATE / PARAMETERS
    mine = sorted(state.parameters)[world.rank :: world.size]
    total = sum(_bytes(weight) for name in mine for weight in state.parameters[name].values())
    progress = ByteProgress(f"converting {source.path}", total, say)

    def one(name: str) -> None:
        weights = state.parameters[name]
        if not (zero / name).is_dir():
            write_parameter(zero, name, weights, state.step)
        progress.add(sum(map(_bytes, weights.values())))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, mine))
    return facts_of_files(temporary, [path for name in mine for path in (zero / name).iterdir()])


def _finish(
    source: Checkpoint,
    temporary: Path,
    final: Path,
    words: list[tuple[str, FileFacts]],
    lease: Lease,
) -> None:
    """Write what the parameters share and commit, or remove all of it after a failure."""
    failures = [f"rank {rank}: {failure}" for rank, (failure, _) in enumerate(words) if failure]
    try:
        if failures:
            raise UserError(failures[0] if len(words) > 1 else words[0][0])
        files = write_common(source, temporary / STATE)
        facts = facts_of_files(temporary, files)
        for _, share in words:
            facts |= share
        commit(temporary, final, _manifest(source, facts), lease)
        remove_leases(final)
    except LeaseLost:  # the folder is another process's now
        raise
    except _ERRORS as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = f"{error}" if failures else describe_failure(error, final.parent)
        raise UserError(f"cannot convert {source.path}: {reason}") from error


def _manifest(source: Checkpoint, facts: FileFacts) -> dict[str, Any]:
    dropped = ("files", "format", "commit")
    kept = {key: value for key, value in source.manifest.items() if key not in dropped}
    return {
        "format": FORMAT,
        **kept,
        "universal": True,
        "source": _digest(source),
        "files": facts,
    }


def _bytes(weight: StoredWeight) -> int:
    return 4 * weight.shape.numel()


def _digest(checkpoint: Checkpoint) -> str:
    return hashlib.sha256((checkpoint.path / MANIFEST).read_bytes()).hexdigest()


def _layout(run_identity: Mapping[str, Any]) -> str:
    ranks = run_identity["world_size"]
    plural = "s" if ranks != 1 else ""
    stage = run_identity.get("zero_stage")
    return f"{ranks} rank{plural} with {'FSDP2' if stage is None else f'ZeRO-{stage}'}"

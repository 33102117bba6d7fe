"""Starts the held program, stops it at its place, and looks at what is left: checkpoints,
processes, hashes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from alphadecay.inspect.paths import DCP_METADATA
from tests.forked import wait_for_ranks
from tests.integration.program import Outcome, command, environment, fork_ranks
from tests.waiting import PATIENCE, until
from train.checkpoint import LATEST
from train.checkpoint.names import TEMPORARY
from train.engines.fsdp2_state import CLIENT_STATE
from train.loop.run_status import read_state

HELD = str(Path(__file__).with_name("held.py"))


def held(
    cwd: Path,
    launcher: str,
    *arguments: str,
    at: str = "",
    send: int = 0,
    options: tuple[str, ...] = (),
    nan: int = 0,
) -> Outcome:
    """Run the program by a launcher to its end.

    Held `at` a place ("phase:call") it gets the signal: SIGKILL goes to all its processes, any
    other to the launcher alone. Returns when its last process is gone.
    """
    mark = uuid.uuid4().hex
    notes, more = _notes(cwd, at, nan)
    log = notes / f"{mark}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command(launcher, *arguments, program=HELD, options=options),
            cwd=cwd,
            env=environment(**more, HELD_MARK=mark),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if at:
                _until_held(notes, log, lambda: process.poll() is not None)
                for target in marked(mark) if send == signal.SIGKILL else [process]:
                    target.send_signal(send)
            process.wait(PATIENCE)
            until(lambda: not marked(mark), log.read_text)
        finally:
            for stray in marked(mark):
                stray.kill()
    return Outcome(process.returncode, log.read_text())


def held_ranks(
    cwd: Path,
    ranks: int,
    *arguments: str,
    at: str = "",
    send: int = 0,
    nan: int = 0,
    ruin: int = 0,
) -> Outcome:
    """Do the same with forked ranks and no launcher: every rank gets the signal.

    Args:
        ruin: the step that ruins the weights.
    """
    notes, more = _notes(cwd, at, nan)
    if ruin:
        more["HELD_RUIN"] = str(ruin)
    log = notes / f"{uuid.uuid4().hex}.log"
    log.touch()
    processes = fork_ranks(ranks, cwd, log, HELD, *arguments, **more)
    try:
        if at:
            _until_held(notes, log, lambda: any(p.exitcode is not None for p in processes))
            for process in processes:
                os.kill(process.pid or 0, send)
        code = wait_for_ranks(processes, PATIENCE)
        until(lambda: not _of_sessions(processes), log.read_text)
    finally:
        for stray in _of_sessions(processes):
            os.kill(stray, signal.SIGKILL)
    return Outcome(code, log.read_text())


def _notes(cwd: Path, at: str, nan: int) -> tuple[Path, dict[str, str]]:
    """Return the folder that the held program writes to, and what it is told by its environment."""
    notes = cwd / "held"
    notes.mkdir(exist_ok=True)
    (notes / "reached").unlink(missing_ok=True)
    more = {"HELD_IN": str(notes)}
    if at:
        more["HELD_AT"] = at
    if nan:
        more["HELD_NAN"] = str(nan)
    return notes, more


def _until_held(notes: Path, log: Path, over: Callable[[], bool]) -> None:
    reached = notes / "reached"
    until(lambda: reached.exists() or over(), log.read_text)
    assert reached.exists(), log.read_text()


def _of_sessions(leaders: Sequence[BaseProcess]) -> list[int]:
    """Return every living process of the sessions that forked ranks lead."""
    wanted = {leader.pid for leader in leaders}
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and os.getsid(process.pid) in wanted:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def marked(mark: str) -> list[psutil.Process]:
    """Return every living process that was started with this mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get("HELD_MARK") == mark
                and process.pid != os.getpid()
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def checkpoints(folder: Path, killed: bool = False) -> list[int]:
    """The steps of its checkpoints; nothing but them and the pointer may lie there.

    Args:
        killed: what was being written may lie there, too.
    """
    names = {path.name for path in (folder / "checkpoints").glob("*")} - {LATEST}
    if killed:
        names = {name for name in names if not name.startswith(TEMPORARY)}
    return sorted(int(name.removeprefix("step-")) for name in names)


def expect_stop(
    folder: Path, step: int, reason: str, outcome: Outcome, at_start: bool = False
) -> None:
    """It says that it was stopped there, and goes on from there.

    Args:
        at_start: before it took a step of its own.
    """
    state = read_state(folder)
    assert (state["state"], state["step"], state["reason"]) == ("stopped", step, reason), (
        state,
        outcome.output,
    )
    assert state["checkpoint"] and state["checkpoint"].endswith(f"step-{step:08d}"), outcome.output
    said = f"stopped before the first step ({reason})" if at_start else f"stopped at step {step} of"
    assert said in outcome.output, outcome.output


def batches(cwd: Path, rank: int) -> list[tuple[int, str]]:
    """The batches this rank read, in order."""
    return [
        (int(k), digest)
        for k, digest in (
            line.split() for line in (cwd / "held" / f"batches-{rank}.txt").read_text().splitlines()
        )
    ]


def fingerprint(checkpoint: Path) -> dict[str, str]:
    """Hashes of all that decides how a run goes on: weights, moments, decays and random states, of
    every rank.
    """
    found = {}
    state = checkpoint / "state"
    if (state / DCP_METADATA).exists():
        found["sharded"] = hash_of(_sharded(state))
    for path in sorted(state.iterdir()):
        if path.name == DCP_METADATA or path.suffix == ".distcp":
            continue
        content = torch.load(path, map_location="cpu", weights_only=False)
        if path.name.endswith("optim_states.pt"):
            content = content["optimizer_state_dict"]
        elif path.name.endswith("model_states.pt") or path.name == CLIENT_STATE:
            kept = ("module", "optimizer", "alphadecay", "step", "progress")
            content = {key: content[key] for key in kept if key in content}
        found[path.name] = hash_of(content)
    assert any("own_rank" in name for name in found)
    return found


def _sharded(state: Path) -> dict[str, Any]:
    """Every tensor that torch.distributed.checkpoint wrote, whole."""
    content: dict[str, Any] = {}
    planner = _EmptyStateDictLoadPlanner()
    _load_state_dict(content, FileSystemReader(state), planner=planner, no_dist=True)
    assert {name.partition(".")[0] for name in content} == {
        "model",
        "exp_avg",
        "exp_avg_sq",
        "step",
    }
    return content


def hash_of(value: Any) -> str:
    """Return a hash of tensors and plain values, however they are nested."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if torch.is_tensor(value):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "__dict__"):
        _feed(digest, vars(value))
    else:
        digest.update(repr(value).encode())

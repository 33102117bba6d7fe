"""Starts the held program, stops it at its place, and looks at what is left: checkpoints,
processes, hashes.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.integration.program import Outcome, command, environment
from train.checkpoint import LATEST
from train.loop.run_status import read_state

HELD = str(Path(__file__).with_name("held.py"))
GUARD = 900  # seconds: a hang is a failure, a slow machine is not


def held(
    cwd: Path,
    launcher: str,
    *arguments: str,
    at: str = "",
    send: int = 0,
    options: tuple[str, ...] = (),
    nan: int = 0,
) -> Outcome:
    """Runs the program to its end; held `at` a place ("phase:call") it gets the signal there.

    Returns when its last process is gone.

    SIGKILL goes to all its processes, any other signal to the launcher alone.
    """
    mark = uuid.uuid4().hex
    notes = cwd / "held"
    notes.mkdir(exist_ok=True)
    (notes / "reached").unlink(missing_ok=True)
    more = (
        {"HELD_IN": str(notes), "HELD_MARK": mark}
        | ({"HELD_AT": at} if at else {})
        | ({"HELD_NAN": str(nan)} if nan else {})
    )
    line = command(launcher, *arguments, program=HELD, options=options)
    log = notes / f"{mark}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            line,
            cwd=cwd,
            env=environment(**more),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if at:
                until(lambda: (notes / "reached").exists() or process.poll() is not None)
                assert (notes / "reached").exists(), log.read_text()
                for target in marked(mark) if send == signal.SIGKILL else [process]:
                    target.send_signal(send)
            process.wait(GUARD)
            until(lambda: not marked(mark))
        finally:
            left = marked(mark)
            for stray in left:
                stray.kill()
    assert not left, f"still there: {left}\n{log.read_text()}"
    return Outcome(process.returncode, log.read_text())


def until(condition: Any) -> None:
    """Waits for it."""
    for _ in range(GUARD * 10):
        if condition():
            return
        time.sleep(0.1)


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that was started with this mark in its environment, by whomever."""
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


def checkpoints(folder: Path) -> list[int]:
    """The steps of its checkpoints; nothing but them and the pointer may lie there."""
    names = {path.name for path in (folder / "checkpoints").glob("*")} - {LATEST}
    return sorted(int(name.removeprefix("step-")) for name in names)


def expect_stop(folder: Path, step: int, reason: str, outcome: Outcome) -> None:
    """It says that it was stopped there, and goes on from there."""
    state = read_state(folder)
    assert (state["state"], state["step"], state["reason"]) == ("stopped", step, reason), (
        state,
        outcome.output,
    )
    assert state["checkpoint"] and state["checkpoint"].endswith(f"step-{step:08d}"), outcome.output
    assert f"stopped at step {step} of" in outcome.output, outcome.output


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
    for path in sorted((checkpoint / "state").iterdir()):
        content = torch.load(path, map_location="cpu", weights_only=False)
        if path.name.endswith("optim_states.pt"):
            content = content["optimizer_state_dict"]
        elif path.name.endswith("model_states.pt"):
            content = {
                key: content[key]
                for key in ("module", "optimizer", "alphadecay", "step", "tokens", "val_perplexity")
            }
        found[path.name] = _hash(content)
    assert any("own_rank" in name for name in found)
    return found


def _hash(value: Any) -> str:
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

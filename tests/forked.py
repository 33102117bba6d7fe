"""Processes forked from a server that has torch, DeepSpeed and transformers imported.

A start takes a tenth of a second instead of the imports' eight, and a fork leaves nothing behind
for the next: process groups, DeepSpeed's globals, hooks, seeds, environment and working directory
die with it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing as mp
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from tests.waiting import PATIENCE, until

# Seconds that the other ranks have to end once one has failed; a launcher gives them as many.
GRACE = 5.0


def fork(function: Callable[..., Any], *args: Any) -> BaseProcess:
    """Start `function(*args)` in a process of its own; the function must be importable."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    process = context.Process(target=function, args=args)
    process.start()
    return process


def fork_program(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path
) -> BaseProcess:
    """Start a Python program as `python *command` would, its output appended to `log`.

    Args:
        command: a script or `-m` and a module, then its arguments.
        environment: all of the program's environment variables.
    """
    return fork(_run_program, list(command), str(cwd), dict(environment), str(log))


def wait_for_ranks(processes: Sequence[BaseProcess], seconds: float = PATIENCE) -> int:
    """Wait for all; return the first exit code that is not 0, or 0.

    Once one has failed the others get a few seconds and are ended, as a launcher does it.

    Raises:
        AssertionError: they have not ended in time; they are killed.
    """
    try:
        until(lambda: _failed(processes) or _ended(processes), "the end of the ranks", seconds)
        code = _failed(processes)
        if code:
            _wait_or_kill(processes, GRACE)
        return code
    finally:
        _wait_or_kill(processes, 0.0)


def _failed(processes: Sequence[BaseProcess]) -> int:
    return next((process.exitcode for process in processes if process.exitcode), 0)


def _ended(processes: Sequence[BaseProcess]) -> bool:
    return all(process.exitcode is not None for process in processes)


def _wait_or_kill(processes: Sequence[BaseProcess], seconds: float) -> None:
    try:
        until(lambda: _ended(processes), "", seconds)
    except AssertionError:
        for process in processes:
            process.kill()
    for process in processes:
        process.join()


def _run_program(command: list[str], cwd: str, environment: dict[str, str], log: str) -> NoReturn:
    _become(cwd, environment, log)
    code = 0
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            sys.path.insert(0, cwd)
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).resolve().parent))
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as exit_:
        code = _exit_code(exit_)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(exit_: SystemExit) -> int:
    if isinstance(exit_.code, str):
        print(exit_.code, file=sys.stderr)
        return 1
    return exit_.code or 0


def _become(cwd: str, environment: dict[str, str], log: str) -> None:
    """Give this process a session, a folder, variables and streams, as a shell would."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    faulthandler.enable(file=2)

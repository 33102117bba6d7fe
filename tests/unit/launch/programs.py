"""The programs on the guide's command lines, and the options each takes: of ours as their parsers
print them, of others by a list.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from functools import cache, partial

from tests.conftest import ROOT
from train.commands import COMMANDS, run_command
from train.config.key_registry import SPELLED_OUT

PROGRAM = "train/pretrain.py"
LIBRARY = "alphadecay"  # the library's command
SCRIPTS = ("launch/torchrun.sh", "launch/deepspeed.sh")
# `python -m train NAME`, written "train:NAME", as one word.
MODULES = tuple(f"train:{name}" for name in COMMANDS)
# Programs that need not be here: only the options that the guide names.
FOREIGN_OPTIONS = {
    "docker": {
        "rm",
        "read-only",
        "tmpfs",
        "shm-size",
        "user",
        "volume",
        "env",
        "gpus",
        "file",
        "time",
        "format",
        "build-arg",
    },
    "srun": {"jobid", "overlap", "ntasks-per-node"},
    "salloc": {"nodes", "ntasks-per-node", "gpus-per-node"},
    "sbatch": {"array", "dependency", "signal", "requeue", "time"},
    "scancel": {"batch", "signal"},
    "py-spy": {"pid"},
    "torchfrtrace": {"prefix"},
}
# How a program is written -> what it is.
_WRITTEN = {
    name: name
    for name in (PROGRAM, LIBRARY, *SCRIPTS, *MODULES, *FOREIGN_OPTIONS, "torchrun", "deepspeed")
}
_WRITTEN |= {"alphadecay:cpu": PROGRAM, "alphadecay:cuda": PROGRAM}


def program_named(word: str, before: str) -> str:
    """The program that a word of a command line starts; empty for none.

    A job script's arguments are the program's.

    Args:
        before: the program that the words before it belong to.
    """
    return PROGRAM if word.endswith(".sbatch") and before == "sbatch" else _WRITTEN.get(word, "")


def options_of(program: str) -> set[str]:
    """Without their dashes; of an option that stands alone, those of all programs."""
    if not program:
        return {option for name in {*_WRITTEN.values()} for option in options_of(name)}
    if program in FOREIGN_OPTIONS:
        return FOREIGN_OPTIONS[program]
    return (
        set(re.findall(r"--([a-zA-Z][\w.-]*)", _help(program)))
        | {"help"}
        | (set(SPELLED_OUT) if program == PROGRAM else set())
        | (options_of(PROGRAM) if program in SCRIPTS else set())
    )


@cache
def _help(program: str) -> str:
    if program in SCRIPTS:
        return subprocess.run(
            ["bash", str(ROOT / program), "--help"],
            text=True,
            capture_output=True,
            timeout=120,
            check=True,
        ).stdout
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        # it takes both
        return str(get_args_parser().format_help()).replace("-", "_").replace("__", "--")
    if program == "deepspeed":
        from deepspeed.launcher import runner

        return _printed(lambda: runner.parse_args(["--help"]))
    if program == LIBRARY:
        from alphadecay import cli

        lines = ([], *([name] for name in cli.COMMANDS))
        return "".join(_printed(partial(cli.main, [*line, "--help"])) for line in lines)
    if program == PROGRAM:
        from train.config.command_line import load_command

        return _printed(lambda: load_command(["--help"]))
    name = program.removeprefix("train:")
    if name == "preflight":
        from train.cluster.preflight import orchestrate  # its command ends the process

        return _printed(lambda: orchestrate.main(["--help"]))
    return _printed(lambda: run_command(name, ["--help"]))


def _printed(action: object) -> str:
    into = io.StringIO()
    with (
        contextlib.redirect_stdout(into),
        contextlib.redirect_stderr(into),
        contextlib.suppress(SystemExit),
    ):
        action()  # type: ignore[operator]
    return into.getvalue()

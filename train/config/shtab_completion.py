"""The command `python -m train completion bash|zsh`: a script that completes the keys of a run."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Sequence
from typing import Any

import shtab

from train.config.arguments import SHORT
from train.config.key_docs import key_docs
from train.config.key_registry import known_keys
from train.errors import as_command

HELP = """Print a script that completes the keys of train/pretrain.py and their choices, behind
python, torchrun and deepspeed too. Load it once per shell, or in its start file:
eval "$(python -m train completion bash)"."""
_PROGRAM = "pretrain.py"
_FOLDERS = ("output_dir", "data.directory", "images.train", "images.validation")
_FILES = ("data.files", "data.validation_files", "data.tokenizer", "deepspeed.config", "resume")
# Behind a launcher, the line is completed as if it began at the program.
_LAUNCHED = {
    "bash": """
_alphadecay_launched() {
  local at
  for ((at = 1; at < COMP_CWORD; at++)); do
    if [[ ${COMP_WORDS[at]} == *pretrain.py ]]; then
      COMP_WORDS=("${COMP_WORDS[@]:at}")
      ((COMP_CWORD -= at))
      _shtab_pretrain_py
      return
    fi
  done
}
complete -o bashdefault -o default -F _alphadecay_launched python python3 torchrun deepspeed
""",
    "zsh": """
_alphadecay_launched() {
  local at=${words[(i)*pretrain.py]}
  if (( at < CURRENT )); then
    words=("${(@)words[at,-1]}")
    (( CURRENT -= at - 1 ))
    _shtab_pretrain_py
  else
    _files
  fi
}
compdef _alphadecay_launched python python3 torchrun deepspeed
""",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m train completion", description=HELP)
    parser.add_argument("shell", choices=tuple(_LAUNCHED))
    options = parser.parse_args(arguments)
    return as_command(lambda: print(completion_script(options.shell)))


def completion_script(shell: str) -> str:
    """Return the script for a shell."""
    script: str = shtab.complete(_keys(), shell)
    return script + _LAUNCHED[shell]


def _keys() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM)
    config = parser.add_argument("--config", help="a recipe")
    config.complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("--dry-run", action="store_true", help="say what the run would be")
    parser.add_argument("--world-size", help="ranks of the dry run")
    parser.add_argument("--device", help="of each rank of the dry run, such as h100-80gb")
    for short, key in SHORT.items():
        parser.add_argument(f"--{short}", help=f"short for --{key}")
    for key, kind in known_keys().items():
        # one sentence: the shell shows it on one line
        summary = key_docs()[key].partition(";")[0].partition(". ")[0].replace("%", "%%")
        option = parser.add_argument(f"--{key}", choices=_choices(kind), help=summary)
        if key in _FOLDERS:
            option.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif key in _FILES:
            option.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _choices(kind: Any) -> list[str] | None:
    if kind is bool:
        return ["true", "false"]
    if typing.get_origin(kind) is typing.Literal:
        return [str(choice) for choice in typing.get_args(kind) if choice]
    return None

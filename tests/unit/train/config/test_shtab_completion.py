"""The completion script completes keys and choices, behind launchers too."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("shtab", reason="completion scripts are shtab's")

from train.config.key_registry import known_keys
from train.config.shtab_completion import completion_script

# Prints what bash would offer for the last word.
COMPLETE = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_alphadecay_launched
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> list[str]:
    script = completion_script("bash") + COMPLETE
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], text=True, capture_output=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_keys_and_choices_in_bash():
    offers = offered("torchrun", "--standalone", "CLONE/train/pretrain.py", "--optim.")
    assert offers == [f"--{key}" for key in known_keys() if key.startswith("optim.")]
    start = ("python", "train/pretrain.py", "--config", "x.yaml")
    assert offered(*start, "--decay.method", "ada") == ["adadecay", "adadecay_parameters"]
    assert offered(*start, "--log.wandb", "") == ["true", "false"]
    assert offered("python", "other.py", "--opt") == []


def test_zsh_has_every_key():
    script = completion_script("zsh")
    assert all(f"--{key}[" in script for key in known_keys())
    assert "compdef _alphadecay_launched python python3 torchrun deepspeed" in script

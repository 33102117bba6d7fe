"""Whatever README.md and launch/README.md name is there: files, modules, keys, options, make targets."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest

from tests.conftest import ROOT
from train.cli import known_keys

PAGES = ("README.md", "launch/README.md", "CONTRIBUTING.md")
FOLDERS = "alphadecay|train|ds_configs|launch|docker|tests"
# Stand for something of the reader's.
PLACEHOLDERS = {"train/recipes/NAME.yaml"}
# Options of the program itself that are no keys.
PROGRAM = {"config", "dry-run", "world-size", "help"}


def code(page: str) -> str:
    """What a page writes as code: blocks, and words in backticks."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", rest)])


def missing_paths(text: str) -> Iterator[str]:
    for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*", text):
        path = path.rstrip(".")
        if path not in PLACEHOLDERS and not list(ROOT.glob(path.rstrip("/"))):
            yield path


def missing_keys(text: str) -> Iterator[str]:
    keys = set(known_keys())
    sections = {key.split(".")[0] for key in keys if "." in key}
    for dashes, section, leaf in re.findall(r"(?<![\w/.-])(--)?([a-z]+)\.([a-z]\w*)(?![\w./(])", text):
        ours = section in sections and leaf not in ("py", "md", "json", "yaml", "sh")
        variable = section == "decay" and not dashes  # the library's pages call the controller so
        if ours and not variable and f"{section}.{leaf}" not in keys:
            yield f"{section}.{leaf}"


def missing_modules(text: str) -> Iterator[str]:
    for module in re.findall(r"-m (train[\w.]*|alphadecay[\w.]*)", text):
        if importlib.util.find_spec(module) is None:
            yield module


def missing_targets(text: str) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    yield from (target for target in re.findall(r"(?<!\w)make ([a-z]+)", text) if target not in targets)


@cache
def options(script: str) -> set[str]:
    """What a script's --help names."""
    done = subprocess.run(["bash", str(ROOT / script), "--help"], text=True, capture_output=True, timeout=120, check=True)
    return set(re.findall(r"--([\w-]+)", done.stdout))


def missing_options(text: str) -> Iterator[str]:
    """Options on the lines that start a script; those with a dot are keys."""
    for line in text.splitlines():
        command = re.search(r"(?:^|[\s(])(launch/[\w/]+\.sh)(.*)", line.split(" #")[0])
        for option in re.findall(r"--([a-z][\w.-]*)", command[2]) if command else []:
            if "." not in option and option not in options(command[1]) | PROGRAM | set(known_keys()):  # type: ignore[index]
                yield f"{command[1]} --{option}"  # type: ignore[index]


CHECKS = (missing_paths, missing_keys, missing_modules, missing_targets, missing_options)


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_a_page_names_is_there(page: str) -> None:
    text = code(page)
    assert len(text) > 200
    assert [f"{check.__name__}: {name}" for check in CHECKS for name in check(text)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see train/nothing.py", ["train/nothing.py"]),
        ("ds_configs/zero*.json and launch/", []),
        ("--run.stepz 3", ["run.stepz"]),
        ("set deepspeed.timeout_hours; ds_configs/zero0.json, run.steps and model.layers.0.self_attn", ["deepspeed.timeout_hours"]),
        ("python -m train.nothing", ["train.nothing"]),
        ("make coffee", ["coffee"]),
        ("launch/torchrun.sh --nodes 2 --nodez 2 --run.seed 1 --output_dir x  # --what", ["launch/torchrun.sh --nodez"]),
    ],
)
def test_the_checks_see_what_is_not_there(text: str, found: list[str]) -> None:
    assert [name for check in CHECKS for name in check(text)] == found

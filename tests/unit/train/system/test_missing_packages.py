"""A package that is not installed is told in one line, with the command that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT
from train.errors import UserError
from train.system.missing_packages import EXTRAS, explained

# Packages that are imported under another name than they are installed by.
IMPORTED_AS = {
    "PyYAML": "yaml",
    "protobuf": "google.protobuf",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def imports_of(requirements: list[str]) -> set[str]:
    names = [re.split(r"[>=<\s;]", requirement)[0] for requirement in requirements]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def test_every_package_of_the_program_is_known():
    extras = PROJECT["optional-dependencies"]
    wanted = dict.fromkeys(imports_of(PROJECT["dependencies"] + extras["train"]), "train")
    for extra in ("liger", "wandb", "tensorboard", "zeroshot", "glue"):
        wanted |= dict.fromkeys(imports_of(extras[extra]), extra)
    assert wanted == {name: extra for name, extra in EXTRAS.items() if name != "google"}


def test_only_our_packages_are_explained():
    told = explained(ModuleNotFoundError("No module named 'wandb'", name="wandb"))
    assert isinstance(told, UserError)
    assert str(told) == (
        f"the package wandb is not installed for {sys.executable}; run: {sys.executable} -m pip "
        f"install -e '{ROOT}[wandb]'"
    )
    for name in ("torch.missing", "train.missing", "elsewhere", None):
        error = ModuleNotFoundError("no", name=name)
        assert explained(error) is error


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ("psutil", ["train/pretrain.py", "--config", "quickstart"]),
        ("jsonargparse", ["train/pretrain.py", "--help"]),
        ("torch", ["train/pretrain.py", "--config", "quickstart", "--dry-run"]),
        ("yaml", ["train", "prepare", "--config", "quickstart"]),
        ("sentencepiece", ["train", "prepare", "--config", "quickstart"]),
        ("torch", ["train", "dry-run", "--config", "quickstart"]),
        ("shtab", ["train", "completion", "bash"]),
        ("docstring_parser", ["train", "recipe"]),
    ],
)
def test_the_program_without_a_package(tmp_path, package, program):
    code = (
        f"import runpy, sys; sys.modules[{package!r}] = None; "
        f"sys.argv = {[str(ROOT / program[0]), *program[1:]]!r}; "
        "sys.path.insert(0, ''); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
    assert done.stderr.splitlines() == [
        f"error: the package {package} is not installed for {sys.executable}; run: "
        f"{sys.executable} -m pip install -e '{ROOT}[train]'"
    ]


def test_an_older_python_is_told_what_is_needed(tmp_path):
    old = "import sys; sys.version_info = (3, 10, 1)"
    code = f"{old}; sys.path.insert(0, {str(ROOT)!r}); import train"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the program needs Python 3.11 or newer; ")
    assert len(done.stderr.splitlines()) == 1

"""Every shell script: clean for shellcheck, and it says what it takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCED = {"launch/slurm/common.sh"}


def scripts() -> list[str]:
    """Files of the project that bash runs, by their first line."""
    found = [
        path
        for folder in ("launch", "docker", "tests", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]
    return sorted(
        str(path.relative_to(ROOT))
        for path in found
        if path.suffix not in (".py", ".pyc") and _is_shell(path)
    )


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and b"sh" in first.split(b"/")[-1]


def test_the_scripts_are_found() -> None:
    assert {
        "launch/torchrun.sh",
        "launch/slurm/common.sh",
        "launch/slurm/torchrun.sbatch",
        "tests/cluster/slurm.sh",
    } <= set(scripts())


@pytest.mark.parametrize("script", scripts())
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which(
        "shellcheck"
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    # -x: follows what is sourced, from the project's folder.
    done = subprocess.run(
        [shellcheck, "-x", "-P", str(ROOT), script],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "script",
    [
        script
        for script in scripts()
        if script.startswith(("launch/", "tests/")) and script not in SOURCED
    ],
)
def test_help_names_the_script_and_its_options_and_starts_nothing(
    script: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [str(ROOT / script), "--help"], cwd=tmp_path, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert Path(script).name in done.stdout and len(done.stdout.splitlines()) >= 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["preflight", "interface", "where", "state"])
def test_commands_that_scripts_call_say_what_they_take(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "train"), name, "--help"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and f"train {name}" in done.stdout + done.stderr

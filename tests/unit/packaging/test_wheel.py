"""The wheel and the sdist hold the library and its command, and nothing of the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import alphadecay
from tests.conftest import ROOT
from tests.unit.packaging.building import build_sdist, build_wheel

TIMEOUT = 300  # seconds for a build; it takes about five


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone holds, so that no build folder is left in ours."""
    copy = tmp_path_factory.mktemp("packaging") / "project"
    skipped = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, copy, ignore=skipped)
    return copy


@pytest.fixture(scope="module")
def wheel(project: Path) -> Path:
    return build_wheel(project, project.parent / "wheel", TIMEOUT)


@pytest.fixture(scope="module")
def sdist(project: Path) -> Path:
    return build_sdist(project, project.parent / "sdist", TIMEOUT)


def test_the_wheel_holds_every_file_of_the_library_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for kind in ("*.py", "py.typed", "*.css", "*.js", "*.j2")
        for path in (ROOT / "alphadecay").rglob(kind)
    }
    assert held == ours


def test_its_one_command_is_alphadecay(wheel: Path) -> None:
    [entry] = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("_points.txt")]
    lines = zipfile.ZipFile(wheel).read(entry).decode().split("\n")
    assert [line for line in lines if "=" in line] == ["alphadecay = alphadecay.cli:main"]


def test_its_version_is_the_librarys(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == alphadecay.__version__


def test_the_unpacked_wheel_runs_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = "import alphadecay, alphadecay.cli; print(alphadecay.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert Path(told.stdout.strip()) == site / "alphadecay" / "__init__.py"


def test_the_sdist_holds_what_the_wheel_is_made_of(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    tops = {name.split("/")[0] for name in held}
    assert {"alphadecay", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff"} <= tops
    assert not tops & {"train", "tests", "ds_configs", "launch", "docker"}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "alphadecay").rglob("*.py")} <= held

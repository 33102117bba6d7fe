"""Builds the project's distributions by its build backend, without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def build_wheel(project: Path, into: Path, timeout: float) -> Path:
    """Return the wheel of a project's folder."""
    return _build("build_wheel", project, into, timeout)


def build_sdist(project: Path, into: Path, timeout: float) -> Path:
    """Return the source distribution of a project's folder."""
    return _build("build_sdist", project, into, timeout)


def _build(hook: str, project: Path, into: Path, timeout: float) -> Path:
    """Call a hook of PEP 517 in the project's folder, and return the file it made."""
    into.mkdir()
    program = f"from setuptools.build_meta import {hook}; {hook}({str(into)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        text=True,
        capture_output=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = into.iterdir()
    return file

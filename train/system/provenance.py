"""Tells which version of the program this is: the commit of its checkout, a hash of its files."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FILES = ("alphadecay/**/*.py", "train/**/*.py", "train/recipes/*.yaml", "ds_configs/*.json")


@cache
def own_provenance() -> dict[str, str | None]:
    """Return `commit` and `sources` of this program, as they were when first asked for.

    The files may change under a run that takes days.
    """
    return {"commit": commit_of(ROOT) or None, "sources": source_hash(ROOT)}


def source_hash(root: Path) -> str:
    """Return a hash of the program's files below `root`."""
    digest = hashlib.sha256()
    for pattern in _FILES:
        for path in sorted(root.glob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]


def commit_of(root: Path) -> str:
    """Return the commit of the checkout that `root` is the top of, or empty where it is none.

    It ends in "+" where tracked files are changed.
    """

    def git(*arguments: str) -> str:
        # Whoever owns the checkout: a job may run as another user than the one who cloned it.
        command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed program may lie within somebody else's checkout, in a virtual environment.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return ""
        commit = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return f"{commit}+" if changed else commit
    except (OSError, subprocess.CalledProcessError):
        return ""

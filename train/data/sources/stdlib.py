"""Reads the running Python's own library: one document for each of its source files."""

from __future__ import annotations

import os
import platform
import sysconfig
from pathlib import Path

from train.config import DataConfig
from train.data.sources.chunks import file_chunks
from train.data.sources.files import open_validation
from train.data.sources.source import Source
from train.errors import UserError

# Third-party packages are not the library; tests are repetitive and partly broken on purpose.
SKIPPED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)


def open_source(config: DataConfig) -> tuple[Source, Source | None]:
    """Return the library for training, and the validation files where there are any."""
    validation = open_validation(config)
    return stdlib_source(), validation


def stdlib_source() -> Source:
    """Return the running Python's library as a source.

    Its identity is the Python version and the files' names and sizes.

    Raises:
        UserError: this Python came without the sources of its library.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = stdlib_paths()
    if not paths:
        raise UserError(
            f"This Python has no library sources under {root}; set data.source to files and name "
            "text in data.files."
        )
    version = f"{platform.python_implementation()} {platform.python_version()}"
    # Times are left out on purpose: the same Python in another container is the same corpus.
    sizes = [[path.relative_to(root).as_posix(), path.stat().st_size] for path in paths]
    return Source(
        description=f"standard library of {version}",
        identity=["stdlib", version, sizes],
        chunks=lambda start: file_chunks(paths, 0, start),
        expected=len(paths),
    )


def stdlib_paths() -> list[Path]:
    """Return the library's source files, sorted.

    Tests, third-party packages and empty files are left out.
    """
    root = sysconfig.get_path("stdlib")
    paths = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    # Empty __init__.py files are normal here, not bad rows.
    return sorted(path for path in paths if path.stat().st_size > 0)

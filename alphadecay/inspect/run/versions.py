"""The versions that decide a run's result."""

from __future__ import annotations

import importlib.metadata
import platform

PACKAGES = ("torch", "deepspeed", "transformers", "alphadecay")


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that decide the result.

    One that is not installed is None.
    """
    installed: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = None
    return installed

"""summary.json: a run's figures with the versions that made them; and the names of what else a run
leaves in its folder.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.files import write_atomically
from train.telemetry.metrics import finite_or_none

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
HEATMAP = "heatmap.png"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
PACKAGES = ("torch", "deepspeed", "transformers", "alphadecay")


def write_summary(path: str | Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Write summary.json, versions added, in one move; return what was written."""
    complete = {**finite_or_none(summary), "versions": versions()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), json.dumps(complete, indent=2, allow_nan=False) + "\n")
    return complete


def read_summary(path: str | Path) -> dict[str, Any] | None:
    """A summary written before; None where there is none that can be read."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide the result; None for one that is not
    installed.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found

"""Reads and writes summary.json: a run's figures with the versions that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphadecay.inspect.run.metrics import finite_or_none
from alphadecay.inspect.run.versions import versions
from alphadecay.inspect.run_folder import read_object
from train.system.files import write_atomically


def write_summary(path: str | Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Write summary.json, versions added, in one move; return what was written."""
    complete = {**finite_or_none(summary), "versions": versions()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), json.dumps(complete, indent=2, allow_nan=False) + "\n")
    return complete


def read_summary(path: str | Path) -> dict[str, Any] | None:
    """Read a summary written before; None where there is none that can be read."""
    return read_object(Path(path)) or None

"""Puts a part of several measurements together: each size from the newest that has all of it.

Figures that a table compares with each other are of one measurement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.gpu.report import BESIDE_SPEED
from tests.gpu.tables import Figures, measured

_OF_SIZES = ("speed", *BESIDE_SPEED)  # what else is among them has no figures, as the corpus
_SIZE = re.compile(r"(\d+[mb])\b")  # a case's name begins with a model's size, or has none


def release(version: str) -> str:
    """Return a version without what tells a state of development apart."""
    return version.partition(".dev")[0]


def newest(results: Sequence[Figures], part: str) -> dict[str, Any] | None:
    """Return results with the cases of a part, of one device and release; None where there are
    none.

    Args:
        results: the newest first.
    """
    having = [one for one in results if _by_size(one, part)]
    if not having:
        return None
    peers = [one for one in having if _kind(one) == _kind(having[0])]
    parts: dict[str, dict[str, Any]] = {"speed": {}, part: {}}
    commits: dict[str, list[str]] = {}
    for size in dict.fromkeys(size for one in reversed(peers) for size in _by_size(one, part)):
        one = _source(peers, part, size)
        for name, cases in parts.items():
            cases |= _by_size(one, name).get(size, {})
        commits.setdefault(one["machine"]["commit"], []).append(size.upper())
    machine = {**having[0]["machine"], "commit": _told(commits)}
    return {**having[0], "machine": machine, "parts": parts}


def _source(peers: Sequence[Figures], part: str, size: str) -> Figures:
    """Return what has the most of a size, and of what a table compares it with; the newest such."""
    names = ("speed", part) if part in BESIDE_SPEED else (part,)
    having = [one for one in peers if size in _by_size(one, part)]
    return max(
        having, key=lambda one: sum(len(_by_size(one, name).get(size, {})) for name in names)
    )


def _by_size(results: Figures, part: str) -> dict[str, dict[str, Figures]]:
    """Return the measured cases of a part by the size of their model."""
    found: dict[str, dict[str, Figures]] = {}
    for name, case in measured(results["parts"].get(part, {})).items():
        size = _SIZE.match(name)
        if size is not None or part not in _OF_SIZES:
            found.setdefault(size[1] if size else "", {})[name] = case
    return found


def _kind(results: Figures) -> tuple[str, str]:
    machine = results["machine"]
    return str(machine["device"]), release(machine["version"])


def _told(commits: Mapping[str, Sequence[str]]) -> str:
    """Return the commit, or which sizes are of which."""
    if len(commits) == 1:
        return next(iter(commits))
    return "; ".join(f"{', '.join(sizes)} at {commit}" for commit, sizes in commits.items())
